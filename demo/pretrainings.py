"""The pre-trainings that demo/transfer_study.py compares, and the learning rates of each."""

from typing import NamedTuple


class Pretraining(NamedTuple):
    """One of the compared.

    Attributes:
      title: in the table and the figure.
      flags: of train.py; without any, one label a scene is learnt by finetune.py.
      rate: of pre-training, the best of those that `--tune` tried.
      finetune_rate: of fine-tuning, likewise.
      processes: that share each batch.
      longer: how many times as many steps of fine-tuning.
    """

    title: str
    flags: dict
    rate: float
    finetune_rate: float
    processes: int = 1
    longer: int = 1


SINGLE = "single"
WEIGHTED = dict(loss="weighted")
ALL = {
    "none": Pretraining("none (random weights)", {}, 0.0, 0.3),
    "none_longer": Pretraining("none, fine-tuned three times as long", {}, 0.0, 0.3, longer=3),
    SINGLE: Pretraining("one label a scene, softmax", {}, 0.1, 0.3),
    "sigmoid": Pretraining("plain sigmoids", dict(loss="sigmoid"), 0.03, 0.3),
    "weighted": Pretraining("the paper's loss", WEIGHTED, 0.01, 0.3),
    "fixed": Pretraining("… without adaptive weights", WEIGHTED | dict(adaptive_weights=False), 0.003, 0.3),
    "eta_1": Pretraining("… positives not multiplied by 12", WEIGHTED | dict(pos_weight=1), 0.1, 0.3),
    "all_negatives": Pretraining("… all absent classes selected", WEIGHTED | dict(neg_select=1), 0.01, 0.3),
    "rank": Pretraining("… presence by rank (32 images)", WEIGHTED | dict(presence="rank"), 0.01, 0.3, 2),
    "part": Pretraining("… presence by part (16 images)", WEIGHTED | dict(presence="part"), 0.01, 0.3),
    "asymmetric": Pretraining("asymmetric loss", dict(loss="asymmetric"), 0.1, 0.3),
    "two_way": Pretraining("two-way loss", dict(loss="two_way"), 0.1, 0.3),
}
# What --tune tries: a rate and its neighbours, and further ones where the best is at an end, TRIES at most.
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
TRIES = 5
# The rates of pre-training that it begins with, from short trials; of fine-tuning all begin with FINETUNE_MIDDLE.
MIDDLE = {SINGLE: 0.1, "sigmoid": 0.03, "eta_1": 0.03, "asymmetric": 0.03, "two_way": 0.1}
MIDDLE |= dict.fromkeys(("weighted", "fixed", "all_negatives", "rank", "part"), 0.01)
FINETUNE_MIDDLE = 0.3
