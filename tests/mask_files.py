"""Masks and their files, written as users and other programs write them, for several tests."""

import io

import numpy as np
from PIL import Image
import scipy.io

from tests import voc_devkit

# Colors that are no indices.
PALETTE = np.random.default_rng(5).integers(0, 256, 768, np.uint8).tobytes()


def mask(seed, width=60, height=40, classes=(0, 1, 12, 20, 255)):
    """A mask of coarse noise, uint8 [height, width], of all of these classes."""
    values = np.random.default_rng(seed).choice(classes, (height // 4 + 1, width // 4 + 1)).astype(np.uint8)
    values.flat[: len(classes)] = classes
    return np.ascontiguousarray(values.repeat(4, 0).repeat(4, 1)[:height, :width])


def png(values, palette=PALETTE, **options):
    """A PNG of a palette, or of grey if that is None, of uint8 [height, width]."""
    image = Image.fromarray(values)
    if palette:
        image.putpalette(palette)
    return saved(image, **options)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mat(values, field="Segmentation", compressed=True):
    """A file as SBD's, with boundaries that nobody here asks for."""
    file = io.BytesIO()
    content = {"Boundaries": np.array([[1, 2]], object), field: values, "CategoriesPresent": np.array([[1]], np.uint8)}
    scipy.io.savemat(file, {"GTcls": content}, do_compression=compressed)
    return file.getvalue()


def devkit(folder, train=5, val=4, more=0):
    """VOCdevkit with masks: 2012_000000 … of train, of val, and `more` without a mask. Returns files and masks."""
    ids = [f"2012_{k:06d}" for k in range(train + val + more)]
    images = {name: voc_devkit.jpeg(k, *((60, 40), (40, 60))[k % 2]) for k, name in enumerate(ids)}
    content = voc_devkit.files(images, {}, {}, 2012)
    masks = {name: mask(k, *((60, 40), (40, 60))[k % 2]) for k, name in enumerate(ids)}
    content |= {f"VOC2012/SegmentationClass/{name}.png": png(masks[name]) for name in ids[: train + val]}
    for name, part in (("train", ids[:train]), ("val", ids[train : train + val])):
        content[f"VOC2012/ImageSets/Segmentation/{name}.txt"] = "".join(f"{k}\n" for k in part).encode()
    voc_devkit.unpacked(folder, content)
    return content, masks
