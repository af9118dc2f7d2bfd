"""Caltech-256 as a dataset of TensorFlow Datasets, which has none: `tfds.load("caltech256", …)`.

    import data_processing.tfds_caltech256
    config = tfds.download.DownloadConfig(manual_dir="downloads")
    data = tfds.load("caltech256", split="train", download_and_prepare_kwargs={"download_config": config})

The manual folder holds 256_ObjectCategories.tar, of https://data.caltech.edu/records/nyy15-4j048. One split, "train",
of all images but those of clutter: protocols split it by themselves.
"""

from pathlib import Path

from absl import logging
import tensorflow_datasets as tfds

from data_processing.images import archives, image_files
from data_processing.sources import caltech256
from data_processing.sources.caltech256 import ARCHIVE


class Caltech256(tfds.core.GeneratorBasedBuilder):
    """Caltech-256: 256 classes of objects, at least 80 images each (Griffin, Holub and Perona 2007)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Without the class clutter."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"The folder must hold {ARCHIVE}, which https://data.caltech.edu/records/nyy15-4j048 gives."
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "name": tfds.features.Text(),
                    # Named when the archive is read.
                    "label": tfds.features.ClassLabel(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://data.caltech.edu/records/nyy15-4j048",
            citation=(
                "@techreport{griffin2007caltech, title={Caltech-256 Object Category Dataset}, author={Griffin, Gregory "
                "and Holub, Alex and Perona, Pietro}, institution={California Institute of Technology}, year={2007}}"
            ),
        )

    def _split_generators(self, dl_manager):
        source = caltech256.read(Path(dl_manager.manual_dir) / ARCHIVE)
        self.info.features["label"].names = source.names
        return {tfds.Split.TRAIN: self._generate_examples(source)}

    def _generate_examples(self, source):
        for path, (label,), _ in source.train:
            try:
                data = archives.read_file(source.images, path, image_files.MAX_PIXELS)
                image, _, _ = image_files.as_jpeg(data)
            except image_files.ImageError as error:
                logging.warning("%s is left out: %s", path, error)
                continue
            yield path, {"image": image, "name": path, "label": label}
