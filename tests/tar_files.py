"""Tar archives of small images, written as a user's are, for several tests."""

import io
import tarfile

import numpy as np
from PIL import Image


def image(seed=0):
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()


def archive(path, members):
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(data or b"")
            file.addfile(member, io.BytesIO(data or b""))
