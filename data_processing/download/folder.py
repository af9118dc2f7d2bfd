"""The folder of images that were fetched.

An image gets its name when it has been found to be an image. Its name follows from its URL alone,
"images/3f/3f0c….jpg", so that no two collide, none leaves the folder, and what is there need not be fetched again.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from data_processing.images import image_files

ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}


def digest(url) -> str:
    """Returns what the name of a URL's image is made of: 32 hexadecimal digits."""
    return hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def find(folder, url) -> str | None:
    """Returns the path, below `folder`, of the image that was fetched from a URL, or None."""
    name = digest(url)
    for ending in ENDINGS.values():
        path = f"images/{name[:2]}/{name}{ending}"
        with contextlib.suppress(OSError):
            # A power cut may leave a name without its content.
            if os.path.getsize(os.path.join(folder, path)):
                return path
    return None


def keep(temp_path, folder, name, max_pixels, resize_short) -> str:
    """Checks that a file is an image, makes it smaller if asked to, and gives it its name; returns its path.

    Raises ImageError if it is none.

    Args:
      temp_path: of the file, which is moved.
      folder: that images are in.
      name: `digest` of the URL.
      max_pixels: of the largest image.
      resize_short: pixels that the short side is reduced to, or 0: the bytes stay as they are.
    """
    data = temp_path.read_bytes()
    if resize_short:
        temp_path.write_bytes(image_files.as_jpeg(data, max_pixels, resize_short)[0])
        ending = ".jpg"
    else:
        ending = ENDINGS[image_files.check(data, max_pixels)]
    path = f"images/{name[:2]}/{name}{ending}"
    final = Path(folder, path)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temp_path, final)
    return path
