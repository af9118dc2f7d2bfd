"""Decoding in the graph against Pillow: the same pixels of every kind of file, and the same refusals."""

import io
import itertools
import struct

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline import gif_frame, graph_decode
from tests.encoded_images import many_scans

RNG = np.random.default_rng(0)
# Fields of one colour each, which JPEG keeps.
RGBA = np.repeat(np.repeat(RNG.integers(0, 256, (12, 18, 4), np.uint8), 5, axis=0), 5, axis=1)


def image(mode, colours=256):
    image = Image.fromarray(RGBA if "A" in mode else RGBA[..., :3])
    if mode == "P":
        return image.quantize(colours)
    return image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)


def encoded(mode, file_format, colours=256, **options):
    data = io.BytesIO()
    image(mode, colours).save(data, file_format, **options)
    return data.getvalue()


FILES = {
    "jpeg": encoded("RGB", "JPEG", subsampling=0),
    "progressive jpeg": encoded("RGB", "JPEG", progressive=True),
    "grey jpeg": encoded("L", "JPEG"),
    "png": encoded("RGB", "PNG"),
    "grey png": encoded("L", "PNG"),
    "palette png": encoded("P", "PNG"),
    "one-bit png": encoded("1", "PNG"),
    "two-bit palette png": encoded("P", "PNG", colours=4),
    "16-bit grey png": encoded("I;16", "PNG"),
    "png with alpha": encoded("RGBA", "PNG"),
    "grey png with alpha": encoded("LA", "PNG"),
    "palette png, one transparent": encoded("P", "PNG", transparency=3),
    "palette png with alpha": encoded("P", "PNG", transparency=bytes(range(256))),
    "two-bit palette png, one transparent": encoded("P", "PNG", colours=4, transparency=0),
    "grey png, one transparent": encoded("L", "PNG", transparency=image("L").getpixel((0, 0))),
    "png with a transparent colour": encoded("RGB", "PNG", transparency=image("RGB").getpixel((0, 0))),
    "gif": encoded("P", "GIF"),
    "bmp": encoded("RGB", "BMP"),
}


@pytest.fixture(scope="module")
def decode():
    return tf.function(graph_decode.decode, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_those_of_pillow(kind, decode):
    expected = image_files.decode(FILES[kind])
    # (Decoders of JPEGs differ by a grey level here and there.)
    tolerance = 2 if "jpeg" in kind else 0
    np.testing.assert_allclose(decode(FILES[kind]).numpy().astype(int), expected, atol=tolerance, rtol=0)


def with_size(kind, at, form, *size):
    data, size = FILES[kind], struct.pack(form, *size)
    return data[:at] + size + data[at + len(size) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_size("png", 16, ">ii", 12_000, 12_000), "too many pixels"),
        (with_size("gif", 6, "<HH", 12_000, 12_000), "too many pixels"),
        (with_size("bmp", 18, "<ii", 12_000, -12_000), "too many pixels"),
        (with_size("png", 16, ">ii", 2**31 - 1, 2**31 - 1), "too many pixels"),
        (with_size("png", 16, ">ii", 1, 12_000), "over 100 times as long as wide"),
        (FILES["png"][:20], "or truncated"),
        (FILES["png"][:-200], "PNG"),
        (b"<!DOCTYPE html>", "neither JPEG, PNG, GIF nor BMP"),
        (b"", "neither JPEG, PNG, GIF nor BMP"),
        (many_scans((3000, 3000), 120), "too many scans"),
    ],
    ids=["png", "gif", "bmp", "huge png", "narrow png", "header of a png", "cut png", "html", "empty", "scans"],
)
def test_refused(data, message, decode):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(data)


@pytest.mark.parametrize("scans", [((90, 60), 1000), ((3000, 2500), 12)])
def test_many_scans_of_few_pixels_pass_and_a_dozen_of_many(scans, decode):
    data = many_scans(*scans)
    np.testing.assert_array_equal(decode(data), image_files.decode(data))


def gif(colours=16, transparency=None, **options):
    """A GIF of one block of pixels, all of its colours in the global table."""
    options = options if transparency is None else options | {"transparency": transparency}
    return encoded("P", "GIF", colours, optimize=False, **options)


def colours_of(data):
    """Where the global table of colours ends."""
    return 13 + 3 * 2 ** ((data[10] & 7) + 1)


def on_canvas(data, canvas, left=0, top=0):
    """The first frame at another place, on a canvas of another size."""
    at = data.index(b",\0\0\0\0")
    return data[:6] + struct.pack("<HH", *canvas) + data[10 : at + 1] + struct.pack("<HH", left, top) + data[at + 5 :]


def with_local_colours(data, keep_global):
    """The colours stand in the frame; the global ones are others, or none."""
    end, at = colours_of(data), data.index(b",\0\0\0\0")
    colours, size = data[13:end], data[10] & 7
    start = data[:13] + colours[::-1] if keep_global else data[:10] + bytes([data[10] & 0x70]) + data[11:13]
    return start + data[end : at + 9] + bytes([data[at + 9] | 0x80 | size]) + colours + data[at + 10 :]


