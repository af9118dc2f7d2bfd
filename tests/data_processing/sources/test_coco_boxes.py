"""Boxes in COCO's form, against pycocotools, whole and damaged."""

import contextlib
import io
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
from pycocotools.coco import COCO
import pytest

from data_processing.lists import box_list
from data_processing.sources import coco_boxes
from data_processing.sources.labeled_images import SourceError

NAMES = {1: "person", 3: "car", 90: "dog, brown"}


def instances(seed=0, images=8):
    """Annotations like COCO's, with crowds, ids that have gaps, and an image without objects."""
    random = np.random.default_rng(seed)
    content = {"info": {}, "images": [], "annotations": []}
    for k in range(images):
        width, height = (int(side) for side in random.integers(50, 90, 2))
        content["images"].append({"id": 7 * k + 2, "file_name": f"{k:012d}.jpg", "width": width, "height": height})
        for _ in range(k % 4):
            x, y = (round(float(edge), 2) for edge in random.uniform(0, 30, 2))
            wide, high = (round(float(side), 2) for side in random.uniform(1, 20, 2))
            number = len(content["annotations"]) + 1
            content["annotations"].append(
                {"id": number, "image_id": 7 * k + 2, "category_id": int(random.choice([*NAMES]))}
                | {
                    "bbox": [x, y, wide, high],
                    "area": wide * high,
                    "iscrowd": number % 3 // 2,
                    "segmentation": [[1, 2]],
                }
            )
    content["categories"] = [{"id": key, "name": name, "supercategory": "any"} for key, name in NAMES.items()]
    return content


def place(folder, content):
    (folder / "a,b").mkdir(exist_ok=True)
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return f"{folder / 'a,b'},{path}"


def test_boxes_are_those_of_pycocotools(tmp_path):
    where = place(tmp_path, instances())
    source = coco_boxes.read(where)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(tmp_path / "instances.json")
    assert source.images == tmp_path / "a,b" and source.kind == "boxes" and source.val is None
    assert source.names == [entry["name"] for entry in reference.loadCats(reference.getCatIds())]
    assert [row.path for row in source.train] == [f"{k:012d}.jpg" for k in range(8)]
    index = {key: k for k, key in enumerate(reference.getCatIds())}
    for row, (key, image) in zip(source.train, reference.imgs.items(), strict=True):
        assert row.size == (image["width"], image["height"]) and not row.problem
        annotations = reference.loadAnns(reference.getAnnIds(imgIds=key))
        assert [box.label for box in row.boxes] == [index[entry["category_id"]] for entry in annotations]
        assert [box.difficult for box in row.boxes] == [entry["iscrowd"] == 1 for entry in annotations]
        expected = np.array([entry["bbox"] for entry in annotations]).reshape(-1, 4)
        expected[:, 2:] += expected[:, :2]
        np.testing.assert_allclose(np.array([box.edges for box in row.boxes]).reshape(-1, 4), expected, atol=1e-9)
    crowds = [box.difficult for row in source.train for box in row.boxes]
    assert len(crowds) == 12 and sum(crowds) == 4


def test_bad_annotations_are_of_their_image_alone(tmp_path, capsys):
    content = instances()
    images, annotations = content["images"], content["annotations"]
    changes = [{"category_id": 2}, {"bbox": [1, 2, 3]}, {"bbox": [1, 2, 0, 4]}, {"bbox": [1, 2, 300, 4]}]
    changes += [{"iscrowd": 2}, {"bbox": [1, 2, float("nan"), 4]}, {"bbox": [True, 2, 3, 4]}, {"category_id": [1]}]
    reasons = {}
    expected = ["category_id is of no entry", "not [x, y", "width 0 and", "outside of the image", "iscrowd"]
    expected += ["not [x, y", "not [x, y", "category_id is of no entry"]
    for k, change in enumerate(changes):
        images.append({"id": f"bad {k}", "file_name": f"bad {k}.jpg", "width": 50, "height": 50})
        annotations.append({"image_id": f"bad {k}", "category_id": 1, "bbox": [1, 2, 3, 4]} | change)
        reasons[f"bad {k}.jpg"] = expected[k]
    images += [{"id": -1, "file_name": "0.jpg", "width": 0, "height": 5}, {"id": -2, "file_name": "twice"}]
    images += [{"id": -3, "file_name": "twice"}, {"id": -4, "file_name": "tab\t.jpg"}]
    reasons |= {"0.jpg": "no numbers of pixels", "twice": "another have this file_name"}
    annotations += [{"image_id": 12345, "category_id": 1, "bbox": [1, 2, 3, 4]}, 7]
    source = coco_boxes.read(place(tmp_path, content))
    problems = {row.path: row.problem for row in source.train if row.problem}
    assert problems.keys() == reasons.keys() and len(source.train) == 8 + len(reasons)
    assert all(reasons[name] in problem for name, problem in problems.items()), problems
    output = capsys.readouterr().out
    assert "2 annotations left out, whose image_id is of no entry: annotations[20], annotations[21]" in output
    assert "1 images left out, whose path is empty or holds a tab or line end: images[" in output


WRONG = [
    ("[]", "instances.json: no list of images, annotations, categories"),
    ('{"images": [', "instances.json: not JSON in UTF-8"),
    (instances() | {"images": []}, "instances.json: no images in it; is it the right file"),
    (instances() | {"categories": []}, "no categories in it"),
    (instances() | {"images": [{"id": 9}]}, r"1 images without .*'file_name': .*images\[0\]"),
]


@pytest.mark.parametrize(("content", "message"), WRONG, ids=range(len(WRONG)))
def test_says_what_is_wrong_with_the_file(tmp_path, content, message):
    with pytest.raises(SourceError, match=message):
        coco_boxes.read(place(tmp_path, content))
    with pytest.raises(SourceError, match="--dataset=coco:.*: not IMAGES,ANNOTATIONS.json of a folder and a file"):
        coco_boxes.read(f"{tmp_path},{tmp_path}")


ATOMS = st.none() | st.booleans() | st.integers(-1, 70) | st.floats() | st.just(10**400) | st.text(max_size=2)
IDS = st.integers(0, 2) | ATOMS
ENTRIES = {
    "images": {"id": IDS, "file_name": st.text(max_size=2) | ATOMS, "width": ATOMS, "height": ATOMS},
    "categories": {"id": IDS, "name": st.text(max_size=2)},
    "annotations": {
        "image_id": IDS,
        "category_id": IDS,
        "bbox": st.lists(st.integers(-1, 40) | ATOMS, min_size=3, max_size=5) | ATOMS,
        "iscrowd": ATOMS,
    },
}
FILES = st.fixed_dictionaries(
    {
        group: st.lists(st.fixed_dictionaries({}, optional=fields) | ATOMS, max_size=4)
        | st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=4)
        for group, fields in ENTRIES.items()
    }
)
ONE = {"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "b"}]}


@settings(deadline=None, max_examples=150)
@given(FILES)
@example(ONE | {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 10**400, 3]}]})
@example(ONE | {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": [0]}]})
def test_any_json_gives_boxes_or_reasons_or_an_error_that_names_the_file(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("coco")
    try:
        source = coco_boxes.read(place(folder, content))
    except SourceError as error:
        assert str(folder / "instances.json") in str(error)
        return
    box_list.write(folder / "list.txt", source.train)
    for row in source.train:
        assert row.problem or row.size is None or row.boxes == box_list.fit(row.boxes, *row.size)
        assert all(box.label < len(source.names) for box in row.boxes)
