"""What a run was made with, and what going on with other settings says or refuses."""

import json

import numpy as np
import pytest

from models import checkpoint
from models.checkpoint import Metadata
from training import settings
from training.train_step import StepConfig

NAMES = "0\tdog\n1\tcat\n"


def test_a_named_tuple_and_those_in_it():
    class_of_two = checkpoint.Description(10, StepConfig(1e-4), 3)
    flat = settings.flat(class_of_two)
    assert flat["resnet_size"] == 10 and flat["step"] == 3 and flat["opt_momentum"] == StepConfig(1e-4).opt_momentum


def test_what_differs_is_said_once_and_kept(tmp_path):
    assert settings.read(tmp_path) == {}
    first = {"lr": 0.1, "sizes": (32, 40), "data_dir": None}
    assert settings.record(tmp_path, first, 0) == []
    assert settings.record(tmp_path, first, 5) == []
    changed = settings.record(tmp_path, first | {"lr": 0.01, "data_dir": "here"}, 7)
    assert changed == ["--lr was 0.1, and is 0.01 from here on", "--data_dir was not set, and is here from here on"]
    assert settings.record(tmp_path, first | {"lr": 0.01, "data_dir": "here"}, 9) == []
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written["settings"] == {"lr": 0.01, "sizes": [32, 40], "data_dir": "here"}
    assert written["changes"] == [{"step": 7, "changed": {"lr": [0.1, 0.01], "data_dir": [None, "here"]}}]
    assert settings.read(tmp_path) == written["settings"]
    # A run that begins anew has no past.
    assert settings.record(tmp_path, first, 0) == []
    assert json.loads((tmp_path / "settings.json").read_text())["changes"] == []


def test_another_order_of_the_records_is_said_once(tmp_path):
    """Of a run from before there were versions, and of one with an older version; not of one that is new."""
    for before in ({"lr": 0.1}, {"lr": 0.1, settings.ORDER: 1}):
        settings.record(tmp_path, before, 0)
        for said in (1, 0):
            lines = settings.record(tmp_path, {"lr": 0.1, settings.ORDER: 2}, 5)
            assert len(lines) == said and all("another order of the records" in line for line in lines)
        assert settings.read(tmp_path)[settings.ORDER] == 2
    assert settings.record(tmp_path, {settings.ORDER: 2}, 0) == []


def test_another_meaning_is_refused(tmp_path):
    kernel = np.zeros((7, 7, 3, 64), np.float32)
    variables = {checkpoint.FIRST_KERNEL: kernel}
    held = Metadata("sigmoid", "weighted", 32, NAMES)
    prefix = checkpoint.save(tmp_path, 3, variables, 1, held)
    settings.check_meaning(prefix, checkpoint.describe(prefix), held._replace(image_size=48))
    settings.check_meaning(prefix, checkpoint.describe(prefix), Metadata())
    for other, message in (
        (held._replace(loss="sigmoid"), "was trained with --loss=weighted, and this run has loss sigmoid"),
        (held._replace(head="softmax"), "was trained with --head=sigmoid, and this run has head softmax"),
        (held._replace(dictionary="0\tdog\n1\tcow\n"), r"other classes \(class 1 is 'cow' instead of 'cat'\)"),
        (held._replace(dictionary="0\tdog\n"), r"other classes \(1 classes instead of 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            settings.check_meaning(prefix, checkpoint.describe(prefix), other)
    segments = held._replace(head="masks", decoder=False)
    prefix = checkpoint.save(tmp_path, 3, variables, 1, segments)
    with pytest.raises(ValueError, match="was trained with --decoder=False, and this run has decoder True"):
        settings.check_meaning(prefix, checkpoint.describe(prefix), segments._replace(decoder=True))
    prefix = checkpoint.save(tmp_path, 4, variables, 1)
    settings.check_meaning(prefix, checkpoint.describe(prefix), held)  # an older one, which says nothing


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="settings.json: damaged"):
        settings.read(tmp_path)
