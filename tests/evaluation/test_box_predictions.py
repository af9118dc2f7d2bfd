"""COCO's results as they are written, and where copies of images go."""

import json

import numpy as np
import pytest

from data_processing.input_pipeline.file_batches import ImageFile
from evaluation import box_predictions, drawn_files
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


def test_where_copies_go(tmp_path):
    inside = files(*(str(tmp_path / "images" / name) for name in ("a.JPG", "b/c.webp", "b/d.png", "b/e")))
    for image in inside:
        path = tmp_path / image.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = ["a.JPG", "b/c.webp.png", "b/d.png", "b/e.png"]
    copies = drawn_files.targets(inside, str(tmp_path / "images"), str(tmp_path / "drawn"))
    assert copies == [tmp_path / "drawn" / name for name in names]
    # Of a list, below what all have in common; of one image, itself.
    copies = drawn_files.targets(inside[1:], str(tmp_path / "list.txt"), "drawn")
    assert [str(path) for path in copies] == ["drawn/c.webp.png", "drawn/d.png", "drawn/e.png"]
    copies = drawn_files.targets(inside[:1], inside[0].file, "drawn")
    assert [str(path) for path in copies] == ["drawn/a.JPG"]
    (copy,) = drawn_files.targets(files("null\0.jpg"), "list.txt", "drawn")
    assert str(copy) == "drawn/null_.jpg"
    (copy,) = drawn_files.targets(files("../../../../../../../x.jpg"), "list.txt", "drawn")
    assert str(copy) == "drawn/x.jpg"


def test_no_two_images_have_one_copy(tmp_path):
    """Though the copy of one would be called as another; an image that stands in a list twice has one."""
    names = ["a.bmp", "a.bmp.png", "a.bmp.png.png", "b.JPG", "b.JPG.png", "c", "c.png", "a.bmp"]
    copies = [str(path) for path in drawn_files.targets(files(*names), "list.txt", "drawn")]
    kept = {name: f"drawn/{name}" for name in names if name not in ("a.bmp", "c")}
    expected = kept | {"a.bmp": "drawn/a.bmp.png.png.png", "c": "drawn/c.png.png"}
    assert dict(zip(names, copies, strict=True)) == expected and copies[0] == copies[-1]


def test_a_copy_replaces_no_image_through_a_link(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "a.png").symlink_to("../images/a.png")
    image = files(str(tmp_path / "images" / "a.png"))
    with pytest.raises(ValueError, match="is one of the images that are read"):
        drawn_files.targets(image, image[0].file, str(tmp_path / "drawn"))
