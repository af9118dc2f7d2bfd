"""Untrusted image files to pixels inside of a graph, for an exported network: JPEG, PNG, GIF and BMP.

In TensorFlow's operations what `data_processing.images.image_files.decode` does with Pillow: alpha and transparent
colors are laid on white, and what is too large, or too much work, is an error before it is decoded.
"""

import tensorflow as tf

from data_processing.images.image_files import LEAST_SCAN, MAX_PIXELS, MAX_SCANS
from data_processing.input_pipeline.gif_frame import first_frame
from data_processing.input_pipeline.transforms import MAX_ASPECT_RATIO, decode_jpeg


def decode(encoded):
    """Returns an encoded image, string [], as RGB uint8 [height, width, 3].

    An error of the operation if it is none of the four formats, is damaged, has more than MAX_PIXELS, is more than
    MAX_ASPECT_RATIO times as long as wide, or passes over its pixels too often.
    """

    def begins(magic):
        # (26 bytes hold all that is read of a header below.)
        return (tf.strings.length(encoded) >= 26) & (tf.strings.substr(encoded, 0, len(magic)) == magic)

    def others():
        with tf.control_dependencies([tf.debugging.Assert(False, ["neither JPEG, PNG, GIF nor BMP, or truncated"])]):
            return tf.zeros([0, 0, 3], tf.uint8)

    formats = [(tf.io.is_jpeg(encoded), lambda: _jpeg(encoded))]
    formats += [(begins(b"\x89PNG"), lambda: _png(encoded)), (begins(b"GIF8"), lambda: _gif(encoded))]
    formats += [(begins(b"BM"), lambda: _bmp(encoded))]
    return tf.ensure_shape(tf.case(formats, default=others), [None, None, 3])


def _within_limits(size, encoded):
    """Returns `encoded` once an image's `size`, int64 [2] in any order, is known to be within the limits."""
    pixels, longest = tf.reduce_prod(size), tf.constant(MAX_ASPECT_RATIO, tf.int64) * tf.reduce_min(size)
    limits = [
        tf.debugging.assert_less_equal(pixels, tf.constant(MAX_PIXELS, tf.int64), "too many pixels"),
        tf.debugging.assert_less_equal(tf.reduce_max(size), longest, f"over {MAX_ASPECT_RATIO} times as long as wide"),
    ]
    with tf.control_dependencies(limits):
        return tf.identity(encoded)


def _size_at(encoded, at, little_endian):
    """Width and height, int64 [2], two int32 from byte `at` on."""
    size = tf.io.decode_raw(tf.strings.substr(encoded, at, 8), tf.int32, little_endian=little_endian)
    return tf.abs(tf.cast(size, tf.int64))


def _jpeg(encoded):
    size = tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)
    # Each scan begins with these two bytes, and compressed pixels do not hold them. A preview or a profile may, so this
    # is an upper bound of what `image_files` counts.
    data = tf.io.decode_raw(encoded, tf.uint8)
    scans = tf.math.count_nonzero((data[:-1] == 0xFF) & (data[1:] == 0xDA))
    work = scans * tf.maximum(tf.reduce_prod(size), LEAST_SCAN)
    check = tf.debugging.assert_less_equal(work, tf.constant(MAX_SCANS * MAX_PIXELS, tf.int64), "too many scans")
    with tf.control_dependencies([check]):
        return decode_jpeg(tf.identity(encoded))


def _bmp(encoded):
    # (A negative height stands for rows from the top.)
    return tf.io.decode_bmp(_within_limits(_size_at(encoded, 18, True), encoded), channels=3)


def _png(encoded):
    checked = _within_limits(_size_at(encoded, 16, False), encoded)
    return tf.cond(
        _has_alpha(checked),
        lambda: _on_white(tf.io.decode_png(checked, channels=4)),
        lambda: tf.io.decode_png(checked, channels=3),
    )


def _has_alpha(png):
    """Whether a PNG, string [], has an alpha channel, or transparent colors that Pillow heeds."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(png, 24, 2), tf.uint8), tf.int32)
    depth, color_type = header[0], header[1]
    before_pixels = tf.strings.split(png, "IDAT", maxsplit=1)[0]
    transparent = tf.size(tf.strings.split(before_pixels, "tRNS")) > 1
    # Of grey (0) Pillow heeds it with 8 bits only. (Asked for alpha where there is none, decode_png would be wrong for
    # fewer bits: their greatest number, 1 to 15, becomes the alpha.)
    return (color_type == 4) | (color_type == 6) | (transparent & ((color_type != 0) | (depth == 8)))


def _on_white(image):
    """RGB of an RGBA image, uint8 [height, width, 4], laid on white and rounded, as by Pillow."""
    # 16 bits hold 255 * 255 + 127, and half as much memory as 32.
    image = tf.cast(image, tf.uint16)
    color, alpha = image[..., :3], image[..., 3:]
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _gif(encoded):
    frame = first_frame(encoded)
    # (decode_gif would give all frames.)
    checked = _within_limits(frame.canvas, frame.encoded)
    image = tf.io.decode_image(checked, channels=3, expand_animations=False)
    # The frame may be smaller than the canvas, where Pillow has the frame's transparent color, or else the first.
    width, height = tf.unstack(tf.cast(frame.canvas, tf.int32))
    image = image[: frame.size[1], : frame.size[0]]
    paddings = [(frame.corner[k], side - frame.corner[k] - frame.size[k]) for k, side in ((1, height), (0, width))]
    colors = [tf.pad(image[..., k], paddings, constant_values=frame.background[k]) for k in range(3)]
    return tf.stack(colors, axis=-1)
