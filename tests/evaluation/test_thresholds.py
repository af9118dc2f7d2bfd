"""The stored threshold: written and read, none, and damaged."""

import json

import pytest

from evaluation import thresholds
from evaluation.thresholds import Threshold


def test_written_and_read(tmp_path):
    prefix = str(tmp_path / "model.ckpt-7")
    assert thresholds.read(prefix) is None
    found = Threshold(0.0931, 0.5, "records")
    path = thresholds.write(prefix, found)
    assert str(path) == f"{prefix}.threshold.json"
    assert json.loads(path.read_text()) == {"threshold": 0.0931, "f1": 0.5, "data_dir": "records"}
    assert thresholds.read(prefix) == found and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"threshold": 0.5}', '{"threshold": 2, "f1": 1, "data_dir": ""}'])
def test_damaged(tmp_path, text):
    (tmp_path / "a.threshold.json").write_text(text)
    with pytest.raises(ValueError, match="a.threshold.json: no threshold of evaluate.py .*delete it"):
        thresholds.read(tmp_path / "a")


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError):
        thresholds.write(tmp_path / "missing" / "a", Threshold(0.5, 0.5, ""))
