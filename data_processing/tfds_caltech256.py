"""What users import, so that TensorFlow Datasets knows "caltech256"; see `sources/tfds_caltech256.py`."""

from data_processing.sources.tfds_caltech256 import ARCHIVE, Caltech256

__all__ = ["ARCHIVE", "Caltech256"]
