"""The schedule against a step-by-step reading of the released code's rules, and against the published figures."""

import re

import keras
import pytest

from models.checkpoint import model_variables
from models.resnet import build_resnet
from training.schedule import ScheduleConfig, layer_factor, learning_rate, parse_sizes, size_at

PUBLISHED = dict(
    lr=0.08,
    lr_decay_step=110000,
    lr_decay_factor=0.1,
    warmup=35200,
    lr_warmup=0.01,
    lr_warmup_decay_step=4400,
    lr_warmup_decay_factor=1.297,
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.01),
        (4399, 0.01),
        (4400, 0.01 * 1.297),
        (35199, 0.01 * 1.297**7),
        (35200, 0.08),
        (110000, 0.08),  # tf.train.piecewise_constant changes after the boundary, not on it
        (110001, 0.008),
        (220001, 0.0008),
        (330001, 0.00008),
        (440001, 0.000008),
        (10**7, 0.000008),
    ],
)
def test_published_recipe(step, expected):
    assert learning_rate(step, ScheduleConfig(**PUBLISHED)) == pytest.approx(expected, rel=1e-12)


def test_agrees_with_keras_schedule_after_the_warm_up():
    keras_schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [7, 14, 21, 28], [0.5, 0.5 * 0.3, 0.5 * 0.3**2, 0.5 * 0.3**3, 0.5 * 0.3**4]
    )
    settings = PUBLISHED | dict(lr=0.5, lr_decay_step=7, lr_decay_factor=0.3, warmup=0)
    for step in range(40):
        assert learning_rate(step, ScheduleConfig(**settings)) == pytest.approx(float(keras_schedule(step)), rel=1e-6)


def test_zero_means_never():
    settings = PUBLISHED | dict(lr_decay_step=0, lr_warmup_decay_step=0, warmup=10)
    assert [learning_rate(step, ScheduleConfig(**settings)) for step in (0, 9, 10, 10**6)] == [0.01, 0.01, 0.08, 0.08]


def test_half_a_cosine_to_zero():
    """Against Keras's own schedule, after a warm-up of the same length."""
    keras_schedule = keras.optimizers.schedules.CosineDecay(0.4, 90)
    ours = dict(PUBLISHED, lr=0.4, warmup=10, lr_warmup=0.1, lr_warmup_decay_step=5, lr_warmup_decay_factor=2)
    ours |= dict(lr_schedule="cosine", max_iter=100)
    assert [learning_rate(step, ScheduleConfig(**ours)) for step in (0, 4, 5, 9)] == [0.1, 0.1, 0.2, 0.2]
    for step in (10, 11, 40, 99, 100, 130):
        assert learning_rate(step, ScheduleConfig(**ours)) == pytest.approx(float(keras_schedule(step - 10)), abs=1e-7)
    with pytest.raises(ValueError, match="needs to know the end: set --max_iter above --warmup=10"):
        learning_rate(0, ScheduleConfig(**ours | dict(max_iter=-1)))


def test_a_power_of_what_is_left():
    """Against Keras's own schedule, and the reference's last steps; after a warm-up it is of the rest of the run."""
    keras_schedule = keras.optimizers.schedules.PolynomialDecay(0.007, 30000, 0.0, power=0.9)
    ours = ScheduleConfig(0.007, "poly", max_iter=30000)
    for step in (0, 1, 2500, 15000, 29999, 30000, 40000):
        assert learning_rate(step, ours) == pytest.approx(float(keras_schedule(step)), rel=1e-3, abs=1e-12)
    assert learning_rate(15000, ours) == pytest.approx(0.007 * 0.5**0.9, rel=1e-12)
    assert learning_rate(29999, ours) == pytest.approx(0.007 * (1 / 30000) ** 0.9, rel=1e-9)
    # What is left to lr_decay_step means nothing.
    assert learning_rate(15000, ours._replace(lr_decay_step=100)) == learning_rate(15000, ours)
    warmed = ours._replace(warmup=10000, lr_warmup=0.001)
    assert [learning_rate(step, warmed) for step in (0, 9999, 10000)] == [0.001, 0.001, 0.007]
    assert learning_rate(20000, warmed) == pytest.approx(0.007 * 0.5**0.9, rel=1e-12)
    with pytest.raises(ValueError, match="--lr_schedule=poly needs to know the end: set --max_iter above --warmup=0"):
        learning_rate(0, ours._replace(max_iter=-1))


def test_rates_fall_from_the_logits_to_the_first_layer():
    named = model_variables(build_resnet(10, 3))
    factors = {name: layer_factor(name, 0.5) for name in named}
    expected = {"logits": 1, "global_pool": 1, "stages_3": 0.5, "stages_2": 0.25, "stages_1": 0.125, "stages_0": 0.0625}
    for name, factor in factors.items():
        scope = name.split("/")[0].split("_block")[0]
        assert factor == expected.get(scope, 0.03125), name
    assert layer_factor("rpn/conv2d/kernel", 0.5) == 1  # a task's own layer


def test_rates_of_several_batches_in_a_step():
    config = ScheduleConfig(0.1, warmup=2, lr_warmup=0.01, lr_scaling="linear", accumulate_steps=3)
    assert [learning_rate(step, config, 4) for step in (0, 2)] == pytest.approx([0.12, 1.2])
    assert learning_rate(2, config._replace(lr_scaling="none"), 4) == 0.1


def test_schedule_of_sizes():
    boundaries = parse_sizes("0:224,30:299")
    assert [size_at(boundaries, epoch) for epoch in (0, 29.99, 30, 31)] == [224, 224, 299, 299]
    for text, message in (
        ("0:224,30", "'30' is not EPOCH:SIZE"),
        ("x:224", "'x:224' is not EPOCH:SIZE"),
        ("0:16", "'0:16' is not EPOCH:SIZE, size 32 or more"),
        ("0:64,nan:96", "epochs must begin with 0 and rise"),
        ("0:64,inf:96", "epochs must begin with 0 and rise"),
        ("5:224", "epochs must begin with 0 and rise"),
        ("0:224,30:299,20:320", "epochs must begin with 0 and rise"),
    ):
        with pytest.raises(ValueError, match=f"--image_size_schedule={re.escape(text)}: {re.escape(message)}"):
            parse_sizes(text)
