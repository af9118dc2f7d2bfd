"""The database as a dataset of TensorFlow Datasets, by TFDS's own tests of builders, and by what it gives back."""

import io
from pathlib import Path
import tempfile

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing import tfds_ml_images
from data_processing.lists import dictionary
from data_processing.records import schema, tfrecord
from data_processing.sources import tfds_source
from utils import files

ENTRIES = [
    dictionary.Entry(0, "n00002684", -1, "object, physical object"),
    dictionary.Entry(1, "n02084071", 0, "dog, domestic dog, Canis familiaris"),
    dictionary.Entry(2, "n02121620", 0, "cat, true cat"),
]
LABELS = {"train": [((0, 1), (1.0, 0.5)), ((0, 2), (1.0, 1.0)), ((2,), (-1.0,))], "val": [((0,), (0.75,))]}


def jpeg(seed):
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()


def make_database(folder):
    dictionary.write(folder / tfds_ml_images.DICTIONARY, ENTRIES)
    for split, rows in LABELS.items():
        (folder / split).mkdir()
        with open(folder / split / f"{split}-00000-of-00001.tfrecords", "wb") as file:
            for k, (labels, confidences) in enumerate(rows):
                image = schema.Image(jpeg(k), 9, 8, f"{k}.jpg")
                record = schema.encode(image, labels, confidences, "sparse", len(ENTRIES))
                file.write(tfrecord.frame(record))
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{files.sha256(path)}  {path.relative_to(folder)}\n" for path in paths)
    (folder / tfds_ml_images.SUMS).write_text(sums)


class BuilderTest(tfds.testing.DatasetBuilderTestCase):
    """What TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = tfds_ml_images.MlImages
    SPLITS = {"train": 3, "validation": 1}
    folder = tempfile.TemporaryDirectory()
    EXAMPLE_DIR = folder.name

    @classmethod
    def setUpClass(cls):
        make_database(Path(cls.EXAMPLE_DIR))
        super().setUpClass()


def load(folder, manual):
    config = tfds.download.DownloadConfig(manual_dir=str(manual))
    return tfds.load(
        "ml_images", data_dir=folder, with_info=True, download_and_prepare_kwargs={"download_config": config}
    )


def test_gives_back_what_the_shards_hold(tmp_path):
    manual = tmp_path / "manual"
    manual.mkdir()
    make_database(manual)
    splits, info = load(tmp_path / "data", manual)
    examples = sorted(splits["train"].as_numpy_iterator(), key=lambda example: example["name"])
    assert [example["name"] for example in examples] == [b"0.jpg", b"1.jpg", b"2.jpg"]
    for k, example in enumerate(examples):
        np.testing.assert_array_equal(example["image"], tf.io.decode_jpeg(jpeg(k)))
        assert tuple(example["labels"]["class"]) == LABELS["train"][k][0]
        np.testing.assert_array_equal(example["labels"]["confidence"], np.float32(LABELS["train"][k][1]))
    assert info.splits["validation"].num_examples == 1
    # The names stay with the prepared data, without the manual folder.
    again = tfds.builder("ml_images", data_dir=tmp_path / "data").info.features["labels"]["class"]
    assert again.names == [entry.wnid for entry in ENTRIES]

    rows = list(tfds_source.images("ml_images", "train", tmp_path / "out", data_dir=str(tmp_path / "data")))
    expected = [{"n00002684": 1.0, "n02084071": 0.5}, {"n00002684": 1.0, "n02121620": 1.0}, {"n02121620": -1.0}]
    assert sorted(map(str, (row.labels for row in rows))) == sorted(map(str, expected))
    assert {(tmp_path / "out" / row.path).read_bytes() for row in rows} == {jpeg(k) for k in range(3)}


@pytest.mark.parametrize("damage", ["train/train-00000-of-00001.tfrecords", "dictionary_and_semantic_hierarchy.txt"])
def test_sums_must_fit(tmp_path, damage):
    make_database(tmp_path)
    tfds_ml_images.check_sums(tmp_path)
    with open(tmp_path / damage, "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=f"{damage}: other bytes than SHA256SUMS"):
        tfds_ml_images.check_sums(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(ValueError, match="No such file"):
        tfds_ml_images.check_sums(tmp_path)
    (tmp_path / tfds_ml_images.SUMS).write_text(f"{'0' * 64}  ../outside\n")
    with pytest.raises(ValueError, match="SHA256SUMS:1: not a SHA-256"):
        tfds_ml_images.check_sums(tmp_path)


def test_dense_and_single_labels_decode_alike():
    for kind, labels, confidences in (("dense", (0, 2), (0.5, -1.0)), ("single", (2,), (1.0,))):
        record = schema.encode(schema.Image(b"x", 1, 1, "a.jpg"), labels, confidences, kind, 3)
        assert schema.label_kind(record, 3, "here") == kind
        expected = list(zip(labels, confidences, strict=True))
        assert schema.decode(record, kind) == (b"a.jpg", b"x", expected)


def test_records_of_boxes_are_none_of_it(tmp_path):
    builder = tfds_ml_images.MlImages(data_dir=tmp_path)
    path = tmp_path / "train-00000-of-00001.tfrecords"
    path.write_bytes(tfrecord.frame(schema.encode_boxes(schema.Image(jpeg(0), 9, 8, "0.jpg"), [])))
    with pytest.raises(ValueError, match="train-00000-of-00001.tfrecords: the records hold boxes"):
        next(builder._generate_examples([str(path)], 3))
