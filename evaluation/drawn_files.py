"""Copies of images with what was found drawn into them, in a folder of their own, in the tree of the images."""

import os
from pathlib import Path

from PIL import Image

from data_processing.images.image_files import JPEG_QUALITY, is_inside
from evaluation import drawing
from utils.files import atomic_write

JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif")


def targets(files, images, folder) -> list[Path]:
    """Returns where the copy of each image is to be, so that none is an image that is read.

    Args:
      files: list of what has a path, `file`.
      images: the folder that they are in, or the list or the image, as a user gave it.
      folder: of the copies. They lie in it as the images do below `images` or, if that is no folder, below the deepest
        one that holds all of them. Names keep their endings; where that is neither of a JPEG nor of a PNG, they get
        .png, as often as it takes so that no two images have one copy.

    Raises ValueError if a copy would replace an image, or lie outside of `folder`, or where it will be taken for one of
    the images.
    """
    # (No file's name has a null byte, but a list may hold one.)
    paths = [os.path.abspath(image.file.replace("\0", "_")) for image in files]
    if os.path.isdir(images):
        if is_inside(folder, images):
            raise ValueError(f"--draw={folder} lies in {images}, and would be read with it; name a folder elsewhere")
        root = os.path.abspath(images)
    else:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    read = {os.path.realpath(path) for path in paths}
    names = _names([os.path.relpath(path, root) for path in paths])
    copies = [Path(folder, name) for name in names]
    for copy in copies:
        if os.path.realpath(copy) in read:
            raise ValueError(f"--draw={folder}: {copy} is one of the images that are read; name another folder")
        if not is_inside(copy, folder):
            raise ValueError(f"--draw={folder}: a link in it leads {copy} out of it; name another folder")
    return copies


def _names(names):
    """Returns the name of the copy of each image, by names of images: equal ones for equal ones alone."""
    copies = {name: name for name in names if name.lower().endswith((*JPEGS, ".png"))}
    taken = set(copies)
    for name in dict.fromkeys(names):
        if name not in copies:
            copy = f"{name}.png"
            while copy in taken:
                copy += ".png"
            copies[name] = copy
            taken.add(copy)
    return [copies[name] for name in names]


def write(path, image, objects, names):
    """Writes a copy of an image, a JPEG or PNG by its ending, with objects drawn into it.

    Args:
      path: of the copy; its folder is made.
      image: uint8 [height, width, 3].
      objects: `box_predictions.FoundObjects`.
      names: of the classes, by index.
    """
    captions = [f"{names[k]} {score:.2f}" for k, score in zip(objects.classes, objects.scores, strict=True)]
    drawn = drawing.draw(image, objects.boxes, captions, [drawing.color_of(int(k)) for k in objects.classes])
    with atomic_write(path) as temp_path:
        form = "JPEG" if path.suffix.lower() in JPEGS else "PNG"
        Image.fromarray(drawn).save(temp_path, form, quality=JPEG_QUALITY)
