"""What the studies of detection and of segmentation share: a world, networks that know it by labels, and their use."""

from concurrent.futures import ThreadPoolExecutor
import json
import os
import time

from PIL import Image

from demo import transfer_report
from demo.scripts import run_on_one_core, run_script
from utils.files import atomic_write

DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
# What a network begins with.
TITLES = {"pretrained": "pre-trained", "random": "random weights"}
# Of the drawn scenes, and of what the networks see in pre-training, which is crops of them.
SCENE_SIZE, INPUT_SIZE = 80, 64
SHOWN = 6


def make_data(out, num_images, voc_images, dataset):
    """Draws scenes, `num_images` with labels and `voc_images` in VOC's form, and makes records of both.

    Args:
      out: folder, of which world/, scenes/ and used/ are made.
      num_images, voc_images: how many; of the one a fifth, of the other a half is for validation.
      dataset: what of VOC's form to use, "voc2007" or "voc2012seg".
    """
    world, log = out / "world", out / "log.txt"
    run_script(
        "demo/make_scenes.py",
        log,
        output_dir=world,
        num_images=num_images,
        voc_images=voc_images,
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
        "data_processing/build_classification.py", log, dataset=f"{dataset}:{world / 'voc'}", output_dir=out / "used"
    )


def cosine(steps, rate, warmup):
    """Returns flags: so many steps of warming up, in four raises from an eighth of the rate, then half a cosine."""
    return dict(
        max_iter=steps,
        warmup=warmup,
        lr_warmup=rate / 8,
        lr_warmup_decay_step=max(1, warmup // 4),
        lr_warmup_decay_factor=8**0.25,
        lr=rate,
        lr_schedule="cosine",
        data_format="NHWC",
    )


def schedule(steps, rate):
    """Returns flags: a twentieth of the steps for warming up, and what else all networks here have in common."""
    return cosine(steps, rate, steps // 20) | dict(batch_norm_decay=0.95, test_interval=0)


def pretrain(out, seed, resnet_size, steps):
    """Returns the folder of a network that has learnt scenes by their labels; it is trained if it is not there."""
    folder = out / f"network-{seed}"
    if not (folder / f"model.ckpt-{steps}.index").exists():
        run_on_one_core(
            folder,
            "train.py",
            data_dir=out / "scenes",
            model_dir=folder,
            log_dir=folder / "log",
            loss="sigmoid",
            resnet_size=resnet_size,
            random_seed=seed,
            image_size=INPUT_SIZE,
            batch_size=64,
            crop_min_area=0.3,
            crop_min_covered=0.3,
            **schedule(steps, 0.03),
        )
    return folder


def fine_tuned(folder, metric, **flags):
    """Returns a metric, after the last step, of the network that finetune.py trains into `folder`, if it is not there.

    `flags` are those of finetune.py; its records are in used/ beside `folder`.
    """
    result = folder / "validation.json"
    if not result.exists():
        flags |= dict(data_dir=folder.parent / "used", model_dir=folder, log_dir=folder / "log")
        run_on_one_core(folder, "finetune.py", **flags | dict(test_interval=flags["max_iter"]))
    [metrics] = json.loads(result.read_text())["metrics"].values()
    return metrics[metric]


def compare(out, seeds, network_of, use, metric):
    """Uses a network of each seed, and random weights; writes table.tsv and figure.png, and prints how good both are.

    Args:
      out: folder.
      seeds: how many.
      network_of: function of a seed to the folder of a pre-trained network.
      use: function of a key of TITLES, the seed and that folder to a value of the metric.
      metric: its name and, for the figure, how it was measured.
    """
    began, (name, how) = time.perf_counter(), metric

    def study(seed):
        network = network_of(seed)
        found = {kind: use(kind, seed, network) for kind in TITLES}
        shown = ", ".join(f"{TITLES[kind]} {value:.4f}" for kind, value in found.items())
        print(f"{(time.perf_counter() - began) / 60:5.1f} min  seed {seed}: {name} {shown}", flush=True)
        return found

    # Where one fails, those that have not begun do not begin.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        results = list(pool.map(study, range(1, seeds + 1)))
    finally:
        pool.shutdown(cancel_futures=True)
    table = {title: {name: [found[kind] for found in results]} for kind, title in TITLES.items()}
    transfer_report.write(out, table, {f"{name} {how}; dots: seeds": [name]})


def shown_images(out):
    """Writes shown.txt, the list of the images that pictures are made of, and returns its path."""
    images = out / "world/voc/JPEGImages"
    names = (out / "world/voc/ImageSets/Main/val.txt").read_text().split()[:SHOWN]
    (out / "shown.txt").write_text("".join(f"{(images / name).absolute()}.jpg\n" for name in names))
    return out / "shown.txt"


def write_sheet(path, rows):
    """Writes images as a PNG, twice as large; `rows` are lists of paths of images."""
    rows = [[Image.open(image) for image in row] for row in rows]
    side = max(size for row in rows for image in row for size in image.size)
    sheet = Image.new("RGB", (side * SHOWN, side * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * side, y * side))
    with atomic_write(path) as temp_path:
        sheet.resize((sheet.width * 2, sheet.height * 2)).save(temp_path, "PNG")
