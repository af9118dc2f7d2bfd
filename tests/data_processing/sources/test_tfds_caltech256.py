"""Caltech-256 as a dataset of TensorFlow Datasets, by TFDS's own tests of builders, and by what it gives back."""

from pathlib import Path
import tempfile

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.sources import tfds_caltech256
import data_processing.tfds_caltech256
from tests.archives import archive, caltech


class BuilderTest(tfds.testing.DatasetBuilderTestCase):
    """What TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = tfds_caltech256.Caltech256
    SPLITS = {"train": 12}
    folder = tempfile.TemporaryDirectory()
    EXAMPLE_DIR = folder.name

    @classmethod
    def setUpClass(cls):
        Path(cls.EXAMPLE_DIR, tfds_caltech256.ARCHIVE).write_bytes(archive(caltech()))
        super().setUpClass()


def load(folder, manual):
    config = tfds.download.DownloadConfig(manual_dir=str(manual))
    return tfds.load(
        "caltech256",
        split="train",
        data_dir=folder,
        with_info=True,
        download_and_prepare_kwargs={"download_config": config},
    )


def test_gives_back_what_the_archive_holds(tmp_path):
    members = caltech() | {"256_ObjectCategories/001.ak47/001_0006.jpg": b"\xff\xd8\xff damaged"}
    (tmp_path / tfds_caltech256.ARCHIVE).write_bytes(archive(members))
    data, info = load(tmp_path / "data", tmp_path)
    examples = {example["name"].decode(): example for example in data.as_numpy_iterator()}
    expected = {
        name: content for name, content in members.items() if "257.clutter" not in name and "001_0006" not in name
    }
    assert len(examples) == len(expected) == info.splits["train"].num_examples
    for name, content in expected.items():
        example = examples[f"256_ObjectCategories/{name}"]
        assert example["label"] == int(name.split("/")[1][:3]) - 1
        assert (example["image"] == tf.io.decode_jpeg(content, channels=3)).numpy().all()
    # The names of the classes stay with the prepared data, without the archive.
    (tmp_path / tfds_caltech256.ARCHIVE).unlink()
    again = tfds.builder("caltech256", data_dir=tmp_path / "data").info.features["label"]
    assert again.names == ["ak47", "american-flag"]


def test_says_where_the_archive_comes_from(tmp_path):
    with pytest.raises((AssertionError, ValueError, OSError), match="256_ObjectCategories.tar"):
        load(tmp_path / "data", tmp_path)


def test_the_published_import():
    assert data_processing.tfds_caltech256.Caltech256 is tfds_caltech256.Caltech256
