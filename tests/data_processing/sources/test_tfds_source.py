"""Any dataset of TensorFlow Datasets as a source of images and labels."""

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from data_processing.sources import tfds_source
from data_processing.sources.labeled_images import SourceError


class Single(tfds.core.GeneratorBasedBuilder):
    """A dataset of one class an image, as imagenet2012 is."""

    VERSION = tfds.core.Version("1.0.0")
    name = "single_of_source_tests"

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["n02084071", "n02121620"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for k in range(4):
            yield k, {"image": np.full((5, 5, 3), 40 * k, np.uint8), "label": k % 2}


def test_any_dataset_is_a_source(tmp_path):
    rows = list(tfds_source.images(Single.name, "train[:3]", tmp_path / "out", data_dir=str(tmp_path / "data")))
    assert [row.path.split("/")[-1] for row in rows] == ["00000000.png", "00000001.png", "00000002.png"]
    for row in rows:
        k = int(np.asarray(Image.open(tmp_path / "out" / row.path))[0, 0, 0]) // 40
        assert row.labels == {["n02084071", "n02121620"][k % 2]: 1.0}


def test_says_what_is_wrong_with_a_source(tmp_path):
    for name, split, message in (
        ("no_such_dataset", "train", "no such dataset"),
        (Single.name, "test", "test"),
    ):
        with pytest.raises(SourceError, match=f"tfds:{name}: .*{message}"):
            next(tfds_source.images(name, split, tmp_path, data_dir=str(tmp_path / "data")))
    with pytest.raises(SourceError, match="ILSVRC2012.*No such file"):
        next(tfds_source.images("imagenet2012", "train", tmp_path, data_dir=str(tmp_path), manual_dir=str(tmp_path)))
