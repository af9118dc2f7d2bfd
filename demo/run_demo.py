"""The whole system once, in small: makes a world, builds records, trains, evaluates, and uses the network.

    python demo/run_demo.py            (or: make demo)

Runs the scripts as a user would, prints each command line, and writes report.html into --output_dir. What is there
already is not made again, so a second run takes up where the first one ended.
"""

import json
from pathlib import Path
import resource
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_integer("steps", 750, "Steps to train.", lower_bound=2)
script(
    __name__,
    __doc__,
    first="output_dir num_images steps resnet_size",
    defaults={"output_dir": "out/demo", "resnet_size": 18},
)

import numpy as np

from data_processing.lists import dictionary, image_list
from demo import baseline, report
from demo.scripts import run_script

IMAGE_SIZE = 60
INPUT_SIZE = 48
BATCH_SIZE = 64
CLASSIFIED = 12
DICTIONARY = "dictionary_and_semantic_hierarchy.txt"


def main(argv):
    del argv
    if FLAGS.num_images < 20:
        raise ValueError(f"--num_images={FLAGS.num_images}: the demo needs 20 at least")
    began = time.perf_counter()
    out = Path(FLAGS.output_dir)
    world, model = out / "world", out / "model"
    class_num = _make_data(world, out / "records")
    use = dict(data_format="NHWC", image_size=INPUT_SIZE, batch_size=100)
    rows = _train_and_use(out, use)
    transfer = _transfer(out, model, use)
    colours = baseline.evaluate(world, class_num)
    metrics = json.loads((out / "evaluation/metrics.json").read_text())["metrics"]
    summary = {
        "this network": metrics["macro_map"],
        "bag of colours": colours["macro_map"],
        "chance": metrics["chance_map"],
    }
    neighbours = report.nearest(np.load(out / "features.npz")["features"])
    seconds = time.perf_counter() - began
    report.write(out, world / DICTIONARY, report.Results(rows, summary, transfer, neighbours, seconds))
    print(f"\nmAP on {len(rows):,} validation images: {_as_text(summary)}")
    print(f"then for images of one thing, top-1: {_as_text(transfer)}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{seconds / 60:.1f} minutes, largest process {memory:.1f} GB. Now open {out / 'report.html'}")


def _make_data(world, records):
    """Draws the world and builds records of its scenes; returns the number of classes."""
    run_script(
        "demo/make_scenes.py",
        output_dir=world,
        num_images=FLAGS.num_images,
        image_size=IMAGE_SIZE,
        seed=1,
        class_images=max(4, FLAGS.num_images // 375),
        voc_images=FLAGS.num_images // 15,
    )
    for split in ("train", "val"):
        run_script(
            "data_processing/build_tfrecords.py",
            image_list=world / f"{split}.txt",
            images=world,
            output_dir=records / split,
            split=split,
            num_shards=4,
            dictionary=world / DICTIONARY,
        )
    return len(dictionary.read(world / DICTIONARY))


def _train_and_use(out, use):
    """Trains, evaluates, names the classes of a few images and extracts the features of all validation images.

    Returns the rows of the validation list. `use` holds the flags of the scripts that use the network.
    """
    world, model = out / "world", out / "model"
    labelled = dict(data_dir=out / "records", model_dir=model)
    run_script("train.py", **labelled, log_dir=out / "log", **_recipe(FLAGS.steps))
    run_script("evaluate.py", **labelled, result=out / "evaluation", **use)
    rows = list(image_list.read(world / "val.txt"))
    _write_list(out / "images.txt", world, rows)
    _write_list(out / "few_images.txt", world, rows[:CLASSIFIED])
    run_script(
        "image_classification.py",
        images=out / "few_images.txt",
        model_dir=model,
        threshold=0,
        top_k_pred=12,
        result=out / "predictions.json",
        **use,
    )
    run_script("extract_feature.py", images=out / "images.txt", pretrain_ckpt=model, result=out / "features.npz", **use)
    return rows


def _transfer(out, model, use):
    """Fine-tunes the network to folders of single things, and evaluates its features; returns accuracies by name."""
    folders, tuned, features = out / "world" / "classes", out / "finetuned", out / "class_features.npz"
    few = max(2, FLAGS.num_images // 750)
    steps = max(2, FLAGS.steps // 6)
    run_script(
        "finetune.py",
        dataset=f"folder:{folders}",
        train_per_class=few,
        data_dir=out / "class_records",
        pretrain_ckpt=model,
        model_dir=tuned,
        log_dir=out / "finetune_log",
        **_recipe(steps) | dict(lr=0.1, lr_schedule="cosine", warmup=0, test_interval=0),
        # The things of these images fill them: bolder crops, finetune.py's own, would leave too little.
        crop_min_area=0.7,
        crop_min_covered=0.7,
        val_sizes=INPUT_SIZE,
        val_crops="center",
    )
    run_script("extract_feature.py", images=folders, pretrain_ckpt=model, result=features, **use)
    run_script(
        "linear_probe.py",
        features=features,
        train_per_class=few,
        splits=1,
        probes="logistic",
        result=out / "probe.json",
    )
    [tested] = json.loads((tuned / "validation.json").read_text())["metrics"].values()
    probe = json.loads((out / "probe.json").read_text())
    return {
        "fine-tuned": tested["top_1"],
        "linear probe of the features": probe["results"][0]["splits"][0]["accuracy"],
        "chance": 1 / probe["classes"],
    }


def _as_text(values):
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _recipe(steps):
    """A small network from scratch: what the flags of a real run are, scaled down to minutes on two cores."""
    return dict(
        resnet_size=FLAGS.resnet_size,
        data_format="NHWC",
        image_size=INPUT_SIZE,
        batch_size=BATCH_SIZE,
        max_iter=steps,
        warmup=steps // 10,
        lr_warmup=0.001,
        lr_warmup_decay_step=max(1, steps // 40),
        lr_warmup_decay_factor=1.5,
        lr=0.006,
        lr_decay_step=steps * 7 // 10,
        lr_decay_factor=0.1,
        neg_select=0.3,
        # Colours and rotations are what the few steps have least time for; the scenes hold many of both already.
        rotated=0.1,
        color_jitter=0.2,
        # Statistics of a thousand steps, not of a hundred thousand.
        batch_norm_decay=0.9,
        snapshot=max(1, steps // 4),
        max_to_keep=2,
        test_interval=max(1, steps // 8),
        log_interval=max(1, steps // 24),
    )


def _write_list(path, world, rows):
    path.write_text("".join(f"{(world / row.path).absolute()}\n" for row in rows))


if __name__ == "__main__":
    run(main)
