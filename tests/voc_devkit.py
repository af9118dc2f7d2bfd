"""A small development kit of PASCAL VOC, written as a user's is, in a folder or in tars, for several tests."""

import io
from pathlib import Path
import tarfile

import numpy as np
from PIL import Image

TRAINVAL, TEST = "VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"
XML = """<annotation>
  <folder>VOC2007</folder><filename>{name}.jpg</filename>
  {size}<segmented>0</segmented>{objects}
</annotation>
"""


def jpeg(seed, width=60, height=40, exif=b""):
    """An image of coarse noise, so that its pixels show which way it lies."""
    pixels = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)[:height, :width]).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def thing(name, box, difficult=0, truncated=0, more=""):
    """An <object>; `box` is xmin, ymin, xmax, ymax, numbers or text, or None."""
    tags = ("xmin", "ymin", "xmax", "ymax")
    bndbox = "" if box is None else "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in zip(tags, box, strict=True))
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>{truncated}</truncated>"
        f"<difficult>{difficult}</difficult>{bndbox and f'<bndbox>{bndbox}</bndbox>'}{more}</object>"
    )


def annotation(*objects, name="000001", size=(60, 40)):
    """An annotation's XML, as bytes."""
    tags = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return XML.format(name=name, size=tags, objects="".join(objects)).encode()


def files(images, annotations, lists, year=2007):
    """{path in VOCdevkit: bytes} of images and annotations by id, and of lists of ids by name."""
    content = {f"JPEGImages/{name}.jpg": data for name, data in images.items()}
    content |= {f"Annotations/{name}.xml": data for name, data in annotations.items()}
    content |= {f"ImageSets/Main/{name}.txt": "".join(f"{k}\n" for k in ids).encode() for name, ids in lists.items()}
    return {f"VOC{year}/{name}": data for name, data in content.items()}


def small(year=2007):
    """`files` of 12 images with an object or two: 4 train, 4 val, 4 test, of which every third is upright."""
    prefix = "" if year == 2007 else f"{year}_"
    ids = [f"{prefix}{k:06d}" for k in range(1, 13)]
    images, annotations = {}, {}
    for k, name in enumerate(ids):
        width, height = (40, 60) if k % 3 == 0 else (60, 40)
        images[name] = jpeg(k, width, height)
        objects = [thing("dog", (1, 1, 20 + k, 30), difficult=k % 2), thing("aeroplane", (5, 6, width, height))]
        annotations[name] = annotation(*objects[: 1 + k % 2], name=name, size=(width, height))
    lists = {"train": ids[:4], "val": ids[4:8], "trainval": ids[:8]} | ({"test": ids[8:]} if year == 2007 else {})
    return files(images, annotations, lists, year)


def unpacked(folder, content):
    """Writes `files` below a folder, and returns it."""
    for name, data in content.items():
        Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_bytes(data)
    return Path(folder)


def packed(path, content, more=()):
    """Writes `files` into a tar as VOC's are, and before them `more`: `tarfile.TarInfo`s without data."""
    with tarfile.open(path, "w") as file:
        for member in more:
            file.addfile(member)
        for name, data in content.items():
            member = tarfile.TarInfo(f"VOCdevkit/{name}")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def packed_as_published(folder, content):
    """Writes `files` of 2007 into the two published tars in a folder, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    test = set(content["VOC2007/ImageSets/Main/test.txt"].decode().split())
    of_test = {name for name in content if Path(name).stem in test | {"test"}}
    packed(folder / TEST, {name: content[name] for name in content if name in of_test})
    packed(folder / TRAINVAL, {name: content[name] for name in content if name not in of_test})
    return folder
