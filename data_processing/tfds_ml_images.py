"""The database as a dataset of TensorFlow Datasets: `tfds.load("ml_images", …)`.

    import data_processing.tfds_ml_images
    train, info = tfds.load(
        "ml_images", split="train", with_info=True,
        download_and_prepare_kwargs={"download_config": tfds.download.DownloadConfig(manual_dir="database")},
    )

Nothing is downloaded. The manual folder is what `example/build_database.sh` leaves:
    dictionary_and_semantic_hierarchy.txt
    train/*.tfrecords, val/*.tfrecords     of `build_tfrecords.py`, or published ones
    SHA256SUMS                             of the files above, as `sha256sum` writes it; if it is there, they must fit
"""

from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.lists import dictionary
from data_processing.records import schema, tfrecord
from utils.files import sha256

DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
SUMS = "SHA256SUMS"


class MlImages(tfds.core.GeneratorBasedBuilder):
    """Images with several labels each, from a vocabulary with a WordNet hierarchy (paper: 11,166 classes)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Shards of build_tfrecords.py."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"The folder must hold {DICTIONARY}, train/*.tfrecords and val/*.tfrecords, which example/build_database.sh "
        f"makes, and may hold their {SUMS}."
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "name": tfds.features.Text(),
                    # Classes are named by their WordNet ids; the dictionary, read later, says which there are.
                    "labels": tfds.features.Sequence(
                        {"class": tfds.features.ClassLabel(), "confidence": tfds.features.Scalar(tf.float32)}
                    ),
                }
            ),
            supervised_keys=None,
            homepage="https://github.com/Tencent/tencent-ml-images",
            citation=(
                "@article{wu2019tencent, title={Tencent ML-Images: A Large-Scale Multi-Label Image Database for Visual "
                "Representation Learning}, author={Wu, Baoyuan and Chen, Weidong and Fan, Yanbo and Zhang, Yong and "
                "Hou, Jinlong and Liu, Jie and Zhang, Tong}, journal={IEEE Access}, year={2019}}"
            ),
        )

    def _split_generators(self, dl_manager):
        folder = Path(dl_manager.manual_dir)
        check_sums(folder)
        entries = dictionary.read(folder / DICTIONARY)
        self.info.features["labels"]["class"].names = [entry.wnid for entry in entries]
        shards = {split: tfrecord.shard_paths(folder, split) for split in ("train", "val")}
        return {
            tfds.Split.TRAIN: self._generate_examples(shards["train"], len(entries)),
            tfds.Split.VALIDATION: self._generate_examples(shards["val"], len(entries)),
        }

    def _generate_examples(self, paths, class_num):
        for path in paths:
            kind = None
            for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator()):
                kind = kind or schema.label_kind(record, class_num, path)
                if kind == "boxes":
                    raise tfrecord.RecordError(
                        f"{path}: the records hold boxes, and ml_images is of labels; give the folder of records that "
                        "example/build_database.sh makes"
                    )
                name, image, labels = schema.decode(record, kind, f"{path}, record {number + 1}")
                pairs = [{"class": label, "confidence": confidence} for label, confidence in labels]
                yield f"{Path(path).name}-{number:08d}", {"image": image, "name": name, "labels": pairs}


def check_sums(folder):
    """Checks the files that SHA256SUMS in `folder` names, if it is there. Raises ValueError for one that differs."""
    sums = folder / SUMS
    if not sums.exists():
        return
    for number, line in enumerate(sums.read_text(encoding="utf-8").splitlines(), start=1):
        expected, _, name = line.partition("  ")
        path = folder / name.lstrip("*")
        if not name or not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{sums}:{number}: not a SHA-256, two blanks and a name in this folder")
        try:
            digest = sha256(path)
        except OSError as error:
            raise ValueError(f"{sums}:{number}: {name}: {error.strerror}") from error
        if digest != expected:
            raise ValueError(f"{path}: other bytes than {SUMS} says; fetch or build it again")
