"""The demo's scenes as VOC lays out its data: boxes in XML, masks as palette PNG, and lists of images."""

import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from demo import scenes

FOLDERS = (
    "voc/JPEGImages",
    "voc/Annotations",
    "voc/SegmentationClass",
    "voc/ImageSets/Main",
    "voc/ImageSets/Segmentation",
)
# As many as VOC has: the most frequent ones.
CLASSES = 20


def class_names():
    """Names of the classes with boxes and masks, in the order of their indices in the masks, from 1."""
    return [one.name.replace(" ", "") for one in scenes.load_classes()[1][:CLASSES]]


def write_scene(folder, name, jpeg, scene):
    """Writes the picture, the boxes and the mask of a scene."""
    (folder / f"voc/JPEGImages/{name}.jpg").write_bytes(jpeg)
    ET.indent(annotation := _annotation(name, scene))
    ET.ElementTree(annotation).write(folder / f"voc/Annotations/{name}.xml", encoding="utf-8")
    mask = np.zeros(scene.owner.shape, np.uint8)
    for k, thing in enumerate(scene.things):
        mask[scene.owner == k] = _class_index(thing) + 1
    image = Image.fromarray(mask).convert("P")
    image.putpalette(palette())
    image.save(folder / f"voc/SegmentationClass/{name}.png")


def write_image_sets(folder, split, things):
    """Writes which scenes belong to "train" or "val" and, for each class, which show it (1) and which do not (-1)."""
    names = [f"{split}_{k + 1:06d}" for k in range(len(things))]
    for kind in ("Main", "Segmentation"):
        (folder / f"voc/ImageSets/{kind}/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for index, class_name in enumerate(class_names()):
        shown = [1 if any(_class_index(thing) == index for thing in one) else -1 for one in things]
        lines = [f"{name} {present:2d}\n" for name, present in zip(names, shown, strict=True)]
        (folder / f"voc/ImageSets/Main/{class_name}_{split}.txt").write_text("".join(lines))


def palette():
    """The colours of VOC's masks, 768 values: the bits of an index, from its low ones, become high bits of R, G, B."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8).ravel().tolist()


def _class_index(thing):
    """The thing's class among `class_names`, or -1 if it is none of them."""
    frequent = [one.index for one in scenes.load_classes()[1][:CLASSES]]
    return frequent.index(thing.emoji.index) if thing.emoji.index in frequent else -1


def _annotation(name, scene):
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = "voc"
    ET.SubElement(root, "filename").text = f"{name}.jpg"
    _numbers(root, "size", width=scene.image.width, height=scene.image.height, depth=3)
    ET.SubElement(root, "segmented").text = "1"
    for thing in scene.things:
        index = _class_index(thing)
        if index < 0:
            continue
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = class_names()[index]
        ET.SubElement(item, "pose").text = "Unspecified"
        ET.SubElement(item, "truncated").text = str(int(thing.truncated))
        ET.SubElement(item, "difficult").text = str(int(thing.visible < 0.5))
        left, top, right, bottom = thing.box
        # VOC counts pixels from 1 and includes the last one.
        _numbers(item, "bndbox", xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
    return root


def _numbers(parent, name, **values):
    element = ET.SubElement(parent, name)
    for key, value in values.items():
        ET.SubElement(element, key).text = str(value)
