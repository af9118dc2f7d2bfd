"""object_detection.py as a user runs it: its boxes against NumPy's preprocessing, batches, files, copies and errors."""

import json
import os
import shutil

from absl.testing import flagsaver
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
import pytest

from evaluation import drawing
from models import checkpoint
from models.resnet import build_resnet
import object_detection
from tests import detector_worlds
from tests.detector_worlds import NAMES, PROPOSALS, assert_same
from tests.helpers import MPIRUN, python, run
from tests.scripts import run_script

# Height and width; the last is the first twice as large.
SIZES = {"000012.png": (64, 96), "in/7.png": (60, 80), "in/3.png": (80, 60), "in/40.png": (90, 200)}
SIZES |= {"50.png": (61, 81), "in/60.png": (33, 33), "9000.png": (128, 192)}
FLAGS = {"data_format": "NHWC", "proposals": str(PROPOSALS)}


def image_of(name):
    if name == "9000.png":
        return image_of("000012.png").repeat(2, axis=0).repeat(2, axis=1)
    return detector_worlds.pixels(*SIZES[name], seed=SIZES[name][0])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    for name in SIZES:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_of(name)).save(folder / "images" / name)
    detector, _ = detector_worlds.save(folder / "detector")
    return folder, detector


@pytest.fixture(scope="module")
def whole(world):
    """What the script finds in all images, without other flags."""
    return detect(world[0])


def detect(folder, **options):
    """Runs the script in this process, on the world's images if no others are given; returns the result's list."""
    files = {"images": folder / "images", "model_dir": folder / "detector", "result": folder / "own.json"}
    options = {name: str(value) for name, value in (FLAGS | files | options).items()}
    object_detection.FLAGS.mark_as_parsed()
    with flagsaver.as_parsed(**options):
        object_detection.main([])
    with open(options["result"], encoding="utf-8") as file:
        return json.load(file)


def of_image(rows, name):
    """Boxes, scores and classes of one image of a result."""
    rows = [row for row in rows if row["file_name"].endswith(name)]
    boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, np.array([row["score"] for row in rows]), np.array([row["category_id"] for row in rows]) - 1


def test_objects_are_those_of_numpys_images_and_depend_on_no_batch(world, capsys):
    folder, detector = world
    rows = detect(folder, batch_size=3)
    out = capsys.readouterr().out
    first = out.splitlines()[0]
    assert first == (
        "Faster R-CNN on ResNet-10, 3 classes, step 7; short side 64, long side at most 110 pixels (as it was "
        "trained), 100 proposals; shown: score >= 0.5"
    )
    for name in SIZES:
        assert_same(of_image(rows, name), detector_worlds.found_in(detector, image_of(name)))
    assert {row["category_name"] for row in rows} == {*NAMES}
    assert all(row["category_name"] == NAMES[row["category_id"] - 1] for row in rows)
    # Images in the order of their paths, objects in that of their scores.
    paths = sorted(str(folder / "images" / name) for name in SIZES)
    assert list(dict.fromkeys(row["file_name"] for row in rows)) == paths
    for name in SIZES:
        assert (np.diff(of_image(rows, name)[1]) <= 0).all()
    alone = detect(folder, batch_size=1)
    for name in SIZES:
        assert_same(of_image(alone, name), of_image(rows, name), most_off=0.002)
    shown = [row for row in rows if row["score"] >= 0.5]
    assert 0 < len(shown) < len(rows)
    assert out.count(" [") == len(shown)
    row = shown[0]
    numbers = ", ".join(f"{value:.1f}" for value in row["bbox"])
    assert f"{row['file_name']}\n{row['category_name']}: {row['score']:.3f} [{numbers}]\n" in out
    assert f"own.json, {len(rows):,} objects in 7 images; image_id: the numbers that the files are called" in out


def test_an_image_twice_as_large_has_boxes_twice_as_large(whole):
    """Bilinear resizing to half of repeated pixels gives the pixels: the network sees the same."""
    rows = whole
    boxes, scores, classes = of_image(rows, "000012.png")
    assert_same(of_image(rows, "9000.png"), (2 * boxes, scores, classes))
    for name, (height, width) in SIZES.items():
        boxes = of_image(rows, name)[0]
        assert (boxes >= 0).all() and (boxes <= np.array([width, height, width, height]) + 0.001).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_threshold(world, whole, capsys):
    folder, _ = world
    kept = detect(folder, threshold=0.3)
    assert kept == [row for row in whole if row["score"] >= 0.3] and len(kept) < len(whole)
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("written: ") and "shown: score >= 0.3" in out
    assert out.split("shown: score >= 0.3")[1].count(" [") == len(kept)


