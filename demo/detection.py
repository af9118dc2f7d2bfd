"""What is a pre-training worth to detection? A detector begins with a pre-trained network, and with random weights.

    python demo/detection.py --output_dir=out/detection

A network learns scenes of the demo world by their labels. Then two detectors (Faster R-CNN) learn other scenes by their
boxes, in as many steps and in the same order: one that begins with the network, and one with random weights. Each
seed is another pre-training, and another order of the scenes with boxes. Writes table.tsv, figure.png (mAP by VOC
2007's rules) and boxes.png (what both find in the same images) into --output_dir; what is there already is not made
again. docs/transfer.md says what came out. Each network has one core, and as many train at a time as there are cores.
"""

from concurrent.futures import ThreadPoolExecutor
import json
import os
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

from PIL import Image

from demo import transfer_report
from demo.scripts import run_on_one_core, run_script
from utils.files import atomic_write

SETTINGS = ("num_images", "voc_images", "resnet_size", "pretrain_steps", "detection_steps")
DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
TITLES = {"pretrained": "pre-trained", "random": "random weights"}
# Of the drawn scenes, and of what the networks see: crops of scenes, and whole ones with their short side enlarged.
SCENE_SIZE, INPUT_SIZE, SHORT_SIDE = 80, 64, 128
ANCHORS = "24,48,96"
# The best of those that docs/transfer.md names.
RATES = {"pretrained": 0.15, "random": 0.4}
SHOWN = 6


def main(argv):
    del argv
    began = time.perf_counter()
    out = Path(FLAGS.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    transfer_report.keep_settings(out / "settings.json", {name: FLAGS[name].value for name in SETTINGS})
    _make_data(out)

    def study(seed):
        model = _pretrain(out, seed)
        found = {kind: _detect(out, kind, seed, model) for kind in TITLES}
        shown = ", ".join(f"{TITLES[kind]} {value:.4f}" for kind, value in found.items())
        print(f"{(time.perf_counter() - began) / 60:5.1f} min  seed {seed}: mAP {shown}", flush=True)
        return found

    # Where one fails, those that have not begun do not begin.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        results = list(pool.map(study, range(1, FLAGS.seeds + 1)))
    finally:
        pool.shutdown(cancel_futures=True)
    table = {title: {"mAP": [found[kind] for found in results]} for kind, title in TITLES.items()}
    transfer_report.write(out, table, f"mAP (VOC 2007) after {FLAGS.detection_steps:,} steps; dots: seeds")
    _draw(out)
    minutes = (time.perf_counter() - began) / 60
    print(
        f"{minutes:.1f} minutes; written: {', '.join(str(out / n) for n in ('table.tsv', 'figure.png', 'boxes.png'))}"
    )


def _make_data(out):
    world, log = out / "world", out / "log.txt"
    run_script(
        "demo/make_scenes.py",
        log,
        output_dir=world,
        num_images=FLAGS.num_images,
        voc_images=FLAGS.voc_images,
        image_size=SCENE_SIZE,
        class_images=0,
    )
    run_script(
        "data_processing/build_tfrecords.py",
        log,
        image_list=world / "train.txt",
        images=world,
        output_dir=out / "scenes/train",
        num_shards=4,
        dictionary=world / DICTIONARY,
    )
    run_script(
        "data_processing/build_classification.py", log, dataset=f"voc2007:{world / 'voc'}", output_dir=out / "boxes"
    )


def _schedule(steps, rate):
    """A twentieth of the steps for warming up, then half a cosine."""
    return dict(
        max_iter=steps,
        warmup=steps // 20,
        lr_warmup=rate / 8,
        lr_warmup_decay_step=max(1, steps // 80),
        lr_warmup_decay_factor=8**0.25,
        lr=rate,
        lr_schedule="cosine",
        data_format="NHWC",
        test_interval=0,
    )


def _pretrain(out, seed):
    """Returns the folder of a network that has learnt scenes by their labels."""
    folder = out / f"network-{seed}"
    if not (folder / f"model.ckpt-{FLAGS.pretrain_steps}.index").exists():
        run_on_one_core(
            folder,
            "train.py",
            data_dir=out / "scenes",
            model_dir=folder,
            log_dir=folder / "log",
            loss="sigmoid",
            resnet_size=FLAGS.resnet_size,
            random_seed=seed,
            image_size=INPUT_SIZE,
            batch_size=64,
            batch_norm_decay=0.95,
            crop_min_area=0.3,
            crop_min_covered=0.3,
            **_schedule(FLAGS.pretrain_steps, 0.03),
        )
    return folder


def _detect(out, kind, seed, model):
    """Trains a detector; returns its mAP after the last step, on the scenes of val."""
    folder = out / f"{kind}-{seed}"
    result = folder / "validation.json"
    if not result.exists():
        beginning = dict(pretrain_ckpt=model) if kind == "pretrained" else dict(resnet_size=FLAGS.resnet_size)
        run_on_one_core(
            folder,
            "finetune.py",
            data_dir=out / "boxes",
            model_dir=folder,
            log_dir=folder / "log",
            random_seed=seed,
            image_size=SHORT_SIDE,
            anchor_sizes=ANCHORS,
            regions=64,
            proposals=100,
            batch_size=4,
            batch_norm_decay=0.95,
            **beginning,
            **_schedule(FLAGS.detection_steps, RATES[kind]) | dict(test_interval=FLAGS.detection_steps),
        )
    [metrics] = json.loads(result.read_text())["metrics"].values()
    return metrics["mAP"]


def _draw(out):
    """Draws what the detectors of the first seed find in the same images, each in a row of its own."""
    images = out / "world/voc/JPEGImages"
    names = (out / "world/voc/ImageSets/Main/val.txt").read_text().split()[:SHOWN]
    (out / "shown.txt").write_text("".join(f"{(images / name).absolute()}.jpg\n" for name in names))
    rows = []
    for kind in TITLES:
        drawn = out / f"{kind}-1/drawn"
        run_on_one_core(
            out / f"{kind}-1",
            "object_detection.py",
            images=out / "shown.txt",
            model_dir=out / f"{kind}-1",
            result=out / f"{kind}-1/objects.json",
            threshold=0.5,
            draw=drawn,
        )
        rows.append([Image.open(path) for path in sorted(drawn.rglob("*.*"))])
    side = max(size for row in rows for image in row for size in image.size)
    sheet = Image.new("RGB", (side * SHOWN, side * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * side, y * side))
    with atomic_write(out / "boxes.png") as temp_path:
        sheet.resize((sheet.width * 2, sheet.height * 2)).save(temp_path, "PNG")


if __name__ == "__main__":
    run(main)
