"""Single-label datasets in the layouts that they are published in: the records that are made of them, once."""

import io
import json

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.lists import dictionary
from data_processing.records import build_dataset, schema
from data_processing.sources import single_label, tfds_source
from data_processing.sources.labeled_images import SourceError
from tests.archives import WNIDS, archive, caltech, imagenet, jpeg
from tests.class_folders import class_folders


def build(source, output, **config):
    return build_dataset.build(source, output, build_dataset.DatasetConfig(**config))


def records(folder):
    """{name: (label, image)} of the shards in a folder."""
    images = {}
    for path in sorted(folder.glob("*.tfrecords")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            name, image, labels = schema.decode(record, "single")
            [(label, _)] = labels
            images[name.decode()] = (label, image)
    return images


def test_folders_become_records_once(tmp_path):
    source = class_folders(tmp_path / "source")
    (source / ".hidden").mkdir()
    (source / "class 0" / "more.JPG").write_bytes(jpeg(9))
    out = tmp_path / "out"
    made = build(f"folder:{source}", out, train_per_class=4, random_seed=1)
    assert made == (3, 12, 7)
    train, val = records(out / "train"), records(out / "val")
    assert len(train) == 12 and len(val) == 7 and not train.keys() & val.keys()
    for name, (label, image) in (train | val).items():
        assert name.startswith(f"class {label}/") and image == (source / name).read_bytes()
    assert dictionary.read_names(out / "dictionary.txt") == ["class 0", "class 1", "class 2"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build(f"folder:{source}", out, train_per_class=4, random_seed=1) == made
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(ValueError, match=r"made with other settings \(train_per_class 4, now 5\); give another folder"):
        build(f"folder:{source}", out, train_per_class=5, random_seed=1)


def test_a_stopped_build_resumes(tmp_path):
    source, out = class_folders(tmp_path / "source"), tmp_path / "out"
    made = build(f"folder:{source}", out)
    before = records(out / "train") | records(out / "val")
    description = build_dataset.described(out)
    begun = {name: description[name] for name in ("source", "train_per_class", "val_share", "seed")}
    (out / build_dataset.DONE).write_text(json.dumps(begun))
    next((out / "val").glob("*.json")).unlink()
    assert build(f"folder:{source}", out) == made
    assert records(out / "train") | records(out / "val") == before
    (out / build_dataset.DONE).write_text(json.dumps(begun | {"seed": 5}))
    with pytest.raises(ValueError, match=r"made with other settings \(seed 5, now 1234\)"):
        build(f"folder:{source}", out)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    source = class_folders(tmp_path / "images")
    (tmp_path / "train.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds other things than records of a dataset; give a new folder"):
        build(f"folder:{source}", tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # A typing error binds nobody.
    with pytest.raises(SourceError, match="there is no"):
        build(f"folder:{source}x", tmp_path / "out")
    assert build(f"folder:{source}", tmp_path / "out").class_num == 3


def test_names_that_no_list_holds_and_classes_without_an_image(tmp_path, capsys):
    source = class_folders(tmp_path / "source")
    (source / "class 1" / "a\tb.jpg").write_bytes(jpeg(7))
    made = build(f"folder:{source}", tmp_path / "out")
    assert made.train + made.val == 18
    assert "1 images left out, whose names hold a tab" in capsys.readouterr().out
    (source / "class 1" / "a\tb.jpg").unlink()
    for path in (source / "class 2").iterdir():
        path.write_bytes(b"<html>")
    with pytest.raises(SourceError, match="no image of class 2 can be used to train; see .*rejected.tsv"):
        build(f"folder:{source}", tmp_path / "other", max_rejected=0.9)


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
    made = build(f"caltech256:{place}", tmp_path / "out", train_per_class=4)
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
        build(f"caltech256:{place}", tmp_path / "strict", train_per_class=5)
    made = build(f"caltech256:{place}", tmp_path / "out", train_per_class=5, max_rejected=0.5)
    assert made.train + made.val == 10
    listed = "".join((tmp_path / "out" / part / "rejected.tsv").read_text() for part in ("train", "val"))
    assert "001_0003.jpg\tdamaged or truncated" in listed and "002_0001.jpg\tHTML" in listed


def test_a_truncated_archive_gives_what_is_before_its_end(tmp_path, capsys):
    place = tmp_path / "256_ObjectCategories.tar"
    data = archive(caltech(("001.ak47", "002.american-flag")))
    place.write_bytes(data[: data.index(b"002_0005.jpg") + 600])
    made = build(f"caltech256:{place}", tmp_path / "out", train_per_class=3, max_rejected=0.5)
    assert made.class_num == 2 and 9 <= made.train + made.val <= 10
    assert f"{place}: damaged, images in it are missing; fetch {place} again\n" in capsys.readouterr().out
    (tmp_path / "other.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(ValueError, match="other.tar: no tar archive, or damaged"):
        single_label.read(f"caltech256:{tmp_path / 'other.tar'}", None)


@pytest.mark.parametrize("form", ["archives", "folders", "folders and devkit"])
def test_imagenet_has_the_published_class_order(tmp_path, form):
    truth = imagenet(tmp_path, form)
    assert build(f"imagenet:{tmp_path}", tmp_path / "out") == (3, 9, 4)
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


def test_a_dataset_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source.tfds, "builder", _prepared_in(tmp_path / "data", tfds_source.tfds.builder))
    assert build(f"tfds:{Flowers.name}", tmp_path / "out") == (2, 6, 2)
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        labels = {int(np.asarray(Image.open(io.BytesIO(image)))[0, 0, 0]): label
                  for label, image in records(tmp_path / "out" / part).values()}  # fmt: skip
        assert labels == {20 * k: k % 2 for k in numbers}
    assert dictionary.read_names(tmp_path / "out/dictionary.txt") == ["rose", "tulip"]
    assert not (tmp_path / "out/images").exists()  # they are in the records
    with pytest.raises(SourceError, match="tfds:no_such_thing: TensorFlow Datasets has no such dataset"):
        single_label.read("tfds:no_such_thing", tmp_path)
    with pytest.raises(SourceError, match="tfds:imagenet2012: .*ILSVRC2012"):
        single_label.read("tfds:imagenet2012", tmp_path, manual_dir=str(tmp_path))


def _prepared_in(folder, builder):
    return lambda name, data_dir=None: builder(name, data_dir=data_dir or str(folder))


def test_the_number_of_classes_of_records(tmp_path):
    source, out = class_folders(tmp_path / "source"), tmp_path / "out"
    assert build_dataset.classes_of_records(out) is None
    with pytest.raises(ValueError, match="out: no records yet; for elastic training make them"):
        build_dataset.classes_of_records(out, f"folder:{source}")
    build(f"folder:{source}", out)
    assert build_dataset.classes_of_records(out, f"folder:{source}") == 3
    # As build_tfrecords.py leaves them.
    (out / build_dataset.DONE).rename(tmp_path / build_dataset.DONE)
    assert build_dataset.classes_of_records(out) == build_dataset.classes_of_records(out / "val") == 3
    begun = {"source": f"folder:{source}", "train_per_class": 0, "val_share": 0.2, "seed": 1234}
    (out / build_dataset.DONE).write_text(json.dumps(begun))
    with pytest.raises(ValueError, match="out are not finished; make them with --dataset=folder:.*source and"):
        build_dataset.classes_of_records(out)
