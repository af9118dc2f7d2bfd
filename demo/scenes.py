"""Scenes: a few things, rotated, scaled, colour-jittered and partly hidden, on a ground; and what each pixel shows.

Everything random comes from the generator that is passed in, so a scene is a function of its seed.
"""

from functools import cache
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from demo import grounds, world

# Shares of images with one to five things, by world.
COUNTS = {"small": (0.5, 0.24, 0.13, 0.08, 0.05), "large": (0, 0.58, 0.26, 0.11, 0.05)}
# How often things are shown, by world: the offset q and the exponent a of Zipf's law, p ~ 1 / (rank + q)^a with ranks
# from 0, and the least p as a share of the mean. Small: the commonest does not swamp the rest. Large: in 64 scenes less
# than a quarter of the classes is present, and about all are in 8,000.
LAWS = {"small": (3.0, 1.0, 0.0), "large": (5.0, 2.8, 0.12)}
# Height of a thing, as a share of the image's, when there are one to five.
SIZES = ((0.55, 0.9), (0.45, 0.7), (0.38, 0.58), (0.32, 0.5), (0.28, 0.45))
# Share of scenes whose things all come from one theme; the others take theirs from all.
THEMED = 0.8
# A thing shows at least this share of its pixels, or is left out.
MIN_VISIBLE = 0.3
# From this visible share on a label has confidence 1; below it is proportionally less.
SURELY_VISIBLE = 0.6
# Places that are tried for a thing.
TRIALS = 6


class Object(NamedTuple):
    """A thing in a scene.

    Attributes:
      thing: index in the things of the world.
      box: (left, top, right, bottom) of what is visible, in pixels, right and bottom exclusive.
      visible: share of its pixels that is visible, in [MIN_VISIBLE, 1].
      truncated: whether it reaches beyond the image.
      occluded: whether another thing hides part of it.
    """

    thing: int
    box: tuple[int, int, int, int]
    visible: float
    truncated: bool
    occluded: bool


class Scene(NamedTuple):
    """What was drawn.

    Attributes:
      image: uint8 [height, width, 3].
      owner: int16 [height, width]: index in `objects` of what shows, or -1.
      objects: the things.
      ground: the texture that they are on.
    """

    image: np.ndarray
    owner: np.ndarray
    objects: tuple[Object, ...]
    ground: str


def frequencies(seed, name="small") -> np.ndarray:
    """Returns Zipf probabilities float64 [things] of the world `name`, 0 for the novel ones.

    They follow LAWS, in an order of ranks that is drawn from `seed`.
    """
    offset, exponent, least = LAWS[name]
    shown = np.array([thing.label is not None for thing in world.read(name).things])
    ranks = np.random.default_rng([seed, 0]).permutation(shown.sum())
    weights = (1 / (ranks + offset)) ** exponent
    probabilities = np.zeros(len(shown))
    probabilities[shown] = np.maximum(weights, least * weights.mean())
    return probabilities / probabilities.sum()


def choose_things(rng, probabilities, name="small") -> list[int]:
    """Returns up to five things, mostly of one theme.

    In the small world a thing may come again, and its expected share stays its probability. In the large one they
    differ, so that many of them are many labels.
    """
    count = 1 + rng.choice(5, p=COUNTS[name])
    first = rng.choice(len(probabilities), p=probabilities)
    if rng.random() < THEMED:
        things = world.read(name).things
        probabilities = probabilities * [thing.theme == things[first].theme for thing in things]
        probabilities = probabilities / probabilities.sum()
    if name == "large":
        probabilities = np.where(np.arange(len(probabilities)) == first, 0, probabilities)
        probabilities = probabilities / probabilities.sum()
    others = rng.choice(len(probabilities), size=count - 1, p=probabilities, replace=name != "large")
    return [int(first), *others.tolist()]


def image_shape(rng, image_size) -> tuple[int, int]:
    """Returns (height, width) of an image: the short side near `image_size`, the long side up to 1.5 times that."""
    short = round(image_size * rng.uniform(0.9, 1.15))
    long = round(short * rng.uniform(1, 1.3))
    return (short, long) if rng.random() < 0.7 else (long, short)


def compose(rng, things, image_size, textures, name="small") -> Scene:
    """Returns a scene with `things` (fewer if there is no room for all) on one of the grounds `textures`.

    Args:
      rng: np.random.Generator.
      things: indices of one to five things, painted in this order.
      image_size: about the length of the short side, in pixels.
      textures: names of `grounds`.
      name: of the world.
    """
    height, width = image_shape(rng, image_size)
    ground = textures[rng.integers(len(textures))]
    canvas = Image.fromarray(grounds.draw(rng, ground, height, width).astype(np.uint8))
    owner = np.full((height, width), -1, np.int16)
    placed, areas, clipped = [], [], []
    for thing in things:
        # One large drawing for all sizes, a little larger than the largest that is needed.
        large = glyph(world.read(name).things[thing].glyph, min(512, round(1.1 * image_size)))
        sprite = _sprite(rng, large, rng.uniform(*SIZES[len(things) - 1]) * height, (height, width))
        mask = np.asarray(sprite.getchannel("A")) > 127
        place = _find_place(rng, mask, owner, areas)
        if place is None:
            continue
        _paint(rng, canvas, sprite, place)
        window, inside = _windows(place, mask.shape, owner.shape)
        owner[window][mask[inside]] = len(placed)
        placed.append(thing)
        areas.append(int(mask.sum()))
        clipped.append(int(mask[inside].sum()))
    image = _finish(rng, canvas)
    return Scene(image, owner, _describe(owner, placed, areas, clipped), ground)


