"""Single-label datasets in the layouts that they are published in: what becomes of them, and what is refused."""

import io
import json
from pathlib import Path
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.lists import dictionary
from data_processing.records import schema
from data_processing.sources.labeled_images import SourceError, single_label, tfds_source
from tests.archives import WNIDS, archive, caltech, imagenet, jpeg

ROOT = Path(__file__).parents[2]


def records(folder):
    """{name: (label, image)} of the shards in a folder."""
    found = {}
    for path in sorted(folder.glob("*.tfrecords")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            name, image, labels = schema.decode(record, "single")
            [(label, _)] = labels
            found[name.decode()] = (label, image)
    return found


def write_folders(folder, classes=3, images=6):
    for k in range(classes):
        (folder / f"class {k}").mkdir(parents=True)
        for n in range(images):
            (folder / f"class {k}" / f"{n}.jpg").write_bytes(jpeg([k, n]))
    return folder


def test_folders_become_records_once(tmp_path):
    source = write_folders(tmp_path / "source")
    (source / ".hidden").mkdir()
    (source / "class 0" / "below").mkdir()
    (source / "class 0" / "below" / "deep.JPG").write_bytes(jpeg(9))
    out = tmp_path / "out"
    made = single_label.build(f"folder:{source}", out, train_per_class=4, seed=1)
    assert made == (3, 12, 7)
    train, val = records(out / "train"), records(out / "val")
    assert len(train) == 12 and len(val) == 7 and not train.keys() & val.keys()
    for name, (label, image) in (train | val).items():
        assert name.startswith(f"class {label}/") and image == (source / name).read_bytes()
    assert dictionary.read_names(out / "dictionary.txt") == ["class 0", "class 1", "class 2"]
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert single_label.build(f"folder:{source}", out, train_per_class=4, seed=1) == made
    assert there == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(ValueError, match=r"made with other settings \(train_per_class 4, now 5\); give another folder"):
        single_label.build(f"folder:{source}", out, train_per_class=5, seed=1)


def test_a_stopped_build_goes_on(tmp_path):
    source, out = write_folders(tmp_path / "source"), tmp_path / "out"
    made = single_label.build(f"folder:{source}", out)
    before = records(out / "train") | records(out / "val")
    described = single_label.described(out)
    begun = {name: described[name] for name in ("source", "train_per_class", "val_share", "seed")}
    (out / single_label.DONE).write_text(json.dumps(begun))
    next((out / "val").glob("*.json")).unlink()
    assert single_label.build(f"folder:{source}", out) == made
    assert records(out / "train") | records(out / "val") == before
    (out / single_label.DONE).write_text(json.dumps(begun | {"seed": 5}))
    with pytest.raises(ValueError, match=r"made with other settings \(seed 5, now 1234\)"):
        single_label.build(f"folder:{source}", out)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    source = write_folders(tmp_path / "images")
    (tmp_path / "train.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds other things than records of a dataset; give a new folder"):
        single_label.build(f"folder:{source}", tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # A typing error binds nobody.
    with pytest.raises(SourceError, match="there is no"):
        single_label.build(f"folder:{source}x", tmp_path / "out")
    assert single_label.build(f"folder:{source}", tmp_path / "out").class_num == 3


def test_names_that_no_list_holds_and_classes_without_a_image(tmp_path, capsys):
    source = write_folders(tmp_path / "source")
    (source / "class 1" / "a\tb.jpg").write_bytes(jpeg(7))
    made = single_label.build(f"folder:{source}", tmp_path / "out")
    assert made.train + made.val == 18
    assert "1 images left out, whose names hold a tab" in capsys.readouterr().out
    (source / "class 1" / "a\tb.jpg").unlink()
    for path in (source / "class 2").iterdir():
        path.write_bytes(b"<html>")
    with pytest.raises(SourceError, match="no image of class 2 can be used to train; see .*rejected.tsv"):
        single_label.build(f"folder:{source}", tmp_path / "other", max_rejected=0.9)


@pytest.mark.parametrize("form", ["tar", "folder with tar", "unpacked", "class folders"])
def test_caltech256(tmp_path, form, capsys):
    members = caltech() | {"256_ObjectCategories/002.american-flag/greg/extra.jpg": jpeg(5)}
    bad = {
        "256_ObjectCategories/../../001.ak47/x.jpg": b"x",
        "/001.ak47/y.jpg": b"x",
        "256_ObjectCategories/001.ak47/link.jpg": None,
    }
    place = tmp_path / "256_ObjectCategories.tar"
    if "tar" in form:
        place.write_bytes(archive(members | bad))
        place = tmp_path if "folder" in form else place
    else:
        for name, content in members.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        place = tmp_path / "256_ObjectCategories" if form == "class folders" else tmp_path
    made = single_label.build(f"caltech256:{place}", tmp_path / "out", train_per_class=4)
    assert made == (2, 8, 4)  # clutter is left out, and what lies below a class's folder
    output = capsys.readouterr().out
    assert "7 images of 257.clutter or outside of class folders are left out" in output
    assert "2 of 256 classes are in it" in output and "damaged" not in output
    assert dictionary.read_names(tmp_path / "out/dictionary.txt") == ["ak47", "american-flag"]
    both = records(tmp_path / "out/train") | records(tmp_path / "out/val")
    assert {image for _, image in both.values()} == {data for name, data in caltech().items() if "257" not in name}
    assert all(f"{label + 1:03d}." in name for name, (label, _) in both.items())


def test_damaged_images_of_an_archive_are_listed_and_skipped_up_to_a_limit(tmp_path):
    members = caltech()
    members["256_ObjectCategories/001.ak47/001_0003.jpg"] = jpeg(1)[:-40]
    members["256_ObjectCategories/002.american-flag/002_0001.jpg"] = b"<!DOCTYPE html>gone"
    place = tmp_path / "256_ObjectCategories.tar"
    place.write_bytes(archive(members))
    with pytest.raises(ValueError, match="more than --max_rejected=0.01.*rejected.tsv"):
        single_label.build(f"caltech256:{place}", tmp_path / "strict", train_per_class=5)
    made = single_label.build(f"caltech256:{place}", tmp_path / "out", train_per_class=5, max_rejected=0.5)
    assert made.train + made.val == 10
    listed = "".join((tmp_path / "out" / part / "rejected.tsv").read_text() for part in ("train", "val"))
    assert "001_0003.jpg\tdamaged or truncated" in listed and "002_0001.jpg\tHTML" in listed


def test_an_archive_that_is_cut_short_gives_what_is_before_the_cut(tmp_path, capsys):
    place = tmp_path / "256_ObjectCategories.tar"
    data = archive(caltech(("001.ak47", "002.american-flag")))
    place.write_bytes(data[: data.index(b"002_0005.jpg") + 600])
    made = single_label.build(f"caltech256:{place}", tmp_path / "out", train_per_class=3, max_rejected=0.5)
    assert made.class_num == 2 and 9 <= made.train + made.val <= 10
    assert f"{place}: damaged, images in it are missing; fetch {place} again\n" in capsys.readouterr().out
    (tmp_path / "other.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(ValueError, match="other.tar: no tar archive, or damaged"):
        single_label.read(f"caltech256:{tmp_path / 'other.tar'}", None)


@pytest.mark.parametrize("form", ["archives", "folders", "folders and devkit"])
def test_imagenet_has_the_published_class_order(tmp_path, form):
    truth = imagenet(tmp_path, form)
    assert single_label.build(f"imagenet:{tmp_path}", tmp_path / "out") == (3, 9, 4)
    train, val = records(tmp_path / "out/train"), records(tmp_path / "out/val")
    assert {(label, image) for label, image in train.values()} == {
        (k, jpeg([k, n])) for k in range(3) for n in range(3)
    }
    assert {image: label for label, image in val.values()} == {jpeg([7, k]): label for k, label in enumerate(truth)}
    names = dictionary.read_names(tmp_path / "out/dictionary.txt")
    assert names == (WNIDS if form == "folders" else [f"name {wnid}, other" for wnid in WNIDS])


class Flowers(tfds.core.GeneratorBasedBuilder):
    """One class an image, a split for testing, and one image whose label is kept secret."""

    VERSION = tfds.core.Version("1.0.0")
    name = "flowers_of_classification_tests"

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["rose", "tulip"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(6)), "test": self._generate_examples(range(6, 9))}

    def _generate_examples(self, numbers):
        for k in numbers:
            yield k, {"image": np.full((5, 5, 3), 20 * k, np.uint8), "label": -1 if k == 8 else k % 2}


def test_a_data_set_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source.tfds, "builder", _prepared_in(tmp_path / "data", tfds_source.tfds.builder))
    assert single_label.build(f"tfds:{Flowers.name}", tmp_path / "out") == (2, 6, 2)
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        found = {int(np.asarray(Image.open(io.BytesIO(image)))[0, 0, 0]): label
                 for label, image in records(tmp_path / "out" / part).values()}  # fmt: skip
        assert found == {20 * k: k % 2 for k in numbers}
    assert dictionary.read_names(tmp_path / "out/dictionary.txt") == ["rose", "tulip"]
    assert not (tmp_path / "out/images").exists()  # they are in the records
    with pytest.raises(SourceError, match="tfds:no_such_thing: TensorFlow Datasets has no such dataset"):
        single_label.read("tfds:no_such_thing", tmp_path)
    with pytest.raises(SourceError, match="tfds:imagenet2012: .*ILSVRC2012"):
        single_label.read("tfds:imagenet2012", tmp_path, manual_dir=str(tmp_path))


def _prepared_in(folder, builder):
    return lambda name, data_dir=None: builder(name, data_dir=data_dir or str(folder))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("caltech256", "write it as one of folder:FOLDER"),
        ("flickr:x", "write it as one of"),
        ("folder:{}/nowhere", "there is no .*nowhere"),
        ("folder:{}/flat", "flat: no folders in it; make one for each class"),
        ("folder:{}/holey", "holey/empty: no images in this class folder; fill it, or take it away"),
        ("caltech256:{}/flat", "no images like 256_ObjectCategories/001.ak47"),
        ("caltech256:{}/flat/a.zip", "no .tar; give 256_ObjectCategories.tar"),
        ("imagenet:{}/flat", "ILSVRC2012_img_train.tar is missing; fetch it"),
    ],
)
def test_says_what_is_wrong(tmp_path, source, message):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/a.zip").write_bytes(b"")
    write_folders(tmp_path / "holey")
    (tmp_path / "holey/empty").mkdir()
    with pytest.raises(SourceError, match=message):
        single_label.build(source.format(tmp_path), tmp_path / "out")
    assert "class_num" not in (single_label.described(tmp_path / "out") or {})


def test_imagenet_that_does_not_fit_together(tmp_path):
    imagenet(tmp_path, "folders and devkit")
    (tmp_path / "val/ILSVRC2012_val_00000004.JPEG").unlink()
    with pytest.raises(SourceError, match="3 validation images, but ILSVRC2012_validation_ground_truth.txt has 4"):
        single_label.read(f"imagenet:{tmp_path}", None)


def test_as_a_user_runs_it(tmp_path):
    source = write_folders(tmp_path / "source")
    script = ROOT / "data_processing" / "build_classification.py"
    command = [sys.executable, script, f"--output_dir={tmp_path}/out", f"--dataset=folder:{source}", "--val_share=0.5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/out: 3 classes, 9 images to train, 9 to validate" in done.stdout
