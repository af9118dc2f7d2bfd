"""Small archives in the layouts of published data sets, for several tests."""

import io
import tarfile

import numpy as np
from PIL import Image


def jpeg(seed):
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()


def archive(members):
    """A tar archive, as bytes, of names and contents; None is a link out of the folder."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(content or b"")
            file.addfile(member, io.BytesIO(content or b""))
    return data.getvalue()


def caltech(classes=("001.ak47", "002.american-flag", "257.clutter"), pictures=6):
    return {
        f"256_ObjectCategories/{name}/{name[:3]}_{k:04d}.jpg": jpeg([int(name[:3]), k])
        for name in classes
        for k in range(1, pictures + 1)
    }
