"""Files of features: the forms read back exactly, in little memory, and what is said of other files."""

import tracemalloc
from typing import NamedTuple
import zipfile

import h5py
import numpy as np
import pytest

from evaluation import features


class Image(NamedTuple):
    name: str
    label: str


def random_batches(width, sizes):
    rng = np.random.default_rng(0)
    for size in sizes:
        yield [Image(f"grün {rng.integers(99)}.jpg", "7")] * size, rng.normal(size=[size, width]).astype("f4")


def read_text(path):
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2].split(" ") for row in rows]


def read_npz(path):
    assert zipfile.ZipFile(path).testzip() is None
    with np.load(path) as arrays:
        return [arrays[name].tolist() for name in ("names", "labels")] + [arrays["features"]]


def read_hdf5(path):
    with h5py.File(path) as file:
        return [file[name].asstr()[:].tolist() for name in ("names", "labels")] + [file["features"][:]]


FORMS = {
    "a.txt": (features.write_text, read_text),
    "a.npz": (features.write_npz, read_npz),
    "a.h5": (features.write_hdf5, read_hdf5),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("sizes", [(3, 0, 2), ()])
def test_forms_read_back_exactly(tmp_path, name, sizes):
    write, read = FORMS[name]
    assert write(tmp_path / name, random_batches(5, sizes), 5) == sum(sizes)
    batches = list(random_batches(5, sizes))
    names, labels, rows = read(tmp_path / name)
    assert names == [image.name for images, _ in batches for image in images]
    assert labels == ["7"] * sum(sizes)
    if sizes:
        np.testing.assert_array_equal(np.array(rows, np.float32), np.concatenate([part for _, part in batches]))


@pytest.mark.parametrize("name", FORMS)
def test_memory_does_not_grow_with_the_features(tmp_path, name):
    """2.6 MB of features in batches of 64 kB."""
    tracemalloc.start()
    try:
        FORMS[name][0](tmp_path / name, random_batches(2048, [8] * 40), 2048)
        assert tracemalloc.get_traced_memory()[1] < 1.5e6
    finally:
        tracemalloc.stop()


def write(path, names, labels, rows):
    if path.suffix == ".npz":
        np.savez(path, names=np.array(names), labels=np.array(labels), features=rows)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["names"], file["labels"], file["features"] = names, labels, rows
    else:
        lines = zip(names, labels, rows, strict=True)
        path.write_text("".join(f"{n}\t{k}\t{' '.join(map(repr, map(float, f)))}\n" for n, k, f in lines))


@pytest.mark.parametrize("ending", [".npz", ".h5", ".txt", ".tsv"])
def test_reads_what_extract_feature_writes(tmp_path, ending):
    rows = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    names = ["a/1.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]
    write(tmp_path / f"f{ending}", names, ["", "", "", "other"], rows)
    read, classes = features.read(str(tmp_path / f"f{ending}"))
    np.testing.assert_allclose(read, rows, rtol=1e-6)
    assert read.dtype == np.float32 and classes.tolist() == ["a", "b", "b", "other"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x/1.jpg\t\t1 2\nx/2.jpg\t\t1\n", "a.txt: no features of extract_feature.py"),
        ("a.txt", "no tabs\n", "no features of extract_feature.py"),
        ("a.csv", "", "it ends in none of .npz, .h5, .tsv, .txt"),
        ("a.npz", "no zip", "no features of extract_feature.py"),
        ("a.h5", "no hdf5", "a.h5: no features of extract_feature.py"),
        ("a.txt", "1.jpg\t\t1 2\n", "1.jpg has neither a label nor a folder that would be its class"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, OSError), match=message):
        features.read(str(tmp_path / name))
