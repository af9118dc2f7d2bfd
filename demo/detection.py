"""What is a pre-training worth to detection? A detector begins with a pre-trained network, and with random weights.

    python demo/detection.py --output_dir=out/detection

A network learns scenes of the demo world by their labels. Then two detectors (Faster R-CNN) learn other scenes by their
boxes, in as many steps and in the same order: one that begins with the network, and one with random weights. Each
seed is another pre-training, and another order of the scenes with boxes. Writes table.tsv, figure.png (mAP by VOC
2007's rules) and boxes.png (what both find in the same images) into --output_dir; what is there already is not made
again. docs/transfer.md says what came out. Each network has one core, and as many train at a time as there are cores.
"""

from pathlib import Path
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_integer("detection_steps", 500, "Steps of detection, of 4 images.", lower_bound=2)
script(
    __name__,
    __doc__,
    first="output_dir num_images voc_images seeds pretrain_steps detection_steps resnet_size",
    defaults={
        "output_dir": "out/detection",
        "resnet_size": 10,
        "num_images": 7500,
        "voc_images": 2000,
        "pretrain_steps": 1500,
    },
)

from demo import study, transfer_report
from demo.scripts import run_on_one_core

SETTINGS = ("num_images", "voc_images", "resnet_size", "pretrain_steps", "detection_steps")
SHORT_SIDE, ANCHORS = 128, "24,48,96"
# The best of those that docs/transfer.md names.
RATES = {"pretrained": 0.15, "random": 0.4}


def main(argv):
    del argv
    began = time.perf_counter()
    out = Path(FLAGS.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    transfer_report.keep_settings(out / "settings.json", {name: FLAGS[name].value for name in SETTINGS})
    study.make_data(out, FLAGS.num_images, FLAGS.voc_images, "voc2007")
    study.compare(
        out,
        FLAGS.seeds,
        lambda seed: study.pretrain(out, seed, FLAGS.resnet_size, FLAGS.pretrain_steps),
        lambda *what: _detect(out, *what),
        ("mAP", f"(VOC 2007) after {FLAGS.detection_steps:,} steps"),
    )
    study.write_sheet(out / "boxes.png", [_drawn(out, kind) for kind in study.TITLES])
    written = ", ".join(str(out / name) for name in ("table.tsv", "figure.png", "boxes.png"))
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes; written: {written}")


def _detect(out, kind, seed, network):
    """Trains a detector; returns its mAP after the last step, on the scenes of val."""
    beginning = dict(pretrain_ckpt=network) if kind == "pretrained" else dict(resnet_size=FLAGS.resnet_size)
    return study.fine_tuned(
        out / f"{kind}-{seed}",
        "mAP",
        random_seed=seed,
        image_size=SHORT_SIDE,
        anchor_sizes=ANCHORS,
        regions=64,
        proposals=100,
        batch_size=4,
        **beginning,
        **study.schedule(FLAGS.detection_steps, RATES[kind]),
    )


def _drawn(out, kind):
    """Returns the paths of images with what the detector of the first seed finds."""
    drawn = out / f"{kind}-1/drawn"
    run_on_one_core(
        out / f"{kind}-1",
        "object_detection.py",
        images=study.shown_images(out),
        model_dir=out / f"{kind}-1",
        result=out / f"{kind}-1/objects.json",
        threshold=0.5,
        draw=drawn,
    )
    return sorted(drawn.rglob("*.*"))


if __name__ == "__main__":
    run(main)
