"""Untrusted files of masks, a class for each pixel: PNGs of a palette or of grey, and SBD's .mat.

The index of a pixel counts, never its color. Nothing is decoded before its size is known to be the image's.
"""

import io
import zlib

import numpy as np
from PIL import Image
import scipy.io

from data_processing.images import image_files
from data_processing.images.bare import PNG_MAGIC, ImageError, strip

# What records hold for pixels without a class.
VOID = 255
# How the first chunk of a PNG begins: its length and name.
IHDR = b"\0\0\0\rIHDR"
MAT_MAGIC = b"MATLAB 5.0 MAT-file"
MAT_HEADER, MAT_COMPRESSED, MAT_MATRIX = 128, 15, 14
# An unpacked .mat of SBD has a byte a pixel, and outlines; and some dozen matrices in each other.
MAT_BYTES_PER_PIXEL, MAT_MORE = 16, 2**20
MAT_MATRICES = 4000
CONVERT = (
    'the colors are no indices; save the index of each pixel\'s class, e.g. by Pillow: Image.fromarray(classes, "L"), '
    "where classes is uint8 [height, width]"
)
# Samples of fewer than 8 bits of grey, which Pillow spreads over 0 to 255.
SPREAD = {1: 1, 2: 85, 4: 17}


def read(data, size):
    """Returns the indices in a mask's file, uint8 [height, width].

    Args:
      data: its bytes: a PNG of a palette or of grey, of at most 8 bits, or a .mat of SBD.
      size: (width, height) that it must have, in pixels.

    Raises ImageError, with a reason in a few words, for anything else.
    """
    if not data:
        raise ImageError("empty file")
    if data.startswith(MAT_MAGIC):
        return _read_mat(data, size)
    if not data.startswith(PNG_MAGIC):
        raise ImageError("neither a PNG nor a .mat of SBD")
    return _read_png(data, size)


def png_size(data):
    """Returns (width, height) that a PNG, bytes, says it has. Raises ImageError if it is none."""
    if not data.startswith(PNG_MAGIC) or len(data) < 33:
        raise ImageError("no PNG" if data else "empty file")
    if data[8:16] != IHDR:
        raise ImageError("no PNG: its header is not the first of it")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def to_classes(indices, void, class_num):
    """Returns indices with `void`, 0 to 255, as VOID. Raises ImageError if another one is not below `class_num`."""
    is_class = indices < class_num
    is_void = indices == void
    if not (is_class | is_void).all():
        above = np.unique(indices[~(is_class | is_void)]).tolist()
        more = ", …" if len(above) > 5 else ""
        raise ImageError(
            f"index {', '.join(map(str, above[:5]))}{more} above the classes, 0 to {class_num - 1}; {void} is void"
        )
    return np.where(is_void, np.uint8(VOID), indices)


def encode(classes):
    """Returns the PNG that records have, bytes, of 8 bits of grey, of classes or VOID, uint8 [height, width]."""
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "PNG")
    return file.getvalue()


def _read_png(data, size):
    if png_size(data) != size:
        raise ImageError("{} x {} pixels, the image has {} x {}".format(*png_size(data), *size))
    bare = strip(data)
    bits, kind = data[24], data[25]
    if bare.orientation not in (None, 1):
        raise ImageError("it has an orientation in EXIF; turn its pixels upright, or take the orientation away")
    if kind not in (0, 3):
        what = {2: "RGB", 4: "grey with alpha", 6: "RGB with alpha"}.get(kind, "of an unknown kind")
        raise ImageError(f"{what}: {CONVERT}")
    if bits == 16:
        raise ImageError("16 bits of grey; save it with 8, as uint8")
    try:
        with Image.open(io.BytesIO(bare.data), formats=["PNG"]) as image:
            # Pillow believes the last of several headers.
            if image.size != size or image.mode not in ("1", "L", "P"):
                raise ImageError(f"several headers; {CONVERT}")
            indices = np.asarray(image).astype(np.uint8)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # as of `image_files`: Pillow raises anything for odd bytes
        raise ImageError(f"{image_files.TRUNCATED}: {' '.join(str(error).split())[:100]}") from error
    return indices // SPREAD.get(bits, 1) if kind == 0 and bits != 1 else indices


def _read_mat(data, size):
    """The field Segmentation of GTcls: a uint8 matrix [height, width]."""
    _check_mat(data, size)
    try:
        indices = scipy.io.loadmat(io.BytesIO(data), variable_names=["GTcls"])["GTcls"]["Segmentation"].item()
    except MemoryError:
        raise
    except KeyError as error:
        raise ImageError("no GTcls in the .mat; SBD's files in dataset/cls have it") from error
    except Exception as error:  # loadmat, too, raises anything
        raise ImageError(f".mat damaged, or without GTcls.Segmentation: {str(error)[:100]}") from error
    if not isinstance(indices, np.ndarray) or indices.ndim != 2 or indices.dtype.kind not in "ui":
        raise ImageError("GTcls.Segmentation is no matrix of whole numbers")
    if indices.shape[::-1] != size:
        raise ImageError("{} x {} pixels, the image has {} x {}".format(*indices.shape[::-1], *size))
    if indices.size and (indices.min() < 0 or indices.max() > 255):
        raise ImageError(f"index {max(indices.max(), -indices.min())} is none from 0 to 255")
    return indices.astype(np.uint8)


def _check_mat(data, size):
    """ImageError for a .mat that would take much memory, or very many matrices within each other, to read."""
    most, at = MAT_BYTES_PER_PIXEL * size[0] * size[1] + MAT_MORE, MAT_HEADER
    if data[126:128] not in (b"IM", b"MI"):
        raise ImageError(".mat damaged: it does not say the order of its bytes")
    order = "big" if data[126:128] == b"MI" else "little"
    left, matrices = most, 0
    while at + 8 <= len(data):
        kind, length = (int.from_bytes(data[at + k : at + k + 4], order) for k in (0, 4))
        content = data[at : at + 8 + length]
        if kind == MAT_COMPRESSED:
            try:
                content = zlib.decompressobj().decompress(content[8:], left + 1)
            except zlib.error as error:
                raise ImageError(f".mat damaged: {error}") from error
        left -= len(content)
        if left < 0:
            raise ImageError(f".mat of more than {most:,} bytes, unpacked, for {size[0]} x {size[1]} pixels")
        words = np.frombuffer(content[: len(content) // 4 * 4], ">u4" if order == "big" else "<u4")
        matrices += int((words == MAT_MATRIX).sum())
        if matrices > MAT_MATRICES:
            raise ImageError(f".mat of more than {MAT_MATRICES:,} matrices")
        at += 8 + length
