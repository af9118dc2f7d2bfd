"""What is a pre-training worth, and which loss is the right one? Networks pre-trained in several ways on the same
scenes are put to the same uses.

    python demo/transfer_study.py --output_dir=out/transfer

The scenes of the large demo world are learnt with one label each, and with all their labels and several losses:
`demo/pretrainings.py` lists them. One network learns nothing. Each is then fine-tuned to images of single things, a
few a class, and its features are evaluated by linear_probe.py: things that no scene showed (novel), and things that
scenes showed (seen). Those that learnt scenes also label other scenes: mean average precision of all classes, and of
the frequent, middle and rare ones. Each seed is another pre-training (weights, order, augmentation) and another split
of the single things; all share the splits. Writes table.tsv and figure.png into --output_dir. docs/transfer.md says
what came out, and why the comparison is fair.

Each network has one core, and as many are trained at a time as there are cores. What is there already is not made
again, so that the study may be stopped at any time; --only=weighted,sigmoid does a part of it, on another machine say,
whose folders can be copied together.

--tune, on another world, tries learning rates for each, and prints which were the best.
"""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script
from absl import flags

flags.DEFINE_integer("finetune_steps", 200, "Steps of fine-tuning.", lower_bound=10)
flags.DEFINE_bool("tune", False, "Look for learning rates, in another world, instead.")
flags.DEFINE_list("only", [], "Names of pre-trainings, as in demo/pretrainings.py: do these, without a table.")
script(
    __name__,
    __doc__,
    first="output_dir num_images class_images seeds pretrain_steps finetune_steps resnet_size only tune",
    defaults={
        "output_dir": "out/transfer",
        "resnet_size": 10,
        "num_images": 25000,
        "class_images": 25,
        "pretrain_steps": 700,
    },
)

import numpy as np

from data_processing.lists import dictionary, image_list
from demo import pretrainings, transfer_report, world
from demo import transfer_jobs as jobs
from demo.frequencies import GROUPS
from demo.scripts import check_mpirun, run_script
from demo.study import DICTIONARY
from demo.transfer_jobs import THINGS, TRAIN_PER_CLASS
from utils.files import read_json, write_json

SETTINGS = ("num_images", "class_images", "resnet_size", "pretrain_steps", "finetune_steps")
# Scenes, and images of each single thing, without which splits would be empty.
LEAST = {"num_images": 20, "class_images": 12}
# Of the drawn scenes; the networks see smaller crops.
IMAGE_SIZE = 60
METRICS = {
    **{f"{use}_{things}": f"{title}, {things}" for things in THINGS for use, title in transfer_report.USES.items()},
    "map": "mAP",
    **{f"map_{group}": f"mAP, {group}" for group in GROUPS},
}


def main(argv):
    del argv
    out = Path(FLAGS.output_dir, "tuning") if FLAGS.tune else Path(FLAGS.output_dir)
    _check_flags()
    out.mkdir(parents=True, exist_ok=True)
    transfer_report.keep_settings(out / "settings.json", {name: FLAGS[name].value for name in SETTINGS})
    _make_data(out)
    kinds = FLAGS.only or list(pretrainings.ALL)
    if FLAGS.tune:
        _on_all_cores(lambda kind: _tune(out, kind), kinds)
        return
    networks = [(kind, seed) for seed in range(1, FLAGS.seeds + 1) for kind in kinds]
    began, done = time.perf_counter(), []

    def study(network):
        result, is_new = _study(out, *network)
        done.extend([is_new])
        minutes = (time.perf_counter() - began) / 60
        left = (len(networks) - len(done)) * minutes / max(1, sum(done))
        shown = ", ".join(f"{METRICS[name]} {value:.3f}" for name, value in result["metrics"].items())
        print(
            f"{minutes:5.1f} min, {left:.0f} left  {pretrainings.ALL[network[0]].title}, seed {network[1]}: {shown}",
            flush=True,
        )
        return result

    results = dict(zip(networks, _on_all_cores(study, networks), strict=True))
    if FLAGS.only:
        return
    table = {
        pretraining.title: {
            title: [results[kind, seed]["metrics"].get(name, np.nan) for seed in range(1, FLAGS.seeds + 1)]
            for name, title in METRICS.items()
        }
        for kind, pretraining in pretrainings.ALL.items()
    }
    transfer_report.write(out, table, _panels())
    hours = sum(result["minutes"] for result in results.values()) / 60
    print(f"{hours:.1f} hours of one core in all; written: {out / 'table.tsv'}, {out / 'figure.png'}")


def _check_flags():
    """Raises ValueError for names that are none, for so few images that splits would be empty, and without mpirun."""
    if unknown := set(FLAGS.only) - pretrainings.ALL.keys():
        raise ValueError(f"--only={','.join(sorted(unknown))}: choose from {', '.join(pretrainings.ALL)}")
    for name, least in LEAST.items():
        if FLAGS[name].value < least:
            raise ValueError(f"--{name}={FLAGS[name].value}: the study needs {least} at least")
    if any(pretrainings.ALL[kind].processes > 1 for kind in FLAGS.only or pretrainings.ALL):
        check_mpirun()


