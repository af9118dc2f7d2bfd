"""The first frame of a GIF as a file of its own, inside of a graph.

TensorFlow paints transparent pixels black, and does not say which they are. So the frame is written anew, without the
block that makes a color transparent, and with white in the place of that color. And it unpacks all frames, of whatever
size, to return one: so those that follow are cut off. What stands where in a GIF:

    header          6  "GIF89a"
    screen          7  width uint16, height uint16, flags, background, aspect
    colors         3 a color, if flags & 0x80; 2 ** ((flags & 7) + 1) of them
    extensions      "!", kind, blocks: a length and so many bytes, the last one of length 0
      of kind 0xF9  its first block is flags, delay uint16, the transparent color if flags & 1
    image           ",", left, top, width, height uint16, flags as above, and colors, if it has its own
    pixels          the size of a code, blocks as above
"""

from typing import NamedTuple

import tensorflow as tf

SCREEN = 6
GLOBAL_COLOURS = 13
EXTENSION, IMAGE, END = 0x21, 0x2C, 0x3B
GRAPHIC_CONTROL = 0xF9
# Steps of a loop, tens of microseconds each, to find the frame and its end. Up to RUN blocks of one length are a step:
# almost all files have blocks of 255 bytes.
MAX_STEPS = 10_000
RUN = 256
HAS_COLOURS = 0x80
INTERLACED = 0x40
# The most colors, and the flags that say so.
COLOURS, MOST_COLOURS = 256, 0x87


class Frame(NamedTuple):
    """The first frame.

    Attributes:
      encoded: string [], a GIF of the frame alone at the place (0, 0).
      size, corner: width and height, left and top, int32 [2], in pixels.
      canvas: width and height of the image that it is a part of, int64 [2].
      background: color of the rest of the canvas, uint8 [3].
    """

    encoded: tf.Tensor
    size: tf.Tensor
    corner: tf.Tensor
    canvas: tf.Tensor
    background: tf.Tensor


def first_frame(encoded):
    """Returns the `Frame` of a GIF, string []. An error of the operation if it has none, or blocks for MAX_STEPS."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    flags = _byte(data, SCREEN + 4)
    colors = _colors(data, GLOBAL_COLOURS, flags)
    at, transparent, steps = _skip_extensions(data, GLOBAL_COLOURS + 3 * tf.shape(colors)[0])
    left_top, size = _uint16s(data, at + 1), _uint16s(data, at + 5)
    flags = _byte(data, at + 9)
    own = _colors(data, at + 10, flags)
    colors = tf.cond(tf.shape(own)[0] > 0, lambda: own, lambda: colors)
    colors = _all_colors(colors)
    colors = tf.where((tf.range(COLOURS) == transparent)[:, None], tf.constant(255, tf.uint8), colors)
    screen = tf.concat([data[:SCREEN], _bytes_of(size), [0, 0, 0]], axis=0)
    image = tf.concat([[IMAGE], tf.zeros([4], tf.uint8), _bytes_of(size)], axis=0)
    image = tf.concat([image, [tf.cast(flags & INTERLACED | MOST_COLOURS, tf.uint8)]], axis=0)
    begin = at + 10 + 3 * tf.shape(own)[0]
    end, _ = _skip_blocks(data, begin + 1, steps)
    pixels = tf.strings.substr(encoded, begin, end - begin)
    header = _as_string(tf.concat([screen, image, tf.reshape(colors, [-1])], axis=0))
    return Frame(
        tf.strings.join([header, pixels, tf.constant(bytes([END]))]),
        size,
        left_top,
        # (Pillow makes a canvas larger that does not hold its frame.)
        tf.cast(tf.maximum(_uint16s(data, SCREEN), left_top + size), tf.int64),
        colors[tf.maximum(transparent, 0)],
    )


def _skip_extensions(data, at):
    """From the byte `at` on: where the image begins, its transparent color or -1, and the steps taken; int32 []."""

    def more(at, _, __):
        return _byte(data, at) != IMAGE

    def skip(at, transparent, steps):
        kind = _byte(data, at)
        with tf.control_dependencies([tf.debugging.assert_none_equal(kind, END, message="a GIF without an image")]):
            steps = _count(steps)
        other = at + 1, transparent, steps
        return tf.cond(kind == EXTENSION, lambda: extension(at, transparent, steps), lambda: other)

    def extension(at, transparent, steps):
        is_control = _byte(data, at + 1) == GRAPHIC_CONTROL
        is_transparent = tf.cond(is_control, lambda: _byte(data, at + 3) & 1 == 1, lambda: tf.constant(False))
        transparent = tf.cond(is_transparent, lambda: _byte(data, at + 6), lambda: transparent)
        at, steps = _skip_blocks(data, at + 2, steps)
        return at, transparent, steps

    return tf.while_loop(more, skip, [at, tf.constant(-1), tf.constant(0)])


def _skip_blocks(data, at, steps):
    """From the byte `at` on: where the blocks have ended, or the file, and the steps taken so far; int32 []."""
    size = tf.shape(data)[0]

    def more(at, _):
        return tf.cond(at < size, lambda: _byte(data, at) != 0, lambda: tf.constant(False))

    def skip(at, steps):
        length = _byte(data, at) + 1
        lengths = tf.cast(data[at : at + RUN * length : length], tf.int32) + 1
        # Where the first of another length stands.
        same = tf.argmin(tf.concat([lengths == length, [False]], axis=0), output_type=tf.int32)
        return at + same * length, _count(steps)

    at, steps = tf.while_loop(more, skip, [at, steps])
    return at + 1, steps


def _count(steps):
    """One step more; an error if there are too many."""
    check = tf.debugging.assert_less(steps, MAX_STEPS, message=f"a GIF of more than {MAX_STEPS} kinds of blocks")
    with tf.control_dependencies([check]):
        return steps + 1


def _byte(data, at):
    return tf.cast(data[at], tf.int32)


def _uint16s(data, at):
    """Two of them, int32 [2]."""
    four = tf.cast(data[at : at + 4], tf.int32)
    return tf.stack([four[0] + 256 * four[1], four[2] + 256 * four[3]])


def _bytes_of(uint16s):
    return tf.cast(tf.reshape(tf.stack([uint16s % 256, uint16s // 256], axis=1), [-1]), tf.uint8)


def _colors(data, at, flags):
    """The colors that begin at a byte, uint8 [n, 3]; none where the flags say so."""
    count = tf.where(flags & HAS_COLOURS != 0, tf.bitwise.left_shift(2, flags & 7), 0)
    return tf.reshape(tf.ensure_shape(data[at : at + 3 * count], [None]), [count, 3])


def _all_colors(colors):
    """The colors of all indices, uint8 [256, 3]: Pillow has black beyond `colors`, unless they are grey levels."""
    count = tf.shape(colors)[0]
    levels = tf.cast(tf.range(COLOURS), tf.uint8)[:, None] * tf.ones([1, 3], tf.uint8)
    beyond = tf.where(tf.reduce_all(colors == levels[:count]), levels[count:], tf.constant(0, tf.uint8))
    return tf.concat([colors, beyond], axis=0)


def _as_string(data):
    """Bytes, uint8 [n], as a string []."""
    table = tf.constant([bytes([k]) for k in range(256)])
    return tf.strings.reduce_join(tf.gather(table, tf.cast(data, tf.int32)))