def test_cocos_own_program_reads_it(world):
    """And finds all of it right where it is the truth as well; ids are those of files that are called by numbers."""
    folder, _ = world
    rows = detect(folder, threshold=0.3)
    assert {row["image_id"] for row in rows} == {12, 7, 3, 40, 50, 60, 9000}
    truth = COCO()
    annotations = [
        {name: row[name] for name in ("image_id", "category_id", "bbox")}
        | {"id": k, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        for k, row in enumerate(rows, start=1)
    ]
    images = [{"id": int(name.rpartition("/")[2][:-4])} for name in SIZES]
    categories = [{"id": k, "name": name} for k, name in enumerate(NAMES, start=1)]
    truth.dataset = {"images": images, "categories": categories, "annotations": annotations}
    truth.createIndex()
    found = truth.loadRes(str(folder / "own.json"))
    assert len(found.anns) == len(rows)
    judge = COCOeval(truth, found, "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1)


def test_a_list_with_files_that_cannot_be_read(world, tmp_path, capsys):
    """They are reported and keep their places; the same image may stand in a list twice."""
    folder, _ = world
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    lines = [
        f"{folder}/images/in/7.png",
        "cut.jpg",
        f"{folder}/images/50.png 4",
        "none.png",
        f"{folder}/images/in/7.png",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="^2 of 5 images were left out"):
        detect(folder, images=tmp_path / "list.txt", result=tmp_path / "out.json")
    said = capsys.readouterr()
    assert "left out: cut.jpg: " in said.err and "left out: none.png: No such file" in said.err
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [*dict.fromkeys(row["image_id"] for row in rows)] == [1, 3, 5]
    first, last = ([row | {"image_id": 0} for row in rows if row["image_id"] == k] for k in (1, 5))
    assert len(first) == len(last) and first[0]["score"] == pytest.approx(last[0]["score"], abs=1e-5)
    assert "image_id: the images' places, from 1" in said.out


def test_copies_with_what_was_found(world, tmp_path):
    folder, _ = world
    Image.fromarray(image_of("50.png")).save(folder / "images" / "in" / "70.jpg")
    Image.fromarray(image_of("50.png")).save(folder / "images" / "in" / "80.bmp")
    before = {path: path.read_bytes() for path in (folder / "images").rglob("*.*")}
    rows = detect(folder, draw=tmp_path / "drawn")
    found = sorted(
        str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*") if path.is_file()
    )
    assert found == sorted([*SIZES, "in/70.jpg", "in/80.bmp.png"])
    for name in SIZES:
        boxes, scores, classes = of_image(rows, name)
        shown = scores >= 0.5
        captions = [f"{NAMES[k]} {s:.2f}" for k, s in zip(classes[shown], scores[shown], strict=True)]
        colors = [drawing.color_of(k) for k in classes[shown]]
        expected = drawing.draw(image_of(name), boxes[shown], captions, colors)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "drawn" / name)), expected)
    assert Image.open(tmp_path / "drawn/in/70.jpg").format == "JPEG"
    assert before == {path: path.read_bytes() for path in (folder / "images").rglob("*.*")}
    for name in ("70.jpg", "80.bmp"):
        (folder / "images" / "in" / name).unlink()


def test_an_image_that_goes_before_it_is_drawn(world, tmp_path, capsys, monkeypatch):
    folder, _ = world
    images = shutil.copytree(folder / "images", tmp_path / "images")
    find = object_detection.detection_inference.finder

    def finder(detector):
        """Cuts an image off once it was read and looked at."""
        found = find(detector)

        def finds(batch):
            (images / "in" / "3.png").write_bytes(b"\x89PNG")
            return found(batch)

        return finds

    monkeypatch.setattr(object_detection.detection_inference, "finder", finder)
    with pytest.raises(ValueError, match="^1 of 7 images were left out"):
        detect(folder, images=images, draw=tmp_path / "drawn", result=tmp_path / "out.json", batch_size=7)
    said = capsys.readouterr()
    assert said.err.count("left out: ") == 1 and f"left out: {images}/in/3.png: " in said.err
    assert f"written: {tmp_path}/drawn, 6 images with their objects" in said.out
    assert not (tmp_path / "drawn/in/3.png").exists() and (tmp_path / "drawn/in/7.png").exists()
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {os.path.basename(row["file_name"]) for row in rows} == {os.path.basename(n) for n in SIZES} - {"3.png"}


