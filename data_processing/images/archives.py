"""Images inside tar archives, read where they lie: `n02084071/n02084071_8388.JPEG` in `n02084071.tar`.

An archive is gone through once, from header to header, without reading what is between. An archive inside of it, as in
ImageNet's ILSVRC2012_img_train.tar, stands for a folder of its name. Members that are not plain files, or whose names
would leave the folder, do not count, nor does a member whose header is damaged: the next header is searched for.
"""

from functools import cache
import hashlib
import os
from pathlib import Path
import tarfile

from absl import logging
import numpy as np

from data_processing.images import image_files


class ArchiveError(ValueError):
    """An archive is damaged; the message names it."""


def read_file(folder, path, max_pixels):
    """Returns the bytes of an image at `path` below `folder`, or in an archive in the place of one of its folders.

    Raises ImageError or OSError as `image_files.read_file` does.
    """
    joined = image_files.safe_join(folder, path)
    places = () if joined.exists() else Path(path).parents[:-1]
    parent = next((parent for parent in places if Path(folder, f"{parent}.tar").is_file()), None)
    if parent is None:
        return image_files.read_file(joined, max_pixels)
    archive = image_files.safe_join(folder, f"{parent}.tar")
    digests, places = _index(str(archive))
    digest = _digest(str(Path(path).relative_to(parent)))
    at = np.searchsorted(digests, digest)
    if at == len(digests) or digests[at] != digest:
        raise image_files.ImageError(f"not in {archive.name}")
    offset, size = places[at].tolist()
    if size > 4 * max_pixels + 2**24:
        raise image_files.ImageError(f"{size} bytes, too many for {max_pixels} pixels")
    data = read_place(archive, (offset, size))
    if len(data) < size:
        raise image_files.ImageError(f"{archive.name} is truncated")
    return data


def names(archive):
    """Returns the names, sorted, of the images in an archive."""
    return sorted(_members(str(archive)))


def places(archive, endings) -> dict[str, tuple[int, int]]:
    """Returns {name: (offset, size)}, in bytes, of the files in an archive whose names end, in lower case, so."""
    return _members(str(archive), endings)


def read_place(archive, place) -> bytes:
    """Returns the bytes at one of `places`; fewer if the archive is truncated."""
    offset, size = place
    with open(archive, "rb") as file:
        return os.pread(file.fileno(), size, offset)


def damaged() -> list[str]:
    """Returns the archives that this process went through and found damaged, "ARCHIVE: NAME" for one inside of another.

    Their images before and behind the damage count; of one that is truncated, those before the cut.
    """
    return list(_damaged)


def report_damage(archive):
    """Prints a line if an archive was found damaged, and for each one inside of it that was."""
    for name in _damaged:
        if name == str(archive) or name.startswith(f"{archive}: "):
            print(f"{name}: damaged, images in it are missing; fetch {archive} again")


# ImageNet has 21,841 archives, and images come in any order, so all indices are kept, in each process that reads: 24
# bytes an image, 0.26 GB for 10.7 million. With their names they would take eight times as much.
@cache
def _index(archive):
    """Where images are: sorted digests of their names, uint64 [n]; offsets and sizes in bytes, int64 [n, 2]."""
    members = _members(archive)
    digests = np.fromiter(map(_digest, members), np.uint64, len(members))
    order = np.argsort(digests)
    return digests[order], np.array([*members.values()], np.int64).reshape(-1, 2)[order]


def _digest(name):
    """64 bits: that two of a million names share them has a chance of three in a hundred million."""
    return np.uint64(int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big"))


_damaged = {}


def _members(archive, endings=image_files.EXTENSIONS):
    """{name: (offset, size)} of an archive's images, or what else ends so, in bytes."""
    try:
        with tarfile.open(archive, "r:", ignore_zeros=True) as file:
            found = _files(file, archive, endings)
    except tarfile.TarError as error:
        raise ArchiveError(f"{archive}: no tar archive, or damaged: {error}; fetch it again") from error
    if not found and archive in _damaged:
        raise ArchiveError(f"{archive}: no tar archive, or damaged: no image found in it; fetch it again")
    return found


def _files(file, label, endings, inside=False):
    """{name: (offset, size)} of the files in an open archive, in bytes; `label` is what `damaged` calls it."""
    found, behind_damage, has_archives, is_damaged = {}, [], False, False
    for member in _headers(file):
        if member is None:
            is_damaged = True
            continue
        name = member.name.removeprefix("./")
        if not member.isreg() or name.startswith("/") or ".." in name.split("/"):
            continue
        if name.lower().endswith(endings):
            found[name] = (member.offset_data, member.size)
            if is_damaged:
                behind_damage.append(name)
        elif name.endswith(".tar") and not inside:
            has_archives = True
            try:
                with tarfile.open(fileobj=file.extractfile(member), mode="r:", ignore_zeros=True) as inner:
                    for path, (offset, size) in _files(inner, f"{label}: {name}", endings, inside=True).items():
                        found[f"{name.removesuffix('.tar')}/{path}"] = (member.offset_data + offset, size)
            except tarfile.TarError as error:
                _note_damage(f"{label}: {name}", error)
    if has_archives:
        # Most likely of an archive inside whose own header is damaged: its name, the class, is lost.
        for name in behind_damage:
            found.pop(name, None)
    if is_damaged:
        _note_damage(label, f"{len(found)} files found")
    return found


def _note_damage(label, what):
    if label not in _damaged:
        logging.warning("%s: damaged (%s); its other files are left out", label, what)
    _damaged[label] = None


def _headers(file):
    """Yields the members of an archive opened with `ignore_zeros`, and None at each place that is damaged.

    To tarfile a block of zeros, or one that is no header, is the end, or (`ignore_zeros`) nothing: it continues at the
    next header. Only at the end of an archive are zeros no damage; that there are any is not asked, since some tools
    write none.
    """
    end = 0
    while True:
        try:
            member = file.next()
        except tarfile.ReadError as error:
            yield None
            if not isinstance(error.__context__, tarfile.SubsequentHeaderError):  # truncated
                return
            # The header of a long name, and none of a member behind it.
            end = file.offset = file.offset + tarfile.BLOCKSIZE
            continue
        if member is None:
            break
        # tarfile keeps what it has read, for a use that there is none of here.
        file.members = []
        if member.offset != end and not _is_header(file, end):
            yield None
        end = file.offset
        yield member
    file.fileobj.seek(end)
    if any(chunk.strip(b"\0") for chunk in iter(lambda: file.fileobj.read(2**20), b"")):
        yield None


def _is_header(file, offset):
    """Whether a header stands at `offset`: one for the whole archive (pax) is no member."""
    file.fileobj.seek(offset)
    try:
        tarfile.TarInfo.frombuf(file.fileobj.read(tarfile.BLOCKSIZE), file.encoding, file.errors)
    except tarfile.HeaderError:
        return False
    return True
