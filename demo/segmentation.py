"""What is a pre-training worth to segmentation? DeepLab begins with a pre-trained network, and with random weights.

    python demo/segmentation.py --output_dir=out/segmentation

A network learns scenes of the demo world by their labels. Then two networks (DeepLab v3) learn other scenes by their
masks, in as many steps and in the same order: one that begins with the network, and one with random weights. Each
seed is another pre-training, and another order of the scenes with masks. Writes table.tsv, figure.png (mean IoU) and
masks.png (what both find in the same images, the truth below) into --output_dir; what is there already is not made
again. docs/transfer.md says what came out. Each network has one core, and as many train at a time as there are cores.
"""

from pathlib import Path
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_integer("segmentation_steps", 500, "Steps of segmentation, of 8 crops.", lower_bound=2)
script(
    __name__,
    __doc__,
    first="output_dir num_images voc_images seeds pretrain_steps segmentation_steps resnet_size",
    defaults={
        "output_dir": "out/segmentation",
        "resnet_size": 10,
        "num_images": 7500,
        "voc_images": 2000,
        "pretrain_steps": 1500,
    },
)

from demo import study, transfer_report
from demo.scripts import run_on_one_core

SETTINGS = ("num_images", "voc_images", "resnet_size", "pretrain_steps", "segmentation_steps")
CROP = 65
# The best of those that docs/transfer.md names.
RATES = {"pretrained": 0.06, "random": 0.06}


def main(argv):
    del argv
    began = time.perf_counter()
    out = Path(FLAGS.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    transfer_report.keep_settings(out / "settings.json", {name: FLAGS[name].value for name in SETTINGS})
    study.make_data(out, FLAGS.num_images, FLAGS.voc_images, "voc2012seg")
    study.compare(
        out,
        FLAGS.seeds,
        lambda seed: study.pretrain(out, seed, FLAGS.resnet_size, FLAGS.pretrain_steps),
        lambda *what: _segment(out, *what),
        ("mIoU", f"after {FLAGS.segmentation_steps:,} steps"),
    )
    masks = out / "world/voc/SegmentationClass"
    truth = [masks / f"{Path(line).stem}.png" for line in study.shown_images(out).read_text().splitlines()]
    study.write_sheet(out / "masks.png", [*(_drawn(out, kind) for kind in study.TITLES), truth])
    written = ", ".join(str(out / name) for name in ("table.tsv", "figure.png", "masks.png"))
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes; written: {written}")


def _segment(out, kind, seed, network):
    """Trains a network; returns its mean IoU after the last step, on the scenes of val."""
    beginning = dict(pretrain_ckpt=network) if kind == "pretrained" else dict(resnet_size=FLAGS.resnet_size)
    return study.fine_tuned(
        out / f"{kind}-{seed}",
        "mIoU",
        random_seed=seed,
        image_size=CROP,
        output_stride=8,
        batch_size=8,
        **beginning,
        **study.schedule(FLAGS.segmentation_steps, RATES[kind]),
    )


def _drawn(out, kind):
    """Returns the paths of the masks that the network of the first seed finds."""
    found = out / f"{kind}-1/masks"
    run_on_one_core(
        out / f"{kind}-1",
        "semantic_segmentation.py",
        images=study.shown_images(out),
        model_dir=out / f"{kind}-1",
        result=found,
    )
    return sorted(found.rglob("*.png"))


if __name__ == "__main__":
    run(main)
