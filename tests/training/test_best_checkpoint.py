"""The best checkpoint, whatever the order of the steps and however disks behave."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest
import tensorflow as tf

from models.checkpoint import Metadata
from training.best_checkpoint import describe, save_if_better


def state(step):
    """What is read of a `TrainState`, with a weight that tells its step."""
    return SimpleNamespace(step=step, weights={"a": tf.Variable(float(step))}, metadata=Metadata("softmax"))


def kept(folder):
    """The value of the one variable in the one checkpoint that is there, and the step that is described."""
    [index] = folder.glob("*.index")
    value = tf.train.load_checkpoint(str(index).removesuffix(".index")).get_tensor("a")
    return float(value), describe(folder)["step"]


def test_the_best_stays_even_if_it_comes_at_an_earlier_step(tmp_path):
    best = tmp_path / "best"
    assert describe(best) is None
    for step, value, expected in ((400, 0.5, 400), (300, 0.9, 300), (500, 0.9, 300), (600, 0.2, 300), (700, 0.91, 700)):
        save_if_better(best, {"top_5": 1.0, "top_1": value}, "top_1", state(step))
        assert kept(best) == (expected, expected)
        assert tf.train.latest_checkpoint(str(best)).endswith(f"-{expected}")


def test_a_metric_that_is_not_defined_is_worse_than_any(tmp_path):
    for step, value, expected in ((1, math.nan, 1), (2, math.nan, 1), (3, 0.0, 3), (4, math.nan, 3)):
        save_if_better(tmp_path, {"macro_map": value}, "macro_map", state(step))
        assert kept(tmp_path)[1] == expected
    text = (tmp_path / "validation.json").read_text()
    assert json.loads(text)["metrics"] == {"macro_map": 0.0} and "NaN" not in text


def test_what_cannot_be_saved_is_said_and_the_next_is_tried(tmp_path, capsys):
    best = tmp_path / "best"
    (best / "model.ckpt-1.index").mkdir(parents=True)
    (best / "model.ckpt-1.index/full").touch()
    save_if_better(best, {"top_1": 0.5}, "top_1", state(1))
    assert "warning" in capsys.readouterr().out and describe(best) is None
    shutil.rmtree(best)
    save_if_better(best, {"top_1": 0.4}, "top_1", state(2))
    assert describe(best)["step"] == 2


@pytest.mark.parametrize(("value", "step"), [(0.4, 7), (0.6, 9)])
def test_a_run_whose_file_has_the_older_key_keeps_its_best(tmp_path, value, step):
    (tmp_path / "validation.json").write_text('{"step": 7, "measures": {"top_1": 0.5}}')
    save_if_better(tmp_path, {"top_1": value}, "top_1", state(9))
    assert describe(tmp_path)["step"] == step