def with_fewer_colours(data):
    """Half of the table of colours is missing, so that pixels lie beyond it."""
    end = colours_of(data)
    return data[:10] + bytes([data[10] - 1]) + data[11:13] + data[13 : 13 + (end - 13) // 2] + data[end:]


def without_colours(data):
    return data[:10] + bytes([data[10] & 0x70]) + data[11:13] + data[colours_of(data) :]


def in_blocks(data, lengths):
    """The pixels in blocks of other lengths, which are repeated."""
    at = data.index(b",\0\0\0\0") + 11
    pixels, lengths = b"", itertools.cycle(lengths)
    while length := data[at]:
        pixels += data[at + 1 : at + 1 + length]
        at += 1 + length
    begin, blocks = data.index(b",\0\0\0\0") + 11, b""
    while pixels:
        length = min(next(lengths), len(pixels))
        blocks, pixels = blocks + bytes([length]) + pixels[:length], pixels[length:]
    return data[:begin] + blocks + data[at:]


def with_second_frame(data, size, pixels):
    """A frame of another size follows."""
    return data[:-1] + b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + pixels + data[-1:]


def noise(*size):
    """A GIF of many blocks."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, size, np.uint8), "L").save(data, "GIF")
    return data.getvalue()


def grey_gif(**options):
    return encoded("L", "GIF", **options)


def gif_with_alpha():
    """As Pillow writes an RGBA image: its colours, and one for what is transparent."""
    data = io.BytesIO()
    Image.fromarray(np.dstack([RGBA[..., :3], np.where(RGBA[..., 3:] > 127, 255, 0).astype(np.uint8)])).save(
        data, "GIF"
    )
    return data.getvalue()


GIFS = {
    "opaque": gif(),
    "one transparent": gif(transparency=3),
    "two colours": gif(2, 1),
    "256 colours": gif(256, 255),
    "alpha": gif_with_alpha(),
    "grey": grey_gif(),
    "grey, one transparent": grey_gif(transparency=image("L").getpixel((0, 0))),
    "not interlaced": gif(transparency=3, interlace=0),
    "after a long comment": gif(transparency=3, comment=b"," * 700),
    "first of two": gif(transparency=3, save_all=True, append_images=[image("P", 200).transpose(1)], loop=0),
    "first is small": on_canvas(gif(), (140, 100), 7, 3),
    "first is small, one transparent": on_canvas(gif(transparency=3), (140, 100), 7, 3),
    "first is larger than the canvas": on_canvas(gif(transparency=3), (20, 10), 7, 3),
    "grey, first is small": on_canvas(grey_gif(), (140, 100), 7, 3),
    "local colours": with_local_colours(gif(transparency=3), keep_global=False),
    "local colours, other global ones": with_local_colours(gif(transparency=3), keep_global=True),
    "local colours, first is small": on_canvas(with_local_colours(gif(), keep_global=True), (140, 100)),
    "too few colours": with_fewer_colours(gif()),
    "too few colours, one transparent": with_fewer_colours(gif(transparency=12)),
    "no colours": without_colours(gif()),
    "no colours, one transparent": without_colours(gif(transparency=3)),
    "second is huge": with_second_frame(gif(), (20_000, 20_000), b"\x08" + (b"\xff" + bytes(255)) * 9 + b"\0"),
    "second is damaged": with_second_frame(gif(), (90, 60), b"\x08\x09no pixels"),
    "many blocks": noise(400, 500),
    "blocks of one byte": in_blocks(gif(), [1]),
    "blocks of several lengths": in_blocks(noise(40, 50), [255, 255, 3, 1, 1, 200]),
    "a last block that is full": in_blocks(noise(40, 50), [5]),
    "without an end": gif()[:-1],
}


@pytest.mark.parametrize("kind", GIFS)
def test_gifs_are_laid_on_white_as_by_pillow(kind, decode):
    expected = image_files.decode(GIFS[kind])
    np.testing.assert_array_equal(decode(GIFS[kind]), expected)
    transparent = "transparent" in kind or kind == "alpha"
    assert not transparent or (expected == 255).all(axis=-1).any()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GIFS["opaque"][: colours_of(GIFS["opaque"]) + 4], "out of bounds"),
        (GIFS["opaque"][: colours_of(GIFS["opaque"])] + b";" * 20, "a GIF without an image"),
        (GIFS["one transparent"][:-400], "GIF"),
        (on_canvas(GIFS["opaque"], (50, 50), 60_000, 60_000), "too many pixels"),
        (in_blocks(noise(150, 150), [1, 2]), "more than 10000 kinds of blocks"),
        (GIFS["opaque"][: colours_of(GIFS["opaque"])] + bytes(20_000), "more than 10000 kinds of blocks"),
    ],
    ids=["colours alone", "no image", "cut", "a frame far outside", "many kinds of blocks", "zeros"],
)
def test_gifs_refused(data, message, decode):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(data)


def test_the_frame_is_alone():
    """What follows it is unpacked by TensorFlow, too, and would take gigabytes."""
    alone = gif_frame.first_frame(GIFS["opaque"]).encoded.numpy()
    assert gif_frame.first_frame(GIFS["second is huge"]).encoded == alone
    assert gif_frame.first_frame(GIFS["first of two"]).encoded.numpy().count(b",\0\0\0\0Z\0<") == 1


def test_kinds_in_one_batch():
    """One after the other in one graph, as an exported network does it."""
    files = [*FILES.values(), *GIFS.values()]

    def mean(data):
        return tf.reduce_mean(tf.cast(graph_decode.decode(data), tf.float32), [0, 1])

    means = tf.function(lambda files: tf.map_fn(mean, files, fn_output_signature=tf.float32))(tf.constant(files))
    expected = [image_files.decode(data).mean(axis=(0, 1)) for data in files]
    np.testing.assert_allclose(means, expected, atol=1)
