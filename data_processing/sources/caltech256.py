"""Caltech-256 as its authors publish it: one archive of class folders."""

from pathlib import Path
import re

from data_processing.images import archives, image_files
from data_processing.sources.labeled_images import Source, SourceError, check_links, single_label_rows

FOLDER = "256_ObjectCategories"
ARCHIVE = f"{FOLDER}.tar"
CLUTTER = "257.clutter"


def read(place) -> Source:
    """Caltech-256 (Griffin et al. 2007): 256 classes in folders 001.ak47 to 256.toad, without the 257th, clutter.

    Args:
      place: path of the archive, of the folder that it or its folder is in, or of the folder of class folders.
    """
    if place.is_dir() and (place / ARCHIVE).is_file():
        place = place / ARCHIVE
    if place.is_file():
        if place.suffix != ".tar":
            raise SourceError(f"{place}: no .tar; give {ARCHIVE}, as it was fetched")
        check_links(place.parent, [place])
        paths = archives.names(place)
        archives.report_damage(place)
        images, prefix = place.parent, f"{place.stem}/"
    else:
        images, prefix = (place / FOLDER if (place / FOLDER).is_dir() else place), ""
        paths = [Path(path).relative_to(images).as_posix() for path in image_files.image_paths(images)]
    # A few images lie in folders below a class's: left behind by its authors, doubles of others.
    pattern = re.compile(rf"(?:{FOLDER}/)?(\d{{3}}\.[^/]+)/[^/]+")
    matches = [match for match in map(pattern.fullmatch, paths) if match and match[1] != CLUTTER]
    folders = sorted({match[1] for match in matches})
    if not folders:
        raise SourceError(f"{place}: no images like {FOLDER}/001.ak47/001_0001.jpg in it; is it Caltech-256?")
    left_out = len(paths) - len(matches)
    if left_out:
        print(f"{place}: {left_out:,} images of {CLUTTER} or outside of class folders are left out")
    if len(folders) != 256:
        print(f"{place}: {len(folders)} of 256 classes are in it; the network will have as many")
    numbers = {name: k for k, name in enumerate(folders)}
    rows = [(prefix + match[0], numbers[match[1]]) for match in matches]
    return Source(images, [name.partition(".")[2] for name in folders], single_label_rows(rows))
