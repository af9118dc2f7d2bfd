"""The state of training: what it saves, by which names, and that it comes back."""

import numpy as np
import pytest

from losses.multi_label import MultiLabelLoss
from losses.weighted import WeightedSigmoidLoss
from models import checkpoint
from models.resnet import build_resnet, train_only
from tasks.classification import Classification
from training.state import TrainState

CLASSES = 3


def state_of(loss, seed=1, frozen=False, **options):
    model = build_resnet(10, CLASSES, seed=seed)
    if frozen:
        train_only(model, ("stages_3", "global_pool", "logits"))
    return TrainState(Classification(model=model, kind="sparse", loss=loss), **options)


@pytest.mark.parametrize(
    "loss, options, names",
    [
        (MultiLabelLoss(), {}, set()),
        (WeightedSigmoidLoss(CLASSES), {}, {"loss/pos_count", "loss/neg_count"}),
        (MultiLabelLoss(), {"precision": "float16"}, {"loss_scale/value", "loss_scale/good_steps"}),
        (MultiLabelLoss(), {"ema_decay": 0.9}, {"weight_average/steps"}),
    ],
)
def test_names_in_a_checkpoint(loss, options, names):
    state = state_of(loss, **options)
    weights = set(checkpoint.model_variables(build_resnet(10, CLASSES)))
    expected = weights | {"loss/step", "records_seen"} | names
    expected |= {f"{name}/Momentum" for name in weights if "/moving_" not in name}
    if "ema_decay" in options:
        expected |= {f"{name}/ExponentialMovingAverage" for name in weights}
    assert set(state.variables_by_name()) == expected


def test_saves_and_restores_itself(tmp_path):
    metadata = checkpoint.Metadata("sigmoid", "weighted", 48, "0\tdog\n1\tcat\n2\towl\n")
    state = state_of(WeightedSigmoidLoss(CLASSES), ema_decay=0.9, metadata=metadata)
    random = np.random.default_rng(0)
    for variable in state.variables_by_name().values():
        variable.assign(random.integers(1, 100, variable.shape))
    state.step.assign(7)
    prefix = state.save(tmp_path, 2)
    assert checkpoint.describe(prefix) == (10, CLASSES, 7, *metadata)
    again = state_of(WeightedSigmoidLoss(CLASSES), seed=2, ema_decay=0.9)
    assert again.restore_newest(tmp_path) == (prefix, [])
    for name, variable in again.variables_by_name().items():
        np.testing.assert_array_equal(variable, state.variables_by_name()[name], err_msg=name)
    with pytest.raises(checkpoint.CheckpointError, match="does not fit"):
        state_of(WeightedSigmoidLoss(CLASSES), precision="float16").restore_newest(tmp_path)


def test_statistics_of_frozen_layers_are_not_moved():
    state = state_of(MultiLabelLoss(), frozen=True)
    moving = {id(variable) for variable in state.moving_statistics()}
    for name, variable in state.weights.items():
        trained = name.startswith(("stages_3", "global_pool"))
        assert (id(variable) in moving) == (trained and "/moving_" in name)
        trainable = (trained or name.startswith("logits")) and "/moving_" not in name
        assert (name in state.momenta) == trainable
