"""Single-label datasets: ImageNet, Caltech-256, any folder of class folders, any of TensorFlow Datasets; as records.

A source is named KIND:PLACE, see `read`. Whatever it is, it ends as shards of single labels, as `build_tfrecords.py`
makes them, with the names of the classes beside them.
"""

import json
from pathlib import Path
import re
import shutil
import tarfile
import tempfile
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat

from data_processing.images import archives, image_files
from data_processing.lists import dictionary, image_list
from data_processing.records import shard_writer
from data_processing.sources.labeled_images import SourceError, labeled_images
from data_processing.sources.splits import split
from utils.files import write_json, write_text

KINDS = {
    "folder": "folder:FOLDER, with a folder of images for each class",
    "caltech256": "caltech256:256_ObjectCategories.tar, or the folder that it or its class folders are in",
    "imagenet": "imagenet:FOLDER, with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and the devkit, or folders",
    "tfds": "tfds:NAME, a dataset of TensorFlow Datasets",
}
# What the records in a folder are of.
DONE = "dataset.json"
CALTECH = "256_ObjectCategories"
CLUTTER = "257.clutter"
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
# Images in a shard; at most so many shards.
SHARD_IMAGES, MAX_SHARDS = 1000, 1024


class Source(NamedTuple):
    """A dataset before it is split.

    Attributes:
      images: folder that paths are relative to.
      names: of the classes, by index.
      train: pairs of a path and a class.
      val: the same for validation, or None: they are to be split off.
    """

    images: Path
    names: list[str]
    train: list[tuple[str, int]]
    val: list[tuple[str, int]] | None = None


class Dataset(NamedTuple):
    """What `build` made: the number of classes, and of records for training and for validation."""

    class_num: int
    train: int
    val: int


def build(source, output, *, train_per_class=0, val_share=0.2, seed=1234, max_rejected=0.01, manual_dir=None):
    """Makes the records of a dataset in `output`, unless they are there: train/, val/ and dictionary.txt.

    Args:
      source: KIND:PLACE, see `KINDS`.
      output: folder, new or of an earlier call. Its dataset.json says what is made in it and, at last, that all is.
      train_per_class, val_share, seed: see `splits.split`. What a dataset has for validation stays whole.
      max_rejected: share of the images that may be damaged; rejected.tsv in train/ and val/ lists them.
      manual_dir: where TensorFlow Datasets finds what a person must fetch.

    Returns the `Dataset`. Raises ValueError (SourceError) for a source that is not as it must be, too many damaged
    images, a class that is left without any, and an `output` that holds something else.
    """
    output = Path(output)
    settings = {"source": source, "train_per_class": train_per_class, "val_share": val_share, "seed": seed}
    if made := _claim(output, settings):
        return made
    found = _without_odd_names(read(source, output / "images", manual_dir))
    parts = {"train": found.train, "val": found.val}
    if found.val is None or train_per_class:
        chosen, others = split([k for _, k in found.train], train_per_class, val_share, seed)
        parts["train"] = [found.train[k] for k in chosen]
        if found.val is None:
            parts["val"] = [found.train[k] for k in others]
    counts = {}
    for name, rows in parts.items():
        if not rows:
            raise SourceError(f"{source}: nothing is left for {name}; set --train_per_class or --val_share")
        list_path = output / f"{name}.txt"
        image_list.write(list_path, (image_list.Row(path, (k,), (1.0,)) for path, k in rows))
        shard_writer.build(
            list_path,
            found.images,
            output / name,
            split=name,
            label_format="single",
            class_num=len(found.names),
            num_shards=min(-(-len(rows) // SHARD_IMAGES), MAX_SHARDS),
            random_seed=seed,
            max_rejected=max_rejected,
        )
        manifest = json.loads((output / name / "manifest.json").read_text())
        counts[name] = manifest["records"]
        lost = [found.names[k] for k in {k for _, k in rows} if str(k) not in manifest["classes"]]
        if lost and name == "train":
            raise SourceError(
                f"{source}: no image of {', '.join(sorted(lost)[:5])} can be used to train; see "
                f"{output / name / 'rejected.tsv'}, mend them, and delete {output}"
            )
    write_dictionary(output / dictionary.BESIDE, found.names)
    write_json(output / DONE, settings | {"class_num": len(found.names)} | counts)
    shutil.rmtree(output / "images", ignore_errors=True)
    return Dataset(len(found.names), **counts)


def _claim(output, settings):
    """Makes the folder `output` ours, which nothing but a call with these `settings` writes into.

    Returns the `Dataset` if it is there already, else None; ValueError if the folder holds something else.
    """
    there = described(output)
    if there is None and output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} holds other things than records of a dataset; give a new folder")
    other = [f"{name} {(there or {}).get(name)}, now {value}" for name, value in settings.items()
             if (there or settings).get(name) != value]  # fmt: skip
    # A beginning without shards, after a typing error say, binds nobody.
    if other and ("class_num" in there or any(output.glob("*/*.tfrecords"))):
        raise ValueError(
            f"{output} holds records made with other settings ({'; '.join(other)}); give another folder, or delete "
            "that one"
        )
    if there and "class_num" in there and not other:
        return Dataset(*(there[name] for name in Dataset._fields))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / DONE, settings)
    return None


