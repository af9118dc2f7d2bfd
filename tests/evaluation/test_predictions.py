"""The classes that are named of images, and the forms in which they are written."""

import csv
import json
import os

import numpy as np
import pytest

from data_processing.input_pipeline import file_batches
from data_processing.input_pipeline.file_batches import ImageFile
from evaluation import predictions

ODD_NAME = 'dog, "hound"\u2028; 犬'


def test_top_classes():
    scores = np.array([0.2, 0.9, 0.5, 0.9, 0.1], np.float32)
    assert predictions.top_classes(scores, 3).tolist() == [1, 3, 2]
    assert predictions.top_classes(scores, 99).tolist() == [1, 3, 2, 0, 4]
    assert predictions.top_classes(scores, 4, 0.5).tolist() == [1, 3, 2]
    assert predictions.top_classes(scores, 4, 0.95).tolist() == []
    assert predictions.top_classes(scores, None, 0.2).tolist() == [1, 3, 2, 0]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Images of a folder with odd paths, with what is named of them: two classes, none, one without a name."""
    folder = tmp_path_factory.mktemp('odd, "images"')
    for name in ("a,b\n\tc.png", "d\r.png", os.fsdecode(b"\xff.png")):
        (folder / name).write_bytes(b"")
    files = file_batches.list_image_files(str(folder))
    return folder, list(zip(files, ([(3, ODD_NAME, 0.9), (1, "cat", 0.25)], [], [(7, "", 1.0)]), strict=True))


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_json_keeps_paths_and_names(named, tmp_path, ending):
    folder, images = named
    path = tmp_path / f"result.{ending}"
    assert predictions.writer(str(path))(path, images) == 3
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.rstrip("\n").split("\n")]
    first = [{"index": 3, "name": ODD_NAME, "score": 0.9}, {"index": 1, "name": "cat", "score": 0.25}]
    assert rows[0] == {"image": f"{folder}/a,b\n\tc.png", "label": "", "classes": first}
    assert rows[1] == {"image": f"{folder}/d\r.png", "label": "", "classes": []}
    assert rows[2]["image"] == f"{folder}/\\xff.png"  # no UTF-8, so an escape stands for it


def test_csv_keeps_paths_and_names(named, tmp_path):
    folder, images = named
    path = tmp_path / "result.CSV"
    assert predictions.writer(str(path))(path, images) == 3
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "label", "index", "name", "score"]
    first = f"{folder}/a,b\n\tc.png"
    assert rows[:2] == [[first, "", "3", ODD_NAME, "0.9"], [first, "", "1", "cat", "0.25"]]
    assert rows[2] == [f"{folder}/d\r.png", "", "", "", ""] and rows[3][2:] == ["7", "", "1.0"]


def test_a_list_keeps_its_own_paths(tmp_path):
    """A path in a list may be relative to the list, and has a label."""
    image = ImageFile("a.png", "5", "folder/a.png")
    predictions.write_csv(tmp_path / "a.csv", [(image, [])])
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "a.png,5,,,"


def test_text_is_as_published(named, tmp_path):
    folder, images = named
    for name in ("a.txt", "a.tsv", "a"):
        assert predictions.writer(name)(tmp_path / name, images) == 3
        lines = (tmp_path / name).read_text(encoding="utf-8").split("\n")
        assert lines[:4] == [f"{folder}/a,b\\n\\tc.png", f"3 {ODD_NAME}: 0.900", "1 cat: 0.250", f"{folder}/d\\r.png"]
        assert lines[5:] == ["7: 1.000", ""]


@pytest.mark.parametrize("name", ["pred.xlsx", "pred.csv.gz", "a.jsn"])
def test_an_unknown_ending_is_an_error_that_lists_the_others(name):
    with pytest.raises(ValueError, match=rf"--result={name}: .*\.json, \.jsonl or \.csv, .*\.txt, \.tsv or nothing"):
        predictions.writer(name)
