"""The best checkpoint, whatever the order of the steps and however disks behave."""

import json
import math

import tensorflow as tf

from training.best_checkpoint import BestCheckpoint


def kept(best):
    """The value of the one variable in the one checkpoint that is there, and the step that is told."""
    [index] = best.folder.glob("*.index")
    value = tf.train.load_checkpoint(str(index).removesuffix(".index")).get_tensor("a")
    return float(value), best.described()["step"]


def test_the_best_stays_even_if_it_comes_at_an_earlier_step(tmp_path):
    best = BestCheckpoint(tmp_path / "best")
    assert best.described() is None
    for step, value, expected in ((400, 0.5, 400), (300, 0.9, 300), (500, 0.9, 300), (600, 0.2, 300), (700, 0.91, 700)):
        metrics = {"top_1": value, "top_5": 1.0}
        assert best.save_if_better(step, metrics, {"a": tf.Variable(float(step))}) == metrics
        assert kept(best) == (expected, expected)
        assert tf.train.latest_checkpoint(str(best.folder)).endswith(f"-{expected}")


def test_a_measure_that_is_not_defined_is_worse_than_any(tmp_path):
    best = BestCheckpoint(tmp_path)
    for step, value, expected in ((1, math.nan, 1), (2, math.nan, 1), (3, 0.0, 3), (4, math.nan, 3)):
        best.save_if_better(step, {"macro_map": value}, {"a": tf.Variable(float(step))})
        assert kept(best)[1] == expected
    text = (tmp_path / "validation.json").read_text()
    assert json.loads(text)["metrics"] == {"macro_map": 0.0} and "NaN" not in text


def test_what_cannot_be_saved_is_said_and_the_next_is_tried(tmp_path, capsys):
    best = BestCheckpoint(tmp_path / "best")
    (tmp_path / "best/model.ckpt-1.index").mkdir(parents=True)
    (tmp_path / "best/model.ckpt-1.index/full").touch()
    assert best.save_if_better(1, {"top_1": 0.5}, {"a": tf.Variable(1.0)}) == {"top_1": 0.5}
    assert "warning" in capsys.readouterr().out and best.described() is None
