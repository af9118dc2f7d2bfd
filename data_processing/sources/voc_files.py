"""Where a development kit of PASCAL VOC lies: in a folder or in the published tars, which are never unpacked.

Its annotations and lists are read into memory, up to a limit of their size; its images are only named, as records read
them (`images/archives.py`).
"""

import os
from pathlib import Path
import re
import stat
from typing import NamedTuple

from data_processing.images import archives, image_files
from data_processing.sources.labeled_images import SourceError, check_links

TARS = {
    2007: ("VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"),
    2012: ("VOCtrainval_11-May-2012.tar",),
}
FOLDERS = ("Annotations", "ImageSets", "JPEGImages", "SegmentationClass")
# Of what a tar holds, a year and what of it is wanted: "VOCdevkit/VOC2007/Annotations/000001.xml".
MEMBER = re.compile(
    r"(?:.*/)?VOC(\d{4})/((?:Annotations|ImageSets/(?:Main|Segmentation)|JPEGImages|SegmentationClass)/[^/]+)"
)
YEAR_FOLDER = re.compile(r"VOC\d{4}")
ENDINGS = (".xml", ".txt", ".jpg", ".png")


class Unreadable(ValueError):
    """A file of a devkit cannot be read; the message says why, not which."""


class Folder(NamedTuple):
    """A year in a folder: `name`, relative to `root`, which the paths of images are relative to."""

    root: Path
    name: str

    def where(self, name):
        """The place of a file of the year, "Annotations/000001.xml", for messages."""
        return str(self.root / self.name / name)

    def has(self, name):
        return (self.root / self.name / name).is_file()

    def image(self, name):
        """The path of an image "JPEGImages/000001.jpg" in records, and of other files below `root`."""
        return f"{self.name}/{name}"

    def read(self, name, most):
        """Returns the bytes of a file of the year. Raises `Unreadable` if it is not there, or longer than `most`."""
        try:
            path = image_files.safe_join(self.root, f"{self.name}/{name}")
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a file")
            _check_size(status.st_size, most)
            return path.read_bytes()
        except FileNotFoundError as error:
            raise Unreadable("missing") from error
        except (OSError, image_files.ImageError) as error:
            raise Unreadable(getattr(error, "strerror", None) or str(error)) from error


class Tars(NamedTuple):
    """A year in tars: {"Annotations/000001.xml": (tar, name in it, (offset, size))}, and the folder of the tars."""

    root: Path
    archives: tuple[Path, ...]
    files: dict

    def where(self, name):
        """As of a `Folder`."""
        archive, member, _ = self.files.get(name, (self.archives[0], name, None))
        return f"{archive}: {member}"

    def has(self, name):
        return name in self.files

    def image(self, name):
        """As of a `Folder`; one that is in no tar is looked for, and missed, in the first."""
        archive, member, _ = self.files.get(name, (self.archives[0], name, None))
        return f"{archive.relative_to(self.root).as_posix().removesuffix('.tar')}/{member}"

    def read(self, name, most):
        """As of a `Folder`."""
        if name not in self.files:
            raise Unreadable("missing")
        archive, _, place = self.files[name]
        _check_size(place[1], most)
        data = archives.read_place(archive, place)
        if len(data) < place[1]:
            raise Unreadable("truncated, as the tar is")
        return data


def _check_size(size, most):
    if size > most:
        raise Unreadable(f"{size:,} bytes, more than {most:,}")


def find(place, years) -> tuple[Path, dict[int, Folder | Tars]]:
    """Returns the folder that the paths of images are relative to, and each of the years.

    Args:
      place: VOCdevkit, the folder that holds it, VOC2007 itself (of a single year, under any name), a folder of the
        published tars, or tars with "," between them.
      years: those that must be there.

    Raises SourceError if one is not, or if a link leads out of the folder.
    """
    paths = [Path(os.path.realpath(part)) for part in ([place] if Path(place).exists() else str(place).split(","))]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise SourceError(f"there is no {missing[0]}; give VOCdevkit, VOC{years[0]}, or the published tars")
    if len(paths) > 1 or paths[0].is_file():
        root = Path(os.path.commonpath([path.parent for path in paths]))
        found = _in_tars(root, paths)
    else:
        root, found = _in_folder(paths[0], years)
    if lost := [year for year in years if year not in found]:
        names = " and ".join(TARS[lost[0]])
        raise SourceError(
            f"{place}: no VOC{lost[0]} in it; give VOCdevkit, the folder that it is in, VOC{lost[0]} itself, or "
            f"{names} (http://host.robots.ox.ac.uk/pascal/VOC/voc{lost[0]}/)"
        )
    return root, {year: found[year] for year in years}


def _in_folder(folder, years):
    if any((folder / name).is_dir() for name in FOLDERS):
        if YEAR_FOLDER.fullmatch(folder.name) or len(years) > 1:
            folder = folder.parent
        else:
            _check_links(folder.parent, folder)
            return folder.parent, {years[0]: Folder(folder.parent, folder.name)}
    found = {}
    for year in years:
        names = (f"VOC{year}", f"VOCdevkit/VOC{year}", f"VOCdevkit{year}/VOC{year}")
        name = next((name for name in names if (folder / name).is_dir()), None)
        tars = [folder / name for name in TARS[year] if (folder / name).is_file()]
        if name:
            _check_links(folder, folder / name)
            found[year] = Folder(folder, name)
        elif tars:
            check_links(folder, tars)
            found |= {key: value for key, value in _in_tars(folder, tars).items() if key == year}
    return folder, found


def _check_links(root, folder):
    check_links(root, [folder, *(folder / name for name in FOLDERS if (folder / name).exists())])


def _in_tars(root, tars):
    """{year: `Tars`} of all that tars hold."""
    files = {}
    for tar in tars:
        if tar.suffix != ".tar":
            raise SourceError(f"{tar}: no .tar; give the folder VOCdevkit, or the tars as they are published")
        for name, place in archives.places(tar, ENDINGS).items():
            if match := MEMBER.fullmatch(name):
                files.setdefault(int(match[1]), {}).setdefault(match[2], (tar, name, place))
        archives.report_damage(tar)
    return {year: Tars(root, tuple(tars), of_year) for year, of_year in files.items()}
