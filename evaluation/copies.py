"""Where the files that belong to images are to be: in a folder of their own, in the tree of the images."""

import os
from pathlib import Path

from PIL import Image

from data_processing.images.image_files import JPEG_QUALITY, is_inside
from utils.files import atomic_write

JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif")


def same_ending(name):
    """Returns the name of an image, with .png behind it if it ends neither as a JPEG nor as a PNG."""
    return name if name.lower().endswith((*JPEGS, ".png")) else f"{name}.png"


def png(name):
    """Returns the name of an image, with .png in the place of its ending."""
    return os.path.splitext(name)[0] + ".png"


def targets(files, images, folder, flag, name_of=same_ending) -> list[Path]:
    """Returns where the file that belongs to each image is to be, so that none is an image that is read.

    Args:
      files: list of what has a path, `file`.
      images: the folder that they are in, or the list or the image, as a user gave it.
      folder: of the new files. They lie in it as the images do below `images` or, if that is no folder, below the
        deepest one that holds all of them.
      flag: that the user gave `folder` with, "--draw".
      name_of: function from the name of an image to that of its file. Where another image has that, .png follows the
        image's name, as often as it takes so that no two images have one file.

    Raises ValueError if a file would replace an image, or lie outside of `folder`, or where it will be taken for one of
    the images.
    """
    # (No file's name has a null byte, but a list may hold one.)
    paths = [os.path.abspath(image.file.replace("\0", "_")) for image in files]
    if os.path.isdir(images):
        if is_inside(folder, images):
            raise ValueError(f"{flag}={folder} lies in {images}, and would be read with it; name a folder elsewhere")
        root = os.path.abspath(images)
    else:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    read = {os.path.realpath(path) for path in paths}
    folders = {os.path.dirname(path) for path in read}
    made = [Path(folder, name) for name in _names([os.path.relpath(path, root) for path in paths], name_of)]
    for one in made:
        if os.path.realpath(one) in read:
            raise ValueError(f"{flag}={folder}: {one} is one of the images that are read; name another folder")
        if not is_inside(one, folder):
            raise ValueError(f"{flag}={folder}: a link in it leads {one} out of it; name another folder")
        if os.path.realpath(one.parent) in folders:
            raise ValueError(f"{flag}={folder}: {one} would lie among images; name another folder")
    return made


def _names(names, name_of):
    """Returns the name of the file of each image, by names of images: equal ones for equal ones alone."""
    made = {name: name for name in names if name_of(name) == name}
    taken = set(made)
    for name in dict.fromkeys(names):
        if name not in made:
            one = name_of(name)
            one = f"{name}.png" if one in taken else one
            while one in taken:
                one += ".png"
            made[name] = one
            taken.add(one)
    return [made[name] for name in names]


def write(path, image):
    """Writes an image, uint8 [height, width, 3], as a JPEG or PNG by the ending of its path; its folder is made."""
    with atomic_write(path) as temp_path:
        form = "JPEG" if path.suffix.lower() in JPEGS else "PNG"
        Image.fromarray(image).save(temp_path, form, quality=JPEG_QUALITY)
