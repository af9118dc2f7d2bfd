"""Images and masks of one's own: masks:IMAGES,MASKS, two folders. A mask has the path of its image, and ends in .png.

Classes are the indices in the masks. MASKS/classes.txt may name them, one a line, from 0 on, and so says how many there
are; without it there are as many as the highest index says, called "0", "1", …. Where IMAGES has train/ and val/, these
are the splits.
"""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import re

from data_processing.images import archives, image_files, mask_files
from data_processing.lists import image_list, mask_list
from data_processing.sources.labeled_images import Source, SourceError
from utils.files import sha256

NAMES = "classes.txt"
SPLITS = ("train", "val")


def places(place) -> tuple[Path, Path]:
    """Returns the two folders of IMAGES,MASKS; either may hold commas."""
    for comma in re.finditer(",", place):
        images, masks = Path(place[: comma.start()]), Path(place[comma.end() :])
        if images.is_dir() and masks.is_dir():
            return images, masks
    raise SourceError(f"--dataset=masks:{place}: not IMAGES,MASKS of two folders that are there")


def settings(place, void) -> dict:
    """Returns what records depend on besides the place, for dataset.json."""
    path = places(place)[1] / NAMES
    return {"void": void, "classes_sha256": sha256(path) if path.is_file() else None}


def read(place, void) -> Source:
    """Returns the images of IMAGES,MASKS, sorted, with an index `void` of pixels without a class.

    Raises SourceError if there are none, or no mask that can be used.
    """
    images, masks = places(place)
    folder = str(masks.resolve())
    links, rows, of_mask = [], [], {}
    for path in image_files.image_paths(images, links):
        name = os.path.relpath(path, images)
        if not image_list.can_hold(name):
            print(f"left out, since its name holds a tab or line end, or is not UTF-8: {ascii(name)}")
            continue
        mask = str(Path(name).with_suffix(".png"))
        problem = f"mask: {mask} is that of {of_mask[mask]}, too" if mask in of_mask else ""
        of_mask.setdefault(mask, name)
        rows.append(mask_list.Row(name, folder, mask, problem))
    if links:
        print(f"{len(links):,} links that lead out of {images} left out: {links[0]}, …")
    if not rows:
        raise SourceError(f"{images}: no images in it, files that end in {', '.join(image_files.EXTENSIONS)}")
    names = class_names(masks, rows, void)
    if not all((images / split).is_dir() for split in SPLITS):
        return Source(images, names, rows, kind="masks")
    parts = {split: [row for row in rows if Path(row.path).parts[0] == split] for split in SPLITS}
    return Source(images, names, parts["train"], parts["val"], kind="masks")


def class_names(folder, rows, void) -> list[str]:
    """Returns the names of the classes in masks: those of `folder`/classes.txt or, without it, the indices as text.

    Args:
      folder: of the masks.
      rows: a `mask_list.Row` each. Without names all masks are read for the highest index but `void`.
      void: index of pixels without a class.

    Raises SourceError for names that are empty, that come twice or are too many, and if no mask can be used.
    """
    path = Path(folder, NAMES)
    if path.is_file():
        with open(path, "rb") as file:
            names = [image_list.decode_line(line, f"{path}:{k}").strip() for k, line in enumerate(file, start=1)]
        for number, name in enumerate(names, start=1):
            if not name or name in names[: number - 1]:
                raise SourceError(f"{path}:{number}: {name!r} is empty, or came before; write a class's name a line")
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda row: _highest(row, void), rows))
        highest = max((index for index, _ in found), default=-1)
        if highest < 0:
            reason = next((f"{row.mask}: {why}" for row, (_, why) in zip(rows, found, strict=True) if why), "all void")
            raise SourceError(f"{folder}: no mask in it can be used; the first: {reason}")
        names = [str(k) for k in range(highest + 1)]
        print(f"{len(names)} classes, by the highest index in the masks; {path} may name them, one a line")
    if not 0 < len(names) <= mask_files.VOID:
        raise SourceError(
            f"{folder}: {len(names)} classes; there may be 1 to {mask_files.VOID}, indices from 0 on: name them in "
            f"{NAMES}, one a line, and with --void the index that is none"
        )
    return names


def _highest(row, void):
    """The highest index but `void` in a mask, -1 without one; and why the mask cannot be used, or ""."""
    try:
        data = archives.read_file(row.folder, row.mask, image_files.MAX_PIXELS)
        size = mask_files.png_size(data)
        if size[0] * size[1] > image_files.MAX_PIXELS:
            return -1, "{} x {} pixels, too many".format(*size)
        indices = mask_files.read(data, size)
        return max((k for k in range(256) if k != void and (indices == k).any()), default=-1), ""
    except (OSError, image_files.ImageError) as error:
        return -1, getattr(error, "strerror", None) or str(error)