def test_copies_of_a_list_stay_in_their_folder(world, tmp_path, monkeypatch):
    folder, _ = world
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    os.symlink(folder / "images", tmp_path / "other")
    (tmp_path / "work" / "list.txt").write_text(f"../other/in/7.png\n{folder}/images/50.png\n")
    detect(folder, images="list.txt", draw="drawn", result="out.json")
    found = [path for path in (tmp_path / "work" / "drawn").rglob("*") if path.is_file()]
    assert sorted(path.name for path in found) == ["50.png", "7.png"]
    (tmp_path / "work" / "list.txt").write_text(f"{folder}/images/in/7.png\n{folder}/images/50.png\n")
    with pytest.raises(ValueError, match="7.png is one of the images that are read; name another folder"):
        detect(folder, images="list.txt", draw=folder / "images", result="no.json")
    os.mkdir("linked")
    os.symlink(folder / "images", "linked/in")
    (tmp_path / "work" / "list.txt").write_text(f"{folder}/images/in/60.png\n{folder}/images/50.png\n")
    with pytest.raises(ValueError, match="a link in it leads .* out of it; name another folder"):
        detect(folder, images="list.txt", draw="linked", result="no.json")
    assert not os.path.exists("no.json")


@pytest.mark.parametrize(
    ("given_flags", "message"),
    [
        ({"result": "no.txt"}, "--result=no.txt: name a file that ends in .json"),
        ({"draw": "images/drawn"}, "lies in .*images, and would be read with it; name a folder elsewhere"),
        ({"class_num": "7"}, "--class_num=7, but .* 3"),
        ({"long_side": "50"}, "--long_side=50 is less than the short side, 64"),
        ({"images": ""}, "--images is missing"),
        ({"model_dir": "."}, "this folder holds 0 checkpoints"),
    ],
)
def test_flags_that_cannot_be_met(world, given_flags, message):
    folder, _ = world
    paths = {name: folder / given_flags[name] for name in ("draw", "model_dir") if name in given_flags}
    with pytest.raises(ValueError, match=message):
        detect(folder, **given_flags | paths)
    assert not os.path.exists("no.txt")


def test_a_classifiers_checkpoint_is_refused(world, tmp_path):
    folder, _ = world
    checkpoint.save(tmp_path, 1, checkpoint.model_variables(build_resnet(10, 3)), 1, checkpoint.Metadata("softmax"))
    with pytest.raises(checkpoint.CheckpointError, match="is of no detector"):
        detect(folder, model_dir=tmp_path)


def test_the_size_may_be_asked_for_and_nothing_found(world, capsys):
    folder, _ = world
    assert detect(folder, image_size=48, long_side=80, threshold=1) == []
    assert "short side 48, long side at most 80 pixels (--image_size)" in capsys.readouterr().out


def test_the_script(world, tmp_path):
    folder, _ = world
    images = folder / "images"
    done = run_script(
        "object_detection.py", f"--images={images}", f"--model_dir={folder}/detector", "--proposals=20", cwd=tmp_path
    )
    assert "7 images" in done.stdout and json.loads((tmp_path / "detections.json").read_text())
    done = run_script(
        "object_detection.py", "--images=none.jpg", f"--model_dir={folder}/detector", cwd=tmp_path, status=1
    )
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_find_what_one_does(world, tmp_path):
    folder, _ = world
    (folder / "images" / "bad.png").write_bytes(b"\x89PNG")
    options = [f"--images={folder}/images", f"--model_dir={folder}/detector", "--batch_size=2", "--data_format=NHWC"]
    two = [*options, f"--result={tmp_path}/two.json", f"--draw={tmp_path}/two"]
    one = [*options, f"--result={tmp_path}/one.json", f"--draw={tmp_path}/one"]
    run_script("object_detection.py", *one, status=1)
    done = run([*MPIRUN, "-np", "2", *python("object_detection.py", *two)], status=1)
    (folder / "images" / "bad.png").unlink()
    assert "left out" in done.stderr and done.stdout.count("written: ") == 2
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    for name in SIZES:
        assert_same(of_image(two, name), of_image(one, name))
        assert (tmp_path / "two" / name).exists()
