"""A file of an image without its metadata, found by its structure alone: nothing is decoded.

Comments, profiles, EXIF, XMP, previews and later frames are no part of the pixels, yet a few kilobytes of them can take
gigabytes or hours to read (entries of EXIF that share their bytes, a comment of many blocks). So Pillow does not see
them; the orientation is read here.
"""

import re
import struct
from typing import NamedTuple
import zlib

# Segments of a JPEG, chunks of a PNG, blocks of a GIF: as many take a fraction of a second to look at.
MAX_PARTS = 2**18

ORIENTATION = 0x0112
TIFF = {b"II*\0": "<", b"MM\0*": ">"}
# What holds a whole number in EXIF: BYTE, SHORT and LONG.
NUMBERS = {1: "B", 3: "H", 4: "I"}
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

# What a decoder of JPEGs searches for, also in compressed pixels, where 0xFF is followed by 0 or a restart (D0 to D7).
JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
START_OF_IMAGE, END_OF_IMAGE, SCAN, TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
# JFIF and Adobe say which colors the numbers mean.
COLOR_SEGMENTS = (0xE0, 0xEE)
EXIF_SEGMENT, COMMENT_SEGMENT = 0xE1, 0xFE
EXIF_BEGINS, XMP_BEGINS = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# EXIF as ImageMagick once wrote it: compressed hexadecimal digits, after three lines.
EXIF_TEXT = b"Raw profile type exif\0\0"
MAX_EXIF_TEXT = 2**20

GIF_HEADER = 13
GIF_EXTENSION, GIF_IMAGE, GIF_END = b"!,;"
GIF_CONTROL = 0xF9


class ImageError(ValueError):
    """The bytes are no image that can be used; the message is the reason in a few words."""


class Bare(NamedTuple):
    """An image file of a first frame alone.

    Attributes:
      data: the file, in the same format, whose pixels are the same.
      orientation: 1 to 8 as in EXIF, or None.
      scans: how often a JPEG passes over its pixels; 1 for other formats.
    """

    data: bytes
    orientation: int | None = None
    scans: int = 1


def strip(data) -> Bare:
    """Returns a JPEG, PNG or GIF without metadata; anything else, and what is damaged, as it is.

    Raises ImageError for one of more than MAX_PARTS parts.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(PNG_MAGIC):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    return Bare(data)


def orientation(exif, xmp=b"") -> int | None:
    """Returns the orientation that EXIF has or, if it has none, XMP; both in bytes, perhaps damaged or empty."""
    value = None
    exif = exif.removeprefix(EXIF_BEGINS)
    if order := TIFF.get(exif[:4]):
        try:
            (at,) = struct.unpack_from(order + "I", exif, 4)
            (count,) = struct.unpack_from(order + "H", exif, at)
            for entry in range(at + 2, at + 2 + 12 * count, 12):
                tag, kind, length = struct.unpack_from(order + "HHI", exif, entry)
                if tag == ORIENTATION and kind in NUMBERS and length == 1:
                    (value,) = struct.unpack_from(order + NUMBERS[kind], exif, entry + 8)
        except struct.error:  # damaged; what stands before it counts
            pass
    if value is None and (match := XMP_ORIENTATION.search(xmp)):
        value = int(match[1])
    return value


def _check_parts(count, what):
    if count > MAX_PARTS:
        raise ImageError(f"more than {MAX_PARTS} {what}")


def _jpeg(data):
    kept, at, scans, exif, xmp = [data[:2]], 2, 0, b"", b""
    for count in range(MAX_PARTS + 2):
        _check_parts(count, "segments")
        match = JPEG_MARKER.search(data, at)
        if not match or match[1][0] == END_OF_IMAGE:
            break
        marker, at = match[1][0], match.end()
        if marker in (START_OF_IMAGE, TEMPORARY):
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if marker == SCAN:
            scans += 1
            if scans == 1:
                kept.append(data[match.start() :])
        elif not scans and (marker >> 4 != 0xE or marker in COLOR_SEGMENTS) and marker != COMMENT_SEGMENT:
            # (Not what lies between segments: millions of 0xFF may.)
            kept.append(data[match.start() : end])
        elif marker == EXIF_SEGMENT:
            content = data[at + 2 : end]
            exif = exif or content * content.startswith(EXIF_BEGINS)
            xmp = xmp or content * content.startswith(XMP_BEGINS)
        at = max(at, end)
    return Bare(b"".join(kept), orientation(exif, xmp), scans)


def _png(data):
    kept, at, exif, xmp = [PNG_MAGIC], len(PNG_MAGIC), b"", b""
    for count in range(MAX_PARTS + 2):
        _check_parts(count, "chunks")
        length, kind = struct.unpack(">I4s", data[at : at + 8].ljust(8, b"\0"))
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():  # damaged or truncated: let the decoder see it
            kept.append(data[at:])
            break
        if kind in PIXEL_CHUNKS:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind == b"zTXt" and data.startswith(EXIF_TEXT, at + 8):
            exif = exif or _exif_of_text(data[at + 8 + len(EXIF_TEXT) : end - 4])
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", at + 8):
            xmp = data[at + 8 : end - 4]
        if kind == b"IEND":
            break
        at = end
    return Bare(b"".join(kept), orientation(exif, xmp))


def _exif_of_text(compressed):
    try:
        lines = zlib.decompressobj().decompress(compressed, MAX_EXIF_TEXT).split(b"\n")
        return bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return b""


def _gif(data):
    at = GIF_HEADER + _gif_colors(data, 10)
    header, control, parts = data[:at], b"", 0
    while at < len(data) and data[at] not in (GIF_IMAGE, GIF_END):
        parts += 1
        _check_parts(parts, "blocks")
        if data[at] != GIF_EXTENSION:
            at += 1
            continue
        if data[at + 1 : at + 2] == bytes([GIF_CONTROL]) and len(data) > at + 6 and data[at + 3] & 1:
            # Of the block that says how a frame is shown, its transparent color.
            control = bytes([GIF_EXTENSION, GIF_CONTROL, 4, 1, 0, 0, data[at + 6], 0])
        at += 2
        while at < len(data) and data[at]:
            parts += 1
            _check_parts(parts, "blocks")
            at += 1 + data[at]
        at += 1
    return Bare(header + control + data[at:])


def _gif_colors(data, at):
    """The length in bytes of the table of colors that the flags at a byte announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
