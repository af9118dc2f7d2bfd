"""How many classes are present in nearly every batch: what a run says in its first steps, by the flags."""

import numpy as np
import pytest
import tensorflow as tf

from distributed import Ranks
from losses.multi_label import LossConfig, MultiLabelLoss
from losses.single_label import SoftmaxLoss
from losses.weighted import WeightedSigmoidLoss
from training import presence
from training.presence import Presence

CLASSES = 20
ADVICE = "--loss=weighted: these weigh 0.01 once present ten times in a row, so they are hardly learnt. Try "


def batches(often, count=100):
    """Of 4 images; the first `often` classes are in 91 of 100 batches or in all, the next in 90; others never.

    The first half of the classes is in the first two images, the rest in the last two.
    """
    for k in range(count):
        labels = np.zeros([4, CLASSES], np.float32)
        labels[0, :often] = 0.7 if k < 91 else 0.69
        labels[2, often] = k < 90
        labels[3, -1] = -1
        yield {"label": tf.constant(labels)}


def said(capsys, noted, often):
    for batch in batches(often, 130):
        noted.add(batch)
    return capsys.readouterr().out.splitlines()


def test_says_once_how_many_and_what_to_do(capsys):
    lines = said(capsys, Presence(WeightedSigmoidLoss(CLASSES), 1, Ranks()), often=6)
    assert lines == [
        "6 of 20 classes (30%) were present in more than 90% of the first 100 batches, of 4 images",
        ADVICE + "--presence=part with --accumulate_steps, --adaptive_weights=false or --loss=sigmoid: docs/losses.md",
    ]


@pytest.mark.parametrize("often", [0, 1, 2])
@pytest.mark.parametrize(
    "loss",
    [MultiLabelLoss(), WeightedSigmoidLoss(CLASSES, LossConfig(adaptive_weights=False)), WeightedSigmoidLoss(CLASSES)],
)
def test_advice_is_for_weights_that_adapt_and_more_than_a_twentieth(capsys, often, loss):
    lines = said(capsys, Presence(loss, 1, Ranks()), often)
    assert lines[0].startswith(f"{often} of 20 classes ({often * 5}%) were present")
    adaptive = isinstance(loss, WeightedSigmoidLoss) and loss.config.adaptive_weights
    assert len(lines) == 1 + (adaptive and often > 1)


def test_nothing_is_said_of_single_labels_and_short_runs(capsys):
    assert said(capsys, Presence(SoftmaxLoss(), 1, Ranks()), often=6) == []
    noted = Presence(MultiLabelLoss(), 1, Ranks())
    for batch in batches(6, 99):
        noted.add(batch)
    assert capsys.readouterr().out == ""


def test_parts_are_looked_at_by_themselves(capsys):
    """What is in the first two images only, is in half of the parts."""
    config = LossConfig(presence="part")
    lines = said(capsys, Presence(WeightedSigmoidLoss(CLASSES, config), 2, Ranks()), often=6)
    assert lines == [
        "0 of 20 classes (0%) were present in more than 90% of the first 100 batches of each part, of 2 images"
    ]


@pytest.mark.parametrize(
    "name, line",
    [
        ("global", "12 of 20 classes (60%) were present in more than 90% of the first 100 batches, of 8 images"),
        (
            "rank",
            "0 of 20 classes (0%) were present in more than 90% of the first 100 batches of each process, of 4 images",
        ),
    ],
)
def test_ranks_are_put_together_as_the_loss_does(capsys, monkeypatch, name, line):
    """The other rank has the other half of the classes."""

    def gather(own):
        present = np.unpackbits(own, axis=-1, count=CLASSES)
        return [own, np.packbits(np.roll(present, 7, axis=-1), axis=-1)]

    monkeypatch.setattr(presence.distributed, "gather", gather)
    loss = MultiLabelLoss(config=LossConfig(presence=name))
    assert said(capsys, Presence(loss, 1, Ranks(0, 2)), often=6) == [line]
    assert said(capsys, Presence(loss, 1, Ranks(1, 2)), often=6) == []
    if name == "global":
        advice = said(capsys, Presence(WeightedSigmoidLoss(CLASSES), 1, Ranks(0, 2)), often=6)[1]
        assert advice.startswith(ADVICE + "--presence=rank, --presence=part with --accumulate_steps, ")
