"""Annotations of objects in COCO's form, whole and damaged."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from data_processing.sources import coco
from data_processing.sources.labeled_images import SourceError

INSTANCES = {
    "info": {"description": "COCO"},
    "images": [
        {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480},
        {"id": 25, "file_name": "dir/ü, 25.jpg"},
        {"id": 30, "file_name": "30.jpg"},
    ],
    "categories": [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 3, "name": "car"},
        {"id": 90, "name": "dog, brown"},
    ],
    "annotations": [
        {"image_id": 9, "category_id": 90, "segmentation": [[1.5, 2, 3, 4]], "iscrowd": 0, "bbox": [0, 0, 1, 1]},
        {"image_id": 25, "category_id": 1, "segmentation": {"counts": [1, 2], "size": [3, 4]}, "iscrowd": 1},
        {"image_id": 9, "category_id": 1},
        {"image_id": 9, "category_id": 90},
    ],
}


def write(folder, content):
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_images_and_categories(tmp_path):
    path = write(tmp_path, INSTANCES)
    table = coco.read(path)
    assert table.names == ["person", "car", "dog, brown"]  # one without an object, too
    assert list(table.rows) == [
        ("000000000009.jpg", {"dog, brown": 1.0, "person": 1.0}, f"{path}: images[0]"),
        ("dir/ü, 25.jpg", {"person": 1.0}, f"{path}: images[1]"),
        ("30.jpg", {}, f"{path}: images[2]"),
    ]


WRONG = [
    ("[]", "instances.json: no list of images, annotations, categories; give one like instances_train2017"),
    ('{"images": [', "instances.json: not JSON in UTF-8: .*; is it whole?"),
    ("[" * 100_000, "instances.json: not JSON in UTF-8: too deep"),
    ('{"images": ' + "9" * 5000 + "}", "instances.json: not JSON"),
    (INSTANCES | {"annotations": {}}, "no list of annotations;"),
    (INSTANCES | {"images": []}, r"4 annotations whose .* is of no entry: .*instances.json: annotations\[0\]"),
    (INSTANCES | {"annotations": [7, {"image_id": 9, "category_id": [1]}]}, r"2 annotations .*annotations\[1\]"),
    (INSTANCES | {"images": [{"id": 9}, {"id": 9, "file_name": 3}, None]}, r"3 images without .*'file_name': .*\[2\]"),
    (
        INSTANCES | {"categories": INSTANCES["categories"] * 2},
        r"3 categories whose id came before: .*categories\[3\]: 1",
    ),
    (INSTANCES | {"categories": [{"id": 1, "name": " "}]}, r"1 categories without .*'name': .*categories\[0\]"),
    ('{"images": [{"id": 1, "file_name": "\\ud800"}], "categories": [], "annotations": []}', r"images\[0\]"),
    ({"images": [], "categories": [], "annotations": []}, "instances.json: no images in it"),
]


@pytest.mark.parametrize(("content", "message"), WRONG, ids=range(len(WRONG)))
def test_says_what_is_wrong_and_where(tmp_path, content, message):
    with pytest.raises(SourceError, match=message):
        coco.read(write(tmp_path, content))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "instances.json", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(SourceError, match="8,589,934,592 bytes, too many"):
        coco.read(tmp_path / "instances.json")


ATOMS = st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.text(max_size=3)
KEYS = st.sampled_from(["id", "file_name", "name", "image_id", "category_id"])
ENTRIES = st.lists(st.dictionaries(KEYS, ATOMS | st.lists(ATOMS, max_size=2), max_size=5) | ATOMS, max_size=4)
GOOD = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.fixed_dictionaries({"id": st.integers(0, 3), "file_name": st.text(max_size=3)}), max_size=3
        ),
        "categories": st.lists(
            st.fixed_dictionaries({"id": st.integers(0, 2), "name": st.text(max_size=3)}), max_size=3
        ),
        "annotations": st.lists(
            st.fixed_dictionaries({"image_id": st.integers(0, 3), "category_id": st.integers(0, 2)}), max_size=4
        ),
    }
)
ANY = st.dictionaries(st.sampled_from(["images", "categories", "annotations"]), ENTRIES, min_size=2)


@settings(deadline=None, max_examples=300)
@given(GOOD | ANY | ATOMS, st.integers(0, 30))
@example({"images": [{"id": True, "file_name": "a"}], "categories": [], "annotations": []}, 0)
@example({"images": [{"id": 1, "file_name": "a\0"}], "categories": [{"id": 1, "name": "b"}], "annotations": []}, 0)
def test_any_json_gives_a_table_or_an_error_that_names_the_file(tmp_path_factory, content, cut):
    text = json.dumps(content)
    path = write(tmp_path_factory.mktemp("coco"), text[: len(text) - cut] if cut < 10 else text)
    try:
        table = coco.read(path)
    except SourceError as error:
        assert str(path) in str(error)
    else:
        assert len({row.path for row in table.rows}) == len(table.rows) > 0
        assert {name for row in table.rows for name in row.labels} <= set(table.names)
