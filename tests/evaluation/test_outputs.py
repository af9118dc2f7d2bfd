"""What evaluations write and print, whatever they are of."""

import csv
import json

import numpy as np

from evaluation import outputs


def test_what_is_not_defined_is_null(tmp_path):
    content = {"settings": {"name": "ü"}, "mAP": float("nan"), "metrics": {"top_1": 0.5, "f1": np.nan}, "skipped": []}
    outputs.write_metrics(tmp_path / "metrics.json", content)
    read = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert read == content | {"mAP": None, "metrics": {"top_1": 0.5, "f1": None}}
    assert list(read) == list(content)


def test_a_table(tmp_path):
    rows = [(0, "a\tb\nc", 0.25, np.int64(7)), (1, "", np.nan, 0)]
    outputs.write_table(tmp_path / "table.tsv", ("index", "class", "AP", "objects"), rows)
    with open(tmp_path / "table.tsv", newline="") as file:
        read = list(csv.reader(file, delimiter="\t"))
    assert read == [
        ["index", "class", "AP", "objects"],
        ["0", "a b c", "0.250000", "7"],
        ["1", "", "", "0"],
    ]


def test_classes_without_a_name_are_called_by_their_index():
    assert outputs.class_names([("n1", "dog"), ("", "")], 2) == ["dog", "1"]
    assert outputs.class_names(None, 2) == ["0", "1"]


def test_of_much_that_was_left_out_the_first_is_named(capsys):
    outputs.print_left_out([f"{k}.jpg" for k in range(7)], "corrupt")
    assert capsys.readouterr().out.splitlines()[4:] == ["corrupt: 4.jpg", "… and 2 more, see metrics.json"]
