"""How long a run is, how fast it learns and when it validates, where its flags do not say: by the size of its data.

Pre-training sees the records as often as the paper (section 4.3). Fine-tuning follows the rule of BiT (Kolesnikov et
al. 2020, "Big Transfer", section 3.3): 500 steps of 512 images below 20,000 records, 10,000 below 500,000, else 20,000;
but it sees few records no more than `MOST_EPOCHS` times, unless that were less than 500 steps.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

import distributed

PRETRAINING_EPOCHS = 60
# Records below which BiT takes so many steps, of so many images.
BIT_STEPS = ((20_000, 500), (500_000, 10_000), (math.inf, 20_000))
BIT_BATCH = 512
LEAST_STEPS, MOST_EPOCHS = 500, 20
# Learning rates for a batch of 256 images, by the name of the loss. Those of sigmoids are smaller: they are sums over
# classes. Measured on the demo's world; docs/transfer.md has the figures.
PRETRAINING_RATES = {"weighted": 0.025, "sigmoid": 0.025, "asymmetric": 0.08, "two_way": 0.08}
# Those that nobody tuned are those of sigmoids.
PRETRAINING_RATES |= dict.fromkeys(("focal", "class_balanced"), PRETRAINING_RATES["sigmoid"])
# Those of detection and segmentation are the references', for 1 image and for 16 (docs/detection.md, segmentation.md).
FINE_TUNING_RATES = {"softmax": 0.2, "sigmoid": 0.05, "weighted": 0.02, "faster_rcnn": 0.256, "deeplab": 0.112}
FINE_TUNING_RATES |= dict.fromkeys(PRETRAINING_RATES.keys() - FINE_TUNING_RATES.keys(), FINE_TUNING_RATES["sigmoid"])
# Decay of the moving averages of batch normalisation: the published one, but in a short run one that forgets what was
# before within its last tenth or so.
BATCH_NORM_DECAY, LEAST_BATCH_NORM_DECAY = 0.997, 0.9
# A run is validated so often, but not more than once an epoch.
VALIDATIONS = 10


class Rule(NamedTuple):
    """How a run follows from its data.

    Attributes:
      images: function of the number of records, and of images in a step, to how many images it sees.
      rate: its learning rate for a batch of 256 images, with which it grows (Goyal et al. 2017).
    """

    images: Callable[[int, int], int]
    rate: float


def pretraining(loss):
    """Returns the `Rule` of pre-training with the loss of this name."""
    return Rule(pretraining_images, PRETRAINING_RATES[loss])


def fine_tuning(loss):
    """Returns the `Rule` of fine-tuning with the loss of this name."""
    return Rule(fine_tuning_images, FINE_TUNING_RATES[loss])


def pretraining_images(records, batch):
    """Returns how many images a pre-training sees: each of the records so often. `batch` does not matter."""
    del batch
    return PRETRAINING_EPOCHS * records


def fine_tuning_images(records, batch):
    """Returns how many images a fine-tuning on so many `records` sees, with so many images in a step."""
    steps = next(steps for below, steps in BIT_STEPS if records < below)
    return min(steps * BIT_BATCH, max(MOST_EPOCHS * records, LEAST_STEPS * batch))


def batch_norm_decay(steps):
    """Returns the decay of the moving averages of batch normalisation for a run of so many steps."""
    return min(BATCH_NORM_DECAY, max(LEAST_BATCH_NORM_DECAY, round(1 - 10 / steps, 3)))


def complete(configs, network, records, processes, rule):
    """Fills in what the flags of a run left open.

    Args:
      configs: the `loop.Configs`, in which `max_iter`, `lr`, `lr_schedule` and `test_interval` may be None.
      network: the `NetworkConfig`, in which `batch_norm_decay` may be.
      records: number of training records, or None where they are not there yet.
      processes: how many train together.
      rule: the `Rule`.

    Returns the configs, the network's, and a line that says what was chosen, or "".

    Raises ValueError if both --epochs and --max_iter are given, or neither, and `records` is None; and if processes may
    join and leave, which would not agree on what to choose.
    """
    run, schedule, chosen = configs.run, configs.schedule, []
    if distributed.ELASTIC:
        if run.max_iter is None or schedule.lr is None:
            raise ValueError("elastic training needs --max_iter and --lr: the number of processes may change")
        run = run._replace(test_interval=run.test_interval or 0)
    if run.epochs is not None and run.max_iter is not None:
        raise ValueError("--epochs and --max_iter both say how long the run is; give one of them")
    if run.max_iter is None and records is None:
        raise ValueError("without records only --max_iter can say how long the run is; give it")
    batch, steps = run.global_batch(processes), run.max_iter
    if steps is None:
        seen = rule.images(records, batch) if run.epochs is None else run.epochs * records
        steps = max(1, math.ceil(seen / batch))
        if run.epochs is None:
            chosen.append(f"{steps:,} steps = {steps * batch / records:.1f} epochs (--epochs)")
    lr, falling = schedule.lr, schedule.lr_schedule or "step"
    if lr is None:
        lr = rule.rate * batch / 256 / schedule.factor(processes)
        if not (schedule.lr_schedule or schedule.lr_decay_step) and steps > schedule.warmup:
            falling = "cosine"
        chosen.append(f"learning rate {lr:.3g} (--lr), --lr_schedule={falling}")
    interval = run.test_interval
    if interval is None:
        interval = _validation_interval(steps, batch, records)
        chosen.append(f"a validation every {interval:,} steps (--test_interval)")
    completed = configs._replace(
        run=run._replace(max_iter=steps, test_interval=interval),
        schedule=schedule._replace(max_iter=steps, lr=lr, lr_schedule=falling),
    )
    if network.batch_norm_decay is None:
        decay = BATCH_NORM_DECAY if run.max_iter is not None else batch_norm_decay(steps)
        network = network._replace(batch_norm_decay=decay)
        chosen += [] if decay == BATCH_NORM_DECAY else [f"--batch_norm_decay={decay:.3g}"]
    return completed, network, "chosen by the size of the data: " + ", ".join(chosen) if chosen else ""


def _validation_interval(steps, batch, records):
    epoch = math.ceil((records or batch) / batch)
    return epoch if steps < 0 else max(1, min(max(epoch, steps // VALIDATIONS), steps))