def _on_all_cores(function, arguments):
    """Returns what `function` returns for each of the `arguments`; where one fails, others do not begin."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        return list(pool.map(function, arguments))
    finally:
        pool.shutdown(cancel_futures=True)


def _panels():
    """Returns what the figure shows: the label of the axis of each panel, and the metrics in it."""
    accuracy = f"{TRAIN_PER_CLASS} training images a class; dots: seeds"
    of_things = {
        f"{things} things, {accuracy}": [METRICS[f"{use}_{things}"] for use in transfer_report.USES]
        for things in THINGS
    }
    return of_things | {"mean average precision of other scenes": [METRICS[f"map_{group}"] for group in GROUPS]}


def _make_data(out):
    """Draws the world; makes records of its scenes with all labels, and with one, and of each split of its things."""
    drawn, log = out / "world", out / "log.txt"
    run_script(
        "demo/make_scenes.py",
        log,
        world="large",
        output_dir=drawn,
        num_images=FLAGS.num_images,
        image_size=IMAGE_SIZE,
        class_images=FLAGS.class_images,
        voc_images=0,
        seed=2 if FLAGS.tune else 1,
    )
    entries = dictionary.read(drawn / DICTIONARY)
    ancestors = dictionary.ancestors(entries)
    rows = image_list.read(drawn / "train.txt")
    image_list.write(drawn / "single.txt", (surest_thing(row, ancestors, k) for k, row in enumerate(rows)))
    for folder, name, split, label_format in (
        ("scenes", "train", "train", "sparse"),
        ("scenes", "val", "val", "sparse"),
        ("single", "single", "train", "single"),
    ):
        run_script(
            "data_processing/build_tfrecords.py",
            log,
            image_list=drawn / f"{name}.txt",
            images=drawn,
            output_dir=out / folder / split,
            split=split,
            num_shards=4,
            class_num=len(entries),
            label_format=label_format,
        )
    for things in THINGS:
        for seed in range(1, FLAGS.seeds + 1):
            run_script(
                "data_processing/build_classification.py",
                log,
                dataset=f"folder:{drawn / 'classes' / things}",
                output_dir=out / f"{things}-{seed}",
                train_per_class=TRAIN_PER_CLASS,
                random_seed=seed,
            )


def surest_thing(row, ancestors, number):
    """Returns a row of an image list with one label, the surest thing: no ancestor of another label, and no ground.

    Of equal ones (things that are all well visible) lots are drawn, by the `number` of the row. `ancestors` are the
    ancestors of each class.
    """
    above = {ancestor for label in row.labels for ancestor in ancestors[label]}
    above = above.union(*world.read("large").grounds.values())
    sure = {label: c for label, c in zip(row.labels, row.confidences, strict=True) if label not in above}
    best = [label for label, confidence in sure.items() if confidence == max(sure.values())]
    return image_list.Row(row.path, (int(np.random.default_rng([1, number]).choice(best)),), (1.0,))


def _study(out, kind, seed):
    """Returns the result of one network, {"metrics": …, "minutes": of one core}, and whether it was made now."""
    began, pretraining = time.perf_counter(), pretrainings.ALL[kind]
    job = jobs.Job(out, kind, seed, config(jobs.Budget))
    model = job.folder(pretraining.rate)
    path = model / f"result-{pretraining.finetune_rate:g}.json"
    if path.exists():
        return read_json(path), False
    jobs.pretrain(job, pretraining.rate)
    metrics = {}
    for things in THINGS:
        tuned = jobs.fine_tune(job, model, things, pretraining.finetune_rate)
        metrics[f"finetuned_{things}"] = tuned
        if pretraining.longer == 1:
            metrics[f"probe_{things}"] = jobs.probe(job, model, things)
    if pretraining.rate:
        metrics |= jobs.precisions(job, model)
    minutes = (time.perf_counter() - began) / 60 * pretraining.processes
    write_json(path, {"metrics": metrics, "minutes": minutes})
    return read_json(path), True


def _tune(out, kind):
    """Tries rates, on novel things: of pre-training, and then of fine-tuning from the best of these.

    That is the one with the greatest sum of both accuracies, by the probe and fine-tuned at FINETUNE_MIDDLE: the best
    by the probe alone may leave weights that are hard to move on from.
    """
    job, middle = jobs.Job(out, kind, 1, config(jobs.Budget)), pretrainings.FINETUNE_MIDDLE
    found = {}

    def both(rate):
        model = jobs.pretrain(job, rate)
        found[rate] = jobs.probe(job, model, "novel"), jobs.fine_tune(job, model, "novel", middle)
        return sum(found[rate])

    sums = search(both, pretrainings.MIDDLE[kind]) if kind in pretrainings.MIDDLE else {0.0: 0.0}
    best = max(sums, key=sums.get)
    model = jobs.pretrain(job, best)
    tuned = search(lambda rate: jobs.fine_tune(job, model, "novel", rate), middle)
    of_rates = ", ".join(f"{rate:g}: {found[rate][0]:.4f} {found[rate][1]:.4f}" for rate in sorted(found))
    shown = ", ".join(f"{rate:g}: {tuned[rate]:.4f}" for rate in sorted(tuned))
    title = pretrainings.ALL[kind].title
    print(f"{title}: pre-training, probe and fine-tuned: {of_rates or '–'}; fine-tuning: {shown}", flush=True)
    print(f"    {kind} best: {best:g}, {max(tuned, key=tuned.get):g}", flush=True)


def search(value_of, middle):
    """Returns {rate: its value}, of `pretrainings.TRIES` rates at most.

    They are `middle`, one of `pretrainings.RATES`, its neighbours there, and further ones while the best is at an end.
    """
    rates, k = pretrainings.RATES, pretrainings.RATES.index(middle)
    values = {rates[n]: value_of(rates[n]) for n in (k, k - 1, k + 1) if 0 <= n < len(rates)}
    while len(values) < pretrainings.TRIES:
        best = rates.index(max(values, key=values.get))
        new = [rates[n] for n in (best - 1, best + 1) if 0 <= n < len(rates) and rates[n] not in values]
        if not new:
            break
        values[new[0]] = value_of(new[0])
    return values


if __name__ == "__main__":
    run(main)
