"""Files of features: what extract_feature.py writes and linear_probe.py reads.

.txt, .tsv   a line of path<TAB>label<TAB>numbers with spaces between them for each image, as published
.npz, .h5    arrays `names`, `labels` (text, "" without a label) and `features` (float32 [images, width])
"""

import os
from pathlib import Path
import shutil
import tempfile
import zipfile

import h5py
import numpy as np

# Nine digits give back a float32 exactly.
NUMBER = "%.9g"


def writer(path):
    """Returns the function that writes the form that `path` asks for by its ending; ValueError if there is none."""
    writers = {".tsv": write_text, ".txt": write_text, ".npz": write_npz, ".h5": write_hdf5}
    ending = os.path.splitext(path)[1].lower()
    if ending not in writers:
        raise ValueError(f"--result={path}: name a file that ends in {', '.join(writers)}")
    return writers[ending]


def write_text(path, batches, width):
    """Writes path<TAB>label<TAB>numbers with spaces between them, as published; returns how many lines.

    Args:
      path: of the file to write.
      batches: iterable of a list of images, which have a `name` and a `label`, and their features, float32 [images,
        width].
      width: of a feature.
    """
    form = " ".join([NUMBER] * width)
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for read, features in batches:
            for image, feature in zip(read, features, strict=True):
                file.write(f"{image.name}\t{image.label}\t{form % tuple(feature.tolist())}\n")
            count += len(read)
    return count


def write_npz(path, batches, width):
    """Writes arrays `names`, `labels` (text) and `features` (float32 [images, width]) for `numpy.load`.

    Arguments and result as of `write_text`. Features go to a nameless file beside it first, since an array begins with
    its length: on disk there must be room for them twice.
    """
    names, labels = [], []
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        for read, features in batches:
            names += [image.name for image in read]
            labels += [image.label for image in read]
            spool.write(np.ascontiguousarray(features, np.float32).data)
        spool.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
        with zipfile.ZipFile(path, "w") as archive:
            for name, texts in (("names", names), ("labels", labels)):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.array(texts, np.str_), allow_pickle=False)
            with archive.open("features.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header | {"shape": (len(names), width)})
                shutil.copyfileobj(spool, file)
    return len(names)


def write_hdf5(path, batches, width):
    """Writes datasets `names`, `labels` (text) and `features` (float32 [images, width]), batch after batch.

    Arguments and result as of `write_text`.
    """
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        names = file.create_dataset("names", (0,), text, maxshape=(None,), chunks=(1024,))
        labels = file.create_dataset("labels", (0,), text, maxshape=(None,), chunks=(1024,))
        table = file.create_dataset("features", (0, width), np.float32, maxshape=(None, width), chunks=(64, width))
        count = 0
        for read, features in batches:
            for dataset in (names, labels, table):
                dataset.resize(count + len(read), axis=0)
            names[count:] = [image.name for image in read]
            labels[count:] = [image.label for image in read]
            table[count:] = features
            count += len(read)
    return count


def read(path):
    """Returns features, float32 [images, width], and class names, text [images], of a file of extract_feature.py.

    Raises ValueError if the file is of another form, or an image has no class.
    """
    readers = {".npz": _read_npz, ".h5": _read_hdf5, ".tsv": _read_text, ".txt": _read_text}
    ending = os.path.splitext(path)[1].lower()
    try:
        if ending not in readers:
            raise ValueError(f"it ends in none of {', '.join(readers)}")
        names, labels, features = readers[ending](path)
    except FileNotFoundError:
        raise
    except (KeyError, IndexError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no features of extract_feature.py ({error}); write them with it again") from error
    classes = [label or Path(name).parent.name for name, label in zip(names, labels, strict=True)]
    if missing := next((name for name, one in zip(names, classes, strict=True) if not one), None):
        raise ValueError(f"{path}: {missing} has neither a label nor a folder that would be its class")
    return np.asarray(features, np.float32), np.array(classes)


def _read_npz(path):
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["names"].tolist(), arrays["labels"].tolist(), arrays["features"]


def _read_hdf5(path):
    with h5py.File(path) as file:
        names, labels = (file[name].asstr()[:].tolist() for name in ("names", "labels"))
        return names, labels, file["features"][:]


def _read_text(path):
    with open(path, encoding="utf-8") as file:
        fields = [line.rstrip("\n").split("\t") for line in file]
    features = np.array([row[2].split() for row in fields], np.float32)
    return [row[0] for row in fields], [row[1] for row in fields], features
