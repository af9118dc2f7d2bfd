"""What demo/transfer_study.py does with one network: it is pre-trained, fine-tuned, probed and evaluated."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from demo.frequencies import GROUPS
from demo.pretrainings import ALL, SINGLE
from demo.scripts import run_on_one_core
from demo.study import cosine

TRAIN_PER_CLASS = 10
INPUT_SIZE = 40
# All networks see a batch of 64 in parts of so many images, so that batch normalisation is the same for all.
BATCH, PART = 64, 16
# Things in folders, by what scenes showed.
THINGS = ("novel", "seen")


class Budget(NamedTuple):
    """See the flags of the same names."""

    resnet_size: int
    pretrain_steps: int
    finetune_steps: int


class Job(NamedTuple):
    """One network.

    Attributes:
      out: folder of the study.
      kind: key of `pretrainings.ALL`.
      seed: of weights, order, augmentation and of the splits of the single things.
    """

    out: Path
    kind: str
    seed: int
    budget: Budget

    def folder(self, rate):
        """Returns the folder of the network that was pre-trained at this rate."""
        return self.out / f"{self.kind}-{self.seed}-{rate:g}"


def pretrain(job, rate):
    """Returns the folder of the pre-trained network; at a rate of 0 as random as the others at their beginning."""
    model, pretraining = job.folder(rate), ALL[job.kind]
    steps = job.budget.pretrain_steps if rate else 0
    if not (model / f"model.ckpt-{steps}.index").exists():
        one_label = job.kind == SINGLE
        schedule = _schedule(job.budget, steps, rate) if steps else _schedule(job.budget, 1, 0.1) | dict(max_iter=0)
        run_on_one_core(
            model,
            "finetune.py" if one_label else "train.py",
            processes=pretraining.processes,
            data_dir=job.out / ("single" if one_label else "scenes"),
            model_dir=model,
            log_dir=model / "log",
            random_seed=job.seed,
            batch_size=PART,
            accumulate_steps=BATCH // PART // pretraining.processes,
            log_interval=50,
            test_interval=0,
            # Short runs would spend a third of their steps on learning how rare the classes are.
            head_bias="prior",
            **pretraining.flags,
            **schedule,
        )
    return model


def fine_tune(job, model, things, rate):
    """Returns the top-1 accuracy, in [0, 1], of the network after the last step: no step is chosen by the test."""
    tuned = model / f"finetuned-{things}-{rate:g}"
    if not (tuned / "validation.json").exists():
        steps = job.budget.finetune_steps * ALL[job.kind].longer
        run_on_one_core(
            model,
            "finetune.py",
            data_dir=job.out / f"{things}-{job.seed}",
            pretrain_ckpt=model,
            model_dir=tuned,
            log_dir=tuned / "log",
            random_seed=job.seed,
            val_sizes=INPUT_SIZE,
            val_crops="center",
            batch_size=BATCH,
            log_interval=50,
            test_interval=0,
            **_schedule(job.budget, steps, rate),
        )
    [metrics] = json.loads((tuned / "validation.json").read_text())["metrics"].values()
    return metrics["top_1"]


def probe(job, model, things):
    """Returns the accuracy, in [0, 1], of a logistic regression on the features of the same split."""
    result = model / f"probe-{things}.json"
    if not result.exists():
        features = model / f"features-{things}.npz"
        run_on_one_core(
            model,
            "extract_feature.py",
            images=job.out / "world/classes" / things,
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
            random_seed=job.seed,
            probes="logistic",
            result=result,
        )
    [found] = json.loads(result.read_text())["results"]
    return found["splits"][0]["accuracy"]


def precisions(job, model):
    """Returns mean average precisions of the scenes of val: of all classes, and of frequent, middle and rare things.

    These are the thirds of the things by their scenes in training. Classes that no scene of val shows do not count.
    """
    result = model / "evaluation"
    if not (result / "per_class.tsv").exists():
        run_on_one_core(
            model,
            "evaluate.py",
            data_dir=job.out / "scenes",
            split="val",
            model_dir=model,
            result=result,
            image_size=INPUT_SIZE,
            data_format="NHWC",
            batch_size=100,
        )
    precision = {row["index"]: float(row["ap"]) for row in _table(result / "per_class.tsv") if int(row["positives"])}
    group_of = {row["class"]: row["group"] for row in _table(job.out / "world/frequencies.tsv")}
    found = {
        f"map_{group}": [value for label, value in precision.items() if group_of[label] == group] for group in GROUPS
    }
    return {name: float(np.mean(values)) for name, values in {"map": [*precision.values()], **found}.items()}


def _table(path):
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")


def _schedule(budget, steps, rate):
    """A tenth of the steps for warming up, then half a cosine: the same for all."""
    return cosine(steps, rate, steps // 10) | dict(
        resnet_size=budget.resnet_size,
        image_size=INPUT_SIZE,
        batch_norm_decay=0.9,
        crop_min_area=0.7,
        crop_min_covered=0.7,
        rotated=0.1,
        color_jitter=0.2,
    )