def described(output):
    """Returns what dataset.json of a folder says: settings and, once all is there, a `Dataset`'s; None without it."""
    path = Path(output, DONE)
    return json.loads(path.read_text()) if path.exists() else None


def _without_odd_names(source):
    """Leaves out images whose names an image list cannot hold, and says so."""
    odd = [path for path, _ in (*source.train, *(source.val or ())) if not image_list.can_hold(path)]
    if not odd:
        return source
    print(f"{len(odd):,} images left out, whose names hold a tab or line end, or are not UTF-8: {ascii(odd[0])}, …")
    train, val = ([row for row in rows if image_list.can_hold(row[0])] for rows in (source.train, source.val or ()))
    return source._replace(train=train, val=None if source.val is None else val)


def read(source, scratch, manual_dir=None) -> Source:
    """Finds the images and classes of `source`, KIND:PLACE. `scratch`: folder for images that come in no files."""
    kind, _, place = source.partition(":")
    if kind not in KINDS or not place:
        raise SourceError(f"--dataset={source}: write it as one of {'; '.join(KINDS.values())}")
    if kind == "tfds":
        return _tfds(place, scratch, manual_dir)
    if not Path(place).exists():
        raise SourceError(f"--dataset={source}: there is no {place}")
    return {"folder": _folder, "caltech256": _caltech256, "imagenet": _imagenet}[kind](Path(place))


def _folder(folder):
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise SourceError(f"{folder}: no folders in it; make one for each class, with its images")
    rows = []
    for k, name in enumerate(names):
        found = [Path(path).relative_to(folder).as_posix() for path in image_files.image_paths(folder / name)]
        if not found:
            raise SourceError(f"{folder / name}: no images in this class folder; fill it, or take it away")
        rows += [(path, k) for path in found]
    return Source(folder, names, rows)


