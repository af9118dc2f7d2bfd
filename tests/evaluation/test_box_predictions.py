"""COCO's results as they are written."""

import json

import numpy as np
import pytest

from data_processing.input_pipeline.file_batches import ImageFile
from evaluation import box_predictions
from evaluation.box_predictions import FoundObjects

FOUND = FoundObjects(
    np.array([[1.5, 2, 11.25, 30], [0, 0, 5, 4]], np.float32), np.array([0.75, 0.5], np.float32), np.array([2, 0])
)
NAMES = ["cat", "dog", 'gr"ün']


def files(*names):
    return [ImageFile(name, "", name) for name in names]


def test_the_file(tmp_path):
    (image,) = files("in/a.jpg")
    rows = [*box_predictions.rows(image, 4, FOUND, NAMES)]
    assert box_predictions.write(tmp_path / "a.json", iter(rows)) == 2
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [
        {"image_id": 4, "category_id": 3, "bbox": [1.5, 2, 9.75, 28], "score": 0.75}
        | {"file_name": "in/a.jpg", "category_name": 'gr"ün'},
        {"image_id": 4, "category_id": 1, "bbox": [0, 0, 5, 4], "score": 0.5}
        | {"file_name": "in/a.jpg", "category_name": "cat"},
    ]
    assert box_predictions.write(tmp_path / "none.json", iter([])) == 0
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_the_text():
    image = ImageFile("a.jpg", "7", "a.jpg")
    assert box_predictions.as_text(image, FOUND, NAMES) == (
        'a.jpg\t7\ngr"ün: 0.750 [1.5, 2.0, 9.8, 28.0]\ncat: 0.500 [0.0, 0.0, 5.0, 4.0]'
    )
    assert box_predictions.as_text(image, FOUND.above(0.8), NAMES) == "a.jpg\t7"


def test_what_is_above_a_score():
    """Rows that only fill up are not there, whatever the score."""
    objects = FoundObjects(np.zeros([3, 4]), np.array([0.5, 0.25, 0]), np.array([1, 0, -1]))
    assert [len(objects.above(score).scores) for score in (0, 0.25, 0.3, 0.6)] == [2, 2, 1, 0]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/000012.jpg", "b/7.png"], [12, 7]),
        (["a/12.jpg", "b/000012.png"], [1, 2]),
        (["a/12.jpg", "b/x.png"], [1, 2]),
        (["a/²³.jpg"], [1]),
        (["a/.jpg"], [1]),
        (["9" * 19 + ".jpg"], [1]),
        (["9" * 18], [10**18 - 1]),
    ],
)
def test_ids_of_images(names, ids):
    found, words = box_predictions.image_ids(files(*names))
    assert found == ids and words.startswith("the numbers" if ids != [1, 2][: len(ids)] else "the images' places")