def labels(objects, ground="", name="small") -> dict[int, float]:
    """Returns {class index: confidence in (0, 1]} of a scene: the classes of things and ground and all their ancestors.

    The confidence is 1 for what is well visible, as is any ground that the world `name` has a class for, and less for
    what is mostly hidden, in steps of 0.1; an ancestor has the highest of its descendants.
    """
    things, labelled = world.read(name).things, world.read(name).grounds
    confidences = dict.fromkeys(labelled.get(ground, ()), 1.0)
    for item in objects:
        confidence = min(1.0, round(item.visible / SURELY_VISIBLE, 1))
        for label in things[item.thing].labels:
            confidences[label] = max(confidence, confidences.get(label, 0.0))
    return dict(sorted(confidences.items()))


@cache
def glyph(character, pixels) -> Image.Image:
    """Returns an emoji as an RGBA image without empty margins, drawn with a font of `pixels` per em."""
    font = ImageFont.truetype(str(world.font_path()), pixels)
    image = Image.new("RGBA", (2 * pixels, 2 * pixels))
    ImageDraw.Draw(image).text((pixels, pixels), character, font=font, embedded_color=True, anchor="mm")
    return image.crop(image.getbbox())


def _sprite(rng, large, size, shape):
    """Returns the drawing `large` of a thing, flipped in half of cases, rotated by up to 20° and colour-jittered.

    The size, in pixels, is the geometric mean of the sides, so that a snake is not drawn larger than an owl; no side is
    longer than the image's.
    """
    ratio = size / math.sqrt(large.width * large.height)
    ratio = min(ratio, 0.9 * shape[1] / large.width, 0.9 * shape[0] / large.height)
    stretch = rng.uniform(0.9, 1.1)
    sides = round(large.width * ratio * stretch), round(large.height * ratio / stretch)
    sprite = large.resize(tuple(max(4, side) for side in sides), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha = sprite.getchannel("A")
    sprite = sprite.convert("RGB").convert("RGB", _colour_matrix(rng))
    sprite.putalpha(alpha)
    return sprite.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)


def _colour_matrix(rng):
    """Returns a 3x4 colour matrix, row by row: hue rotated, saturation 0.6 to 1.3, brightness 0.75 to 1.15."""
    angle, saturation, brightness = rng.normal(0, 0.6), rng.uniform(0.6, 1.3), rng.uniform(0.75, 1.15)
    # Around the grey axis: grey = 1/3 everywhere; cross is the rotation's generator.
    grey = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotation = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
    matrix = brightness * (grey + saturation * rotation)
    shift = rng.uniform(0, 30)
    return tuple(np.column_stack([matrix, np.full(3, shift)]).ravel().tolist())


def _find_place(rng, mask, owner, areas):
    """Returns (top, left) for a new thing: of the places tried, the one that hides least. None if all hide too much.

    Up to a tenth of the thing may be outside. Its middle keeps off the image's ends, which crops cut away.
    """
    height, width = mask.shape
    visible = np.bincount(owner[owner >= 0], minlength=len(areas))
    best, best_hidden = None, None
    for _ in range(TRIALS):
        y = _middle(rng, height / owner.shape[0]) * owner.shape[0]
        x = _middle(rng, width / owner.shape[1]) * owner.shape[1]
        place = round(y - height / 2), round(x - width / 2)
        window, inside = _windows(place, mask.shape, owner.shape)
        under = owner[window][mask[inside]]
        lost = np.bincount(under[under >= 0], minlength=len(areas))
        if any(visible - lost < MIN_VISIBLE * np.array(areas)):
            continue
        if best is None or lost.sum() < best_hidden:
            best, best_hidden = place, lost.sum()
    return best


def _middle(rng, size):
    """Returns where a thing's middle goes, as a share of the side; `size` is the thing's share of it."""
    margin = min(0.5, max(0.15, 0.4 * size))
    return rng.uniform(margin, 1 - margin)


def _windows(place, size, shape):
    """Returns two pairs of slices: where a thing lies in the image, and which part of the thing that is."""
    in_image, in_thing = [], []
    for start, length, limit in zip(place, size, shape, strict=True):
        low, high = max(0, start), min(limit, start + length)
        in_image.append(slice(low, high))
        in_thing.append(slice(low - start, high - start))
    return tuple(in_image), tuple(in_thing)


def _paint(rng, canvas, sprite, place):
    """Paints a sprite at (top, left), in half of the cases over a soft shadow."""
    top, left = place
    if rng.random() < 0.5:
        strength, reach = rng.uniform(0.2, 0.5), max(1, sprite.height // 20)
        shadow = sprite.getchannel("A").point(lambda alpha: int(alpha * strength))
        shadow = shadow.filter(ImageFilter.BoxBlur(reach))
        canvas.paste((0, 0, 0), (left + reach, top + reach), shadow)
    canvas.paste(sprite, (left, top), sprite)


def _finish(rng, canvas):
    """Returns the photograph of the canvas, uint8 [height, width, 3]: exposure, now and then blur, and noise."""
    if rng.random() < 0.2:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    image = np.asarray(canvas, np.float32)
    image = (image - 128) * rng.uniform(0.75, 1.1) + 128 + rng.uniform(-20, 20)
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0, 6)
    return np.clip(image, 0, 255).astype(np.uint8)


def _describe(owner, placed, areas, clipped):
    """Returns the `Object`s of a finished scene."""
    objects = []
    for number, thing in enumerate(placed):
        shown = owner == number
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        count = int(shown.sum())
        objects.append(
            Object(thing, box, count / areas[number], clipped[number] < areas[number], count < clipped[number])
        )
    return tuple(objects)
