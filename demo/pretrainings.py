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
    """

    title: str
    flags: dict
    rate: float
    finetune_rate: float
    processes: int = 1


NONE, SINGLE = "none", "single"
WEIGHTED = dict(loss="weighted")
ALL = {
    NONE: Pretraining("none (random weights)", {}, 0.0, 0.1),
    SINGLE: Pretraining("one label a scene, softmax", {}, 0.1, 0.1),
    "sigmoid": Pretraining("plain sigmoids", dict(loss="sigmoid"), 0.01, 0.1),
    "weighted": Pretraining("the paper's loss", WEIGHTED, 0.002, 0.03),
    "fixed": Pretraining("… without adaptive weights", WEIGHTED | dict(adaptive_weights=False), 0.01, 0.1),
    "eta_1": Pretraining("… positives not multiplied by 12", WEIGHTED | dict(pos_weight=1), 0.01, 0.1),
    "all_negatives": Pretraining("… all absent classes selected", WEIGHTED | dict(neg_select=1), 0.002, 0.03),
    "rank": Pretraining("… presence by rank (32 images)", WEIGHTED | dict(presence="rank"), 0.002, 0.03, 2),
    "part": Pretraining("… presence by part (16 images)", WEIGHTED | dict(presence="part"), 0.002, 0.03),
    "asymmetric": Pretraining("asymmetric loss", dict(loss="asymmetric"), 0.01, 0.1),
    "two_way": Pretraining("two-way loss", dict(loss="two_way"), 0.1, 0.1),
}
# What --tune tries: of pre-training, as factors of a rate in the middle; of fine-tuning.
MIDDLE = dict.fromkeys(ALL, 0.01) | {SINGLE: 0.1, "weighted": 0.005, "all_negatives": 0.005, "two_way": 0.1}
FACTORS = (1 / 9, 1 / 3, 1, 3)
FINETUNE_RATES = (0.01, 0.03, 0.1, 0.3)