def _caltech256(place):
    """Caltech-256 (Griffin et al. 2007): 256 classes in folders 001.ak47 to 256.toad, without the 257th, clutter."""
    if place.is_dir() and (place / f"{CALTECH}.tar").is_file():
        place = place / f"{CALTECH}.tar"
    if place.is_file():
        if place.suffix != ".tar":
            raise SourceError(f"{place}: no .tar; give {CALTECH}.tar, as it was fetched")
        paths = archives.names(place)
        archives.tell_damaged(place)
        images, prefix = place.parent, f"{place.stem}/"
    else:
        images, prefix = (place / CALTECH if (place / CALTECH).is_dir() else place), ""
        paths = [Path(path).relative_to(images).as_posix() for path in image_files.image_paths(images)]
    # A few images lie in folders below a class's: left behind by its authors, doubles of others.
    pattern = re.compile(rf"(?:{CALTECH}/)?(\d{{3}}\.[^/]+)/[^/]+")
    matches = [match for match in map(pattern.fullmatch, paths) if match and match[1] != CLUTTER]
    folders = sorted({match[1] for match in matches})
    if not folders:
        raise SourceError(f"{place}: no images like {CALTECH}/001.ak47/001_0001.jpg in it; is it Caltech-256?")
    left_out = len(paths) - len(matches)
    if left_out:
        print(f"{place}: {left_out:,} images of {CLUTTER} or outside of class folders are left out")
    if len(folders) != 256:
        print(f"{place}: {len(folders)} of 256 classes are in it; the network will have as many")
    numbers = {name: k for k, name in enumerate(folders)}
    rows = [(prefix + match[0], numbers[match[1]]) for match in matches]
    return Source(images, [name.partition(".")[2] for name in folders], rows)


def _imagenet(folder):
    """ILSVRC2012, with its classes in the published order: that of their WordNet ids."""
    if (folder / "train").is_dir():
        paths = [f"train/{row.path}" for row in labeled_images.imagenet(folder / "train")]
    else:
        archive = _needed(folder, "ILSVRC2012_img_train.tar")
        paths = [f"ILSVRC2012_img_train/{name}" for name in archives.names(archive)]
        archives.tell_damaged(archive)
    wnids = sorted({path.split("/")[1] for path in paths})
    numbers = {wnid: k for k, wnid in enumerate(wnids)}
    train = [(path, numbers[path.split("/")[1]]) for path in paths]
    words = {}
    if (folder / "val").is_dir() and any(path.is_dir() for path in (folder / "val").iterdir()):
        val = [(f"val/{row.path}", next(iter(row.labels))) for row in labeled_images.imagenet(folder / "val")]
    else:
        truth, words = _devkit(folder)
        if (folder / "val").is_dir():
            paths = [f"val/{Path(path).name}" for path in image_files.image_paths(folder / "val")]
        else:
            archive = _needed(folder, "ILSVRC2012_img_val.tar")
            paths = [f"ILSVRC2012_img_val/{name}" for name in archives.names(archive)]
            archives.tell_damaged(archive)
        if len(paths) != len(truth):
            raise SourceError(f"{folder}: {len(paths):,} validation images, but {GROUND_TRUTH} has {len(truth):,}")
        val = list(zip(sorted(paths), truth, strict=True))
    unknown = sorted({wnid for _, wnid in val} - numbers.keys())
    if unknown:
        raise SourceError(f"{folder}: {len(unknown):,} classes of validation have no training images: {unknown[:3]}")
    return Source(folder, [words.get(wnid, wnid) for wnid in wnids], train, [(p, numbers[wnid]) for p, wnid in val])


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
    from data_processing import tfds_caltech256  # noqa: F401 (registers ours)
    from data_processing.sources.labeled_images import tfds_source  # noqa: F401 (registers ours)

    names, splits = tfds_source.describe(name, manual_dir=manual_dir)
    numbers = {name: k for k, name in enumerate(names)}
    if "train" not in splits:
        raise SourceError(f"tfds:{name}: it has no split train, only {', '.join(splits)}")
    other = next((part for part in ("validation", "test") if part in splits), None)
    parts = {}
    for part in filter(None, ("train", other)):
        found = tfds_source.images(name, part, scratch, manual_dir=manual_dir)
        parts[part] = [(row.path, numbers[next(iter(row.labels))]) for row in found if row.labels]
    return Source(Path(scratch), names, parts["train"], parts.get(other))


def write_dictionary(path, names):
    """Writes a single-label dictionary: index and name of each class."""
    write_text(path, "".join(f"{k}\t{' '.join(name.split())}\n" for k, name in enumerate(names)))
