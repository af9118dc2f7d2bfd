"""Datasets of one class an image: ImageNet, Caltech-256, any class folders, any of TensorFlow Datasets.

A dataset is named KIND:PLACE, see `datasets.KINDS`. What is made of it is the matter of `records/build_dataset.py`.
"""

from pathlib import Path
import tarfile
import tempfile

import numpy as np
from scipy.io import loadmat

from data_processing.images import archives, image_files
from data_processing.sources import caltech256, class_folders, labeled_images
from data_processing.sources.labeled_images import Source, SourceError, check_links, single_label_rows

DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def read(source, scratch, manual_dir=None) -> Source:
    """Returns the images and classes of a dataset.

    Args:
      source: KIND:PLACE, see `datasets.KINDS`, of one class an image.
      scratch: folder for images that come in no files.
      manual_dir: where TensorFlow Datasets finds what a person must fetch.
    """
    kind, _, place = source.partition(":")
    if kind == "tfds":
        return _tfds(place, scratch, manual_dir)
    if not Path(place).exists():
        raise SourceError(f"--dataset={source}: there is no {place}")
    return {"folder": class_folders.read, "caltech256": caltech256.read, "imagenet": _imagenet}[kind](Path(place))


def _imagenet(folder):
    """ILSVRC2012, with its classes in the published order: that of their WordNet ids."""
    paths = _imagenet_paths(folder, "train")
    wnids = sorted({path.split("/")[1] for path in paths})
    numbers = {wnid: k for k, wnid in enumerate(wnids)}
    train = [(path, numbers[path.split("/")[1]]) for path in paths]
    words = {}
    if (folder / "val").is_dir() and any(path.is_dir() for path in (folder / "val").iterdir()):
        val = [(path, path.split("/")[1]) for path in _imagenet_paths(folder, "val")]
    else:
        truth, words = _devkit(folder)
        if (folder / "val").is_dir():
            check_links(folder, [folder / "val"])
            paths = [f"val/{Path(path).name}" for path in image_files.image_paths(folder / "val")]
        else:
            paths = _archived_paths(folder, "ILSVRC2012_img_val")
        if len(paths) != len(truth):
            raise SourceError(f"{folder}: {len(paths):,} validation images, but {GROUND_TRUTH} has {len(truth):,}")
        val = list(zip(sorted(paths), truth, strict=True))
    unknown = sorted({wnid for _, wnid in val} - numbers.keys())
    if unknown:
        raise SourceError(f"{folder}: {len(unknown):,} classes of validation have no training images: {unknown[:3]}")
    train, val = single_label_rows(train), single_label_rows([(path, numbers[wnid]) for path, wnid in val])
    return Source(folder, [words.get(wnid, wnid) for wnid in wnids], train, val)


def _imagenet_paths(folder, part):
    """Returns the paths, below `folder`, of the images of "train" or "val" that lie by class: in `part`/WNID/."""
    if not (folder / part).is_dir():
        return _archived_paths(folder, f"ILSVRC2012_img_{part}")
    check_links(folder, [folder / part])
    return [f"{part}/{row.path}" for row in labeled_images.imagenet(folder / part, root=folder)]


def _archived_paths(folder, name):
    archive = _needed(folder, f"{name}.tar")
    check_links(folder, [archive])
    paths = [f"{name}/{path}" for path in archives.names(archive)]
    archives.report_damage(archive)
    return paths


def _needed(folder, name):
    path = folder / name
    if not path.is_file():
        raise SourceError(f"{path} is missing; fetch it from https://image-net.org/challenges/LSVRC/2012/")
    return path


def _devkit(folder):
    """Returns the WordNet id of each validation image, in their order, and {WordNet id: words}, from the devkit."""
    if (folder / DEVKIT).is_dir():
        files = {name: (folder / DEVKIT / "data" / name).read_bytes() for name in (GROUND_TRUTH, "meta.mat")}
    else:
        with tarfile.open(_needed(folder, f"{DEVKIT}.tar.gz"), "r:gz") as archive:
            files = {
                Path(member.name).name: archive.extractfile(member).read()
                for member in archive
                if member.isreg() and member.size < 2**26 and Path(member.name).name in (GROUND_TRUTH, "meta.mat")
            }
    missing = {GROUND_TRUTH, "meta.mat"} - files.keys()
    if missing:
        raise SourceError(f"{folder / DEVKIT}.tar.gz: {' and '.join(sorted(missing))} not in it; fetch it again")
    with tempfile.NamedTemporaryFile(suffix=".mat") as file:
        file.write(files["meta.mat"])
        file.flush()
        synsets = np.atleast_1d(loadmat(file.name, squeeze_me=True)["synsets"])
    wnids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
    words = {str(synset["WNID"]): str(synset["words"]) for synset in synsets}
    return [wnids[int(line)] for line in files[GROUND_TRUTH].split()], words


def _tfds(name, scratch, manual_dir):
    # Only who names it needs it: its import takes seconds.
    from data_processing.sources import tfds_source

    names, splits = tfds_source.describe(name, manual_dir=manual_dir)
    numbers = {name: k for k, name in enumerate(names)}
    if "train" not in splits:
        raise SourceError(f"tfds:{name}: it has no split train, only {', '.join(splits)}")
    other = next((part for part in ("validation", "test") if part in splits), None)
    parts = {}
    for part in filter(None, ("train", other)):
        rows = tfds_source.images(name, part, scratch, manual_dir=manual_dir)
        parts[part] = single_label_rows([(row.path, numbers[next(iter(row.labels))]) for row in rows if row.labels])
    return Source(Path(scratch), names, parts["train"], parts.get(other))
