"""What is a pre-training worth? Networks pre-trained in several ways, on the same scenes, are put to the same use.

    python demo/transfer_study.py --output_dir=out/transfer

Scenes of the demo world are learnt from with one label each, with all their labels and plain sigmoids, and with all
their labels and the paper's loss; a fourth network learns nothing. Each is then fine-tuned to images of single
things, a few a class, and its features are evaluated as they are by linear_probe.py. Each seed is another pre-training
(weights, order, augmentation) and another split of the single things; all four share the splits. Writes table.tsv and
figure.png into --output_dir; what is there already is not made again. docs/transfer.md says what came out, and why the
comparison is fair.

Each network has one core, and as many are trained at a time as there are cores.

--tune, on another world, tries learning rates for each, and prints which were the best.
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

flags.DEFINE_integer("finetune_steps", 120, "Steps of fine-tuning; from scratch, three times as many.", lower_bound=10)
flags.DEFINE_bool("tune", False, "Look for learning rates, in another world, instead.")
script(
    __name__,
    __doc__,
    first="output_dir num_images class_images seeds pretrain_steps finetune_steps resnet_size tune",
    defaults={"output_dir": "out/transfer", "resnet_size": 18},
)

import numpy as np

from data_processing.lists import dictionary, image_list
from demo import transfer_report
from demo.scripts import run_on_one_core, run_script
from demo.study import cosine

SETTINGS = ("num_images", "class_images", "resnet_size", "pretrain_steps", "finetune_steps")
# Scenes, and images of each single thing, without which splits would be empty.
LEAST = {"num_images": 20, "class_images": 6}
SCRATCH, SINGLE, PLAIN, WEIGHTED = "scratch", "single", "plain", "weighted"
TITLES = {
    SCRATCH: "none (random weights)",
    SINGLE: "one label a scene, softmax",
    PLAIN: "all labels, plain sigmoids",
    WEIGHTED: "all labels, the paper's loss",
}
# Without pre-training a network needs longer.
SCRATCH_STEPS = 3
TRAIN_PER_CLASS = 5
IMAGE_SIZE, INPUT_SIZE = 60, 40
DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
# What is tried, and what was the best of it, of pre-training and of fine-tuning: `--tune`, see docs/transfer.md.
PRETRAIN_RATES = {
    SCRATCH: [0.0],
    SINGLE: [0.03, 0.1, 0.3],
    PLAIN: [0.003, 0.01, 0.03],
    WEIGHTED: [0.0006, 0.002, 0.006, 0.02],
}
FINETUNE_RATES = [0.01, 0.03, 0.1, 0.3]
BEST = {SCRATCH: (0.0, 0.1), SINGLE: (0.1, 0.1), PLAIN: (0.01, 0.1), WEIGHTED: (0.002, 0.03)}
METRICS = {"finetuned": "fine-tuned, top-1", "probe": "linear probe, accuracy"}


def main(argv):
    del argv
    began = time.perf_counter()
    out = Path(FLAGS.output_dir, "tuning") if FLAGS.tune else Path(FLAGS.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    _check_settings(out / "settings.json")
    _make_data(out)
    jobs = [(kind, seed) for seed in range(1, FLAGS.seeds + 1) for kind in TITLES]

    def study(job):
        kind, seed = job
        pretrain_rate, finetune_rate = BEST[kind]
        model = _pretrain(out, kind, seed, pretrain_rate)
        metrics = {"finetuned": _finetune(out, kind, seed, model, finetune_rate), "probe": _probe(out, seed, model)}
        shown = ", ".join(f"{METRICS[name]} {value:.4f}" for name, value in metrics.items())
        minutes = (time.perf_counter() - began) / 60
        print(f"{minutes:5.1f} min  {TITLES[kind]}, seed {seed}: {shown}", flush=True)
        return metrics

    # Where one fails, those that have not begun do not begin.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        if FLAGS.tune:
            list(pool.map(lambda kind: _tune(out, kind), TITLES))
            return
        results = list(pool.map(study, jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    by_kind = {kind: [row for (k, _), row in zip(jobs, results, strict=True) if k == kind] for kind in TITLES}
    transfer_report.write(
        out,
        {
            TITLES[kind]: {title: [row[name] for row in rows] for name, title in METRICS.items()}
            for kind, rows in by_kind.items()
        },
        f"accuracy, {TRAIN_PER_CLASS} training images a class; dots: seeds",
    )
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes; written: {out / 'table.tsv'}, {out / 'figure.png'}")


def _check_settings(path):
    """Raises ValueError for too few images, or a study of other settings, whose results would be taken for these."""
    for name, least in LEAST.items():
        if FLAGS[name].value < least:
            raise ValueError(f"--{name}={FLAGS[name].value}: the study needs {least} at least")
    transfer_report.keep_settings(path, {name: FLAGS[name].value for name in SETTINGS})


def _make_data(out):
    """Draws the world; makes records of its scenes with all labels, and with one, and of each split of its things."""
    world, log = out / "world", out / "log.txt"
    run_script(
        "demo/make_scenes.py",
        log,
        output_dir=world,
        num_images=FLAGS.num_images,
        image_size=IMAGE_SIZE,
        class_images=FLAGS.class_images,
        voc_images=0,
        seed=2 if FLAGS.tune else 1,
    )
    entries = dictionary.read(world / DICTIONARY)
    ancestors = dictionary.ancestors(entries)
    rows = image_list.read(world / "train.txt")
    image_list.write(world / "single.txt", (surest_label(row, ancestors, k) for k, row in enumerate(rows)))
    for name, label_format in (("train", "sparse"), ("single", "single")):
        run_script(
            "data_processing/build_tfrecords.py",
            log,
            image_list=world / f"{name}.txt",
            images=world,
            output_dir=out / "records" / name / "train",
            split="train",
            num_shards=4,
            class_num=len(entries),
            label_format=label_format,
        )
    for seed in range(1, FLAGS.seeds + 1):
        run_script(
            "data_processing/build_classification.py",
            log,
            dataset=f"folder:{world / 'classes'}",
            output_dir=out / f"classes-{seed}",
            train_per_class=TRAIN_PER_CLASS,
            random_seed=seed,
        )


def surest_label(row, ancestors, number):
    """Returns a row of an image list with one label: of those that are no ancestors of others, the surest one.

    Of equal ones (things that are all well visible) lots are drawn, by the `number` of the row. `ancestors` are the
    ancestors of each class.
    """
    above = {ancestor for label in row.labels for ancestor in ancestors[label]}
    sure = {label: c for label, c in zip(row.labels, row.confidences, strict=True) if label not in above}
    best = [label for label, confidence in sure.items() if confidence == max(sure.values())]
    return image_list.Row(row.path, (int(np.random.default_rng([1, number]).choice(best)),), (1.0,))


def _schedule(steps, rate):
    """A tenth of the steps for warming up, then half a cosine: the same for all."""
    return cosine(steps, rate, steps // 10) | dict(
        resnet_size=FLAGS.resnet_size,
        image_size=INPUT_SIZE,
        batch_size=64,
        batch_norm_decay=0.9,
        crop_min_area=0.7,
        crop_min_covered=0.7,
        rotated=0.1,
        color_jitter=0.2,
    )


def _pretrain(out, kind, seed, rate):
    """Returns the folder of the pre-trained network; "scratch" is as random as the others were at their beginning."""
    model = out / f"{kind}-{seed}-{rate:g}"
    steps = 0 if kind == SCRATCH else FLAGS.pretrain_steps
    if not (model / f"model.ckpt-{steps}.index").exists():
        records = out / "records" / ("single" if kind == SINGLE else "train")
        arguments = dict(data_dir=records, model_dir=model, log_dir=model / "log", random_seed=seed)
        if kind != SINGLE:
            arguments |= dict(class_num=len(dictionary.read(out / "world" / DICTIONARY)))
            arguments |= dict(loss=PLAIN if kind == PLAIN else WEIGHTED)
        schedule = _schedule(FLAGS.pretrain_steps, rate) | dict(max_iter=steps, log_interval=50, test_interval=0)
        schedule |= {} if steps else dict(lr_schedule="step")  # half a cosine of no steps is none
        run_on_one_core(model, "finetune.py" if kind == SINGLE else "train.py", **arguments, **schedule)
    return model


def _finetune(out, kind, seed, model, rate):
    """Returns the top-1 accuracy, in [0, 1], of the network after the last step: no step is chosen by the test."""
    tuned = model / f"finetuned-{rate:g}"
    if not (tuned / "validation.json").exists():
        steps = FLAGS.finetune_steps * (SCRATCH_STEPS if kind == SCRATCH else 1)
        run_on_one_core(
            model,
            "finetune.py",
            data_dir=out / f"classes-{seed}",
            pretrain_ckpt=model,
            model_dir=tuned,
            log_dir=tuned / "log",
            random_seed=seed,
            val_sizes=INPUT_SIZE,
            val_crops="center",
            log_interval=20,
            test_interval=0,
            **_schedule(steps, rate),
        )
    [metrics] = json.loads((tuned / "validation.json").read_text())["metrics"].values()
    return metrics["top_1"]


def _probe(out, seed, model):
    """Returns the accuracy, in [0, 1], of a logistic regression on the features of the same split."""
    probe = model / "probe.json"
    if not probe.exists():
        features = model / "features.npz"
        run_on_one_core(
            model,
            "extract_feature.py",
            images=out / "world" / "classes",
            pretrain_ckpt=model,
            result=features,
            image_size=INPUT_SIZE,
            data_format="NHWC",
            batch_size=100,
        )
        run_on_one_core(
            model,
            "linear_probe.py",
            features=features,
            train_per_class=TRAIN_PER_CLASS,
            splits=1,
            random_seed=seed,
            probes="logistic",
            result=probe,
        )
    [result] = json.loads(probe.read_text())["results"]
    return result["splits"][0]["accuracy"]


def _tune(out, kind):
    """Tries the rates: of pre-training by the probe, then of fine-tuning from the best of these."""
    models = {rate: _pretrain(out, kind, 1, rate) for rate in PRETRAIN_RATES[kind]}
    probes = {rate: _probe(out, 1, model) for rate, model in models.items()}
    best = max(probes, key=probes.get)
    tuned = {rate: _finetune(out, kind, 1, models[best], rate) for rate in FINETUNE_RATES}
    shown = (", ".join(f"{rate:g}: {value:.4f}" for rate, value in one.items()) for one in (probes, tuned))
    print(f"{TITLES[kind]}: pre-training, probe at {next(shown)}; fine-tuning, top-1 at {next(shown)}", flush=True)
    print(f"    best: {best:g}, {max(tuned, key=tuned.get):g}", flush=True)


if __name__ == "__main__":
    run(main)
