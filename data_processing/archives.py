"""Pictures inside tar archives, read where they lie: `n02084071/n02084071_8388.JPEG` in `n02084071.tar`.

An archive is gone through once, from header to header, without reading what is between. An archive inside of it, as in
ImageNet's ILSVRC2012_img_train.tar, stands for a folder of its name. Members that are not plain files, or whose names
would leave the folder, do not count.
"""

from functools import cache
import hashlib
import os
from pathlib import Path
import tarfile

from absl import logging
import numpy as np

from data_processing import pictures


class ArchiveError(ValueError):
    """An archive is damaged; the message names it."""


def read_file(folder, path, max_pixels):
    """Returns the bytes of a picture at `path` below `folder`, or in an archive in the place of one of its folders.

    Raises PictureError or OSError as `pictures.read_file` does.
    """
    joined = pictures.safe_join(folder, path)
    places = () if joined.exists() else Path(path).parents[:-1]
    parent = next((parent for parent in places if Path(folder, f"{parent}.tar").is_file()), None)
    if parent is None:
        return pictures.read_file(joined, max_pixels)
    archive = pictures.safe_join(folder, f"{parent}.tar")
    digests, places = _index(str(archive))
    digest = _digest(str(Path(path).relative_to(parent)))
    at = np.searchsorted(digests, digest)
    if at == len(digests) or digests[at] != digest:
        raise pictures.PictureError(f"not in {archive.name}")
    offset, size = places[at].tolist()
    if size > 4 * max_pixels + 2**24:
        raise pictures.PictureError(f"{size} bytes, too many for {max_pixels} pixels")
    with open(archive, "rb") as file:
        data = os.pread(file.fileno(), size, offset)
    if len(data) < size:
        raise pictures.PictureError(f"{archive.name} is cut short")
    return data


def names(archive):
    """Returns the names, sorted, of the pictures in an archive."""
    return sorted(_members(str(archive)))


def damaged() -> list[str]:
    """Returns the archives that this process went through and found damaged, "ARCHIVE: NAME" for one inside of another.

    Their pictures up to the damage count.
    """
    return list(_damaged)


# ImageNet has 21,841 archives, and pictures come in any order, so all indices are kept, in each process that reads: 24
# bytes a picture, 0.26 GB for 10.7 million. With their names they would take eight times as much.
@cache
def _index(archive):
    """Where pictures are: sorted digests of their names, uint64 [n]; offsets and sizes in bytes, int64 [n, 2]."""
    members = _members(archive)
    digests = np.fromiter(map(_digest, members), np.uint64, len(members))
    order = np.argsort(digests)
    return digests[order], np.array([*members.values()], np.int64).reshape(-1, 2)[order]


def _digest(name):
    """64 bits: that two of a million names share them has a chance of three in a hundred million."""
    return np.uint64(int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big"))


_damaged = {}


def _members(archive):
    """{name: (offset, size)} of an archive's pictures, in bytes."""
    found = {}
    try:
        with tarfile.open(archive, "r:") as file:
            _add_members(found, file, "", 0)
    except tarfile.TarError as error:
        if not found:
            raise ArchiveError(f"{archive}: no tar archive, or damaged: {error}; fetch it again") from error
        _damaged[archive] = None
        logging.warning("%s: damaged after %d pictures (%s); the others are left out", archive, len(found), error)
    return found


def _add_members(found, file, prefix, start):
    """Adds the pictures of an open archive, which begins at byte `start` of the outermost one."""
    for member in file:
        # tarfile keeps what it has read, for a use that there is none of here.
        file.members = []
        name = member.name.removeprefix("./")
        if not member.isreg() or name.startswith("/") or ".." in name.split("/"):
            continue
        if name.lower().endswith(pictures.EXTENSIONS):
            found[prefix + name] = (start + member.offset_data, member.size)
        elif name.endswith(".tar") and not prefix:
            try:
                with tarfile.open(fileobj=file.extractfile(member), mode="r:") as inner:
                    _add_members(found, inner, f"{name.removesuffix('.tar')}/", start + member.offset_data)
            except tarfile.TarError as error:
                _damaged[f"{file.name}: {name}"] = None
                logging.warning("%s: %s in it is damaged (%s); its other pictures are left out", file.name, name, error)
