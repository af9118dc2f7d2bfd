"""The layout of PASCAL VOC: boxes in XML, masks of classes as palette PNG, and the lists of ImageSets.

Boxes in the files count pixels from 1 and include both ends, as in the VOC development kit.
"""

from operator import itemgetter
from pathlib import Path
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from demo import world

# Index of border pixels in masks: neither ground nor thing, left out of loss and score.
BORDER = 255
# A thing of which less than this share is visible is marked difficult, which leaves it out of the score.
DIFFICULT = 0.45


def colour_map() -> np.ndarray:
    """Returns the palette of VOC, uint8 [256, 3]: red, green and blue take the index's bits one after the other."""
    index = np.arange(256)
    channels = []
    for channel in range(3):
        bits = sum(((index >> (3 * k + channel)) & 1) << (7 - k) for k in range(3))
        channels.append(bits)
    return np.stack(channels, axis=1).astype(np.uint8)


def annotation(name, scene) -> bytes:
    """Returns the XML of a `Scene` whose things all have a VOC class. `name`: the image's, without ending."""
    height, width = scene.owner.shape
    root = ET.Element("annotation")
    _add(root, folder="voc", filename=f"{name}.jpg")
    _add(ET.SubElement(root, "source"), database="demo world", annotation="demo world", image="OpenMoji")
    _add(ET.SubElement(root, "size"), width=width, height=height, depth=3)
    _add(root, segmented=1)
    things = world.read().things
    for item in scene.objects:
        element = ET.SubElement(root, "object")
        _add(element, name=things[item.thing].voc, pose="Unspecified", truncated=int(item.truncated))
        _add(element, occluded=int(item.occluded), difficult=int(item.visible < DIFFICULT))
        left, top, right, bottom = item.box
        _add(ET.SubElement(element, "bndbox"), xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8") + b"\n"


def mask(scene) -> Image.Image:
    """Returns the classes of a `Scene` as an image of mode "P": 0 ground, 1 to 20 VOC class, BORDER between things."""
    things = world.read().things
    index = [world.VOC_CLASSES.index(things[item.thing].voc) + 1 for item in scene.objects]
    owner = scene.owner
    pixels = np.array([*index, 0], np.uint8)[owner]  # owner -1, the ground, takes the last entry
    across, down = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    pixels[:, 1:][across] = pixels[:, :-1][across] = BORDER
    pixels[1:][down] = pixels[:-1][down] = BORDER
    image = Image.fromarray(pixels).convert("P")
    image.putpalette(colour_map().tobytes())
    return image


def write_image_sets(folder, train, val):
    """Writes ImageSets/Main and ImageSets/Segmentation.

    Args:
      folder: of the VOC layout.
      train, val: a row (name, classes) for each image; see `classes_shown`.
    """
    main, segmentation = Path(folder) / "ImageSets" / "Main", Path(folder) / "ImageSets" / "Segmentation"
    main.mkdir(parents=True)
    segmentation.mkdir(parents=True)
    for split, rows in {"train": train, "val": val, "trainval": sorted(train + val, key=itemgetter(0))}.items():
        text = "".join(f"{name}\n" for name, _ in rows)
        (main / f"{split}.txt").write_text(text)
        (segmentation / f"{split}.txt").write_text(text)
        for voc_class in world.VOC_CLASSES:
            # 1: there; 0: only difficult ones; -1: not there.
            marks = ((name, 1 - classes[voc_class] if voc_class in classes else -1) for name, classes in rows)
            (main / f"{voc_class}_{split}.txt").write_text("".join(f"{name} {mark:2d}\n" for name, mark in marks))


def classes_shown(scene) -> dict[str, bool]:
    """Returns {VOC class: whether all things of it are difficult} of a `Scene`."""
    classes = {}
    for item in scene.objects:
        voc_class = world.read().things[item.thing].voc
        classes[voc_class] = classes.get(voc_class, True) and item.visible < DIFFICULT
    return classes


def _add(parent, **children):
    for tag, value in children.items():
        ET.SubElement(parent, tag).text = str(value)
