"""Grounds: the textures that things stand on, in two sets, so that validation shows grounds that training never did.

A third set is of grounds that are labels, as grass is; those are in both.

Every texture is a function (rng, height, width) -> an image of mode "RGB". Sizes inside are in pixels unless they are
shares of the image, and are chosen so that the ground is as busy as the things on it.
"""

import colorsys

import numpy as np
from PIL import Image, ImageDraw


def draw(rng, name, height, width) -> np.ndarray:
    """Returns a ground float32 [height, width, 3] in 0 to 255: the texture `name`, with light and grain."""
    image = TEXTURES[name](rng, height, width)
    ground = np.asarray(image, np.float32)
    light = np.asarray(_cloud(rng, height, width, 2))[..., None]
    grain = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(1, 12)
    return np.clip(ground * (0.75 + 0.5 * light) + grain, 0, 255)


def noise(rng, height, width):
    """Clouds of three sizes, mixed from three colours."""
    field = sum(_cloud(rng, height, width, cells) / (k + 1) for k, cells in enumerate((3, 8, 24)))
    return _mix(field, _palette(rng, 3))


def stripes(rng, height, width):
    """Straight stripes of two to four colours at any angle, some hard-edged and some soft."""
    along = _along(rng, height, width) * rng.uniform(4, 14)
    if rng.random() < 0.5:
        return _pick(np.floor(along).astype(int), _palette(rng, rng.integers(2, 5)))
    return _mix(np.sin(2 * np.pi * along / 2), _palette(rng, 3))


def gradient(rng, height, width):
    """A straight or round gradient over three colours."""
    field = _along(rng, height, width) if rng.random() < 0.5 else _radius(rng, height, width)
    return _mix(field, _palette(rng, 3))


def blobs(rng, height, width):
    """Overlapping ellipses of a few colours."""
    colours = _palette(rng, 5)
    image = Image.new("RGB", (width, height), colours[0])
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(15, 50)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        a, b = rng.uniform(0.03, 0.15, 2) * height
        pen.ellipse((x - a, y - b, x + a, y + b), fill=colours[rng.integers(5)])
    return image


def checks(rng, height, width):
    """A chequered board at any angle, of two or three colours."""
    angle, cell = rng.uniform(0, np.pi), rng.uniform(0.06, 0.2)
    first = _along(rng, height, width, angle) / cell
    second = _along(rng, height, width, angle + np.pi / 2) / cell
    return _pick(np.floor(first).astype(int) + np.floor(second).astype(int), _palette(rng, rng.integers(2, 4)))


def mosaic(rng, height, width):
    """Cells around random points, each of one colour."""
    points = rng.uniform(0, 1, (rng.integers(20, 60), 2)) * (height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return _pick(distance.argmin(axis=2), _palette(rng, 6))


def waves(rng, height, width):
    """Crossing waves, as light on water."""
    field = sum(np.sin(_along(rng, height, width) * rng.uniform(10, 40)) for _ in range(4))
    return _mix(field, _palette(rng, 3))


def rings(rng, height, width):
    """Rings around a point, bent by a cloud."""
    radius = _radius(rng, height, width) * rng.uniform(6, 16) + 2 * _cloud(rng, height, width, 4)
    return _pick(np.floor(radius).astype(int), _palette(rng, rng.integers(2, 5)))


def bricks(rng, height, width):
    """Rows of bricks with joints."""
    colours = _palette(rng, 5)
    image = Image.new("RGB", (width, height), colours[0])
    pen = ImageDraw.Draw(image)
    tall = max(4, int(rng.uniform(0.06, 0.16) * height))
    wide = int(tall * rng.uniform(1.5, 3))
    for row, y in enumerate(range(-int(rng.integers(tall)), height, tall)):
        for x in range(-wide + row % 2 * wide // 2, width, wide):
            pen.rectangle((x + 1, y + 1, x + wide - 1, y + tall - 1), fill=colours[rng.integers(1, 5)])
    return image


def triangles(rng, height, width):
    """Overlapping triangles of a few colours."""
    colours = _palette(rng, 6)
    image = Image.new("RGB", (width, height), colours[0])
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(20, 60)):
        middle = rng.uniform(0, 1, 2) * (width, height)
        corners = middle + rng.uniform(-0.2, 0.2, (3, 2)) * height
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=colours[rng.integers(6)])
    return image


def weave(rng, height, width):
    """Lines over and under each other, as in cloth."""
    angle, thread = rng.uniform(0, np.pi), rng.uniform(0.03, 0.1)
    first = np.sin(_along(rng, height, width, angle) * np.pi / thread)
    second = np.sin(_along(rng, height, width, angle + np.pi / 2) * np.pi / thread)
    return _mix(np.where(first * second > 0, np.abs(first), -np.abs(second)), _palette(rng, 3))


def speckle(rng, height, width):
    """A cloud under many small dots."""
    image = _mix(_cloud(rng, height, width, 5), _palette(rng, 2))
    colours = _palette(rng, 4)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(80, 250)):
        x, y, a = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.005, 0.02) * height
        pen.ellipse((x - a, y - a, x + a, y + a), fill=colours[rng.integers(4)])
    return image


def grass(rng, height, width):
    """Blades of grass, nearer ones longer, in a few greens."""
    image = _mix(_cloud(rng, height, width, 5), [_vary(rng, (50, 110, 35)), _vary(rng, (95, 160, 60))])
    pen = ImageDraw.Draw(image)
    colours = [_vary(rng, colour) for colour in ((60, 125, 40), (110, 175, 65), (150, 200, 90), (35, 85, 30))]
    for y in np.sort(rng.uniform(0, 1.1, 500)).tolist():
        x, tall = rng.uniform(0, width), rng.uniform(0.04, 0.09) * height * (0.5 + y)
        lean = rng.uniform(-0.5, 0.5) * tall
        pen.line((x, y * height, x + lean, y * height - tall), fill=colours[rng.integers(4)])
    return image


def sand(rng, height, width):
    """Ripples and grains in the colours of a beach."""
    rise = _along(rng, height, width, np.pi / 2 + rng.uniform(-0.4, 0.4)) + 0.15 * _cloud(rng, height, width, 4)
    field = np.sin(rise * rng.uniform(40, 70)) + 1.2 * rng.standard_normal((height, width))
    return _mix(field, [_vary(rng, colour) for colour in ((185, 150, 95), (222, 192, 137), (245, 224, 178))])


def water(rng, height, width):
    """Waves that lie flat and are longer nearer by, with crests that catch the light, in blues and greens."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    far = 1 / (0.25 + y)
    bent = 0.8 * _cloud(rng, height, width, 6)
    field = np.sin(rng.uniform(18, 28) * far + 6 * bent) + 0.5 * np.sin((3 + 5 * far) * x * 2 + 9 * bent + far * 15)
    depths = ((15, 70, 120), (30, 105, 155), (50, 135, 175), (190, 225, 235))
    return _mix(field, [_vary(rng, colour) for colour in depths])


def sky(rng, height, width):
    """From deep to pale blue, with clouds that are flat below."""
    height_of = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    blue = np.asarray(_mix(height_of + np.zeros((1, width)), [_vary(rng, (70, 135, 215)), _vary(rng, (180, 215, 245))]))
    wisps = sum(_cloud(rng, height, width, cells) / (k + 1) for k, cells in enumerate((3, 7, 15)))
    cover = np.clip((wisps - rng.uniform(0.95, 1.2)) * 4, 0, 1)[..., None]
    return Image.fromarray((blue * (1 - cover) + np.array([250, 250, 252]) * cover).astype(np.uint8))


def snow(rng, height, width):
    """White drifts with bluish shadows."""
    rise = _along(rng, height, width, np.pi / 2) * 3 + 1.5 * _cloud(rng, height, width, 3)
    return _mix(np.sin(rise * rng.uniform(3, 6)), [(150, 175, 215), (205, 218, 238), (232, 237, 246)])


TRAIN = ("noise", "stripes", "gradient", "blobs", "checks", "mosaic")
VAL = ("waves", "rings", "bricks", "triangles", "weave", "speckle")
# Those that the large world has classes for; the others tell nothing.
LABELLED = ("grass", "sand", "water", "sky", "snow")
TEXTURES = {name: globals()[name] for name in TRAIN + VAL + LABELLED}


def _vary(rng, colour):
    """Returns a colour (r, g, b) near another, in another light."""
    light, shift = rng.uniform(0.85, 1.12), rng.uniform(-10, 10, 3)
    return tuple(int(np.clip(part * light + by, 0, 255)) for part, by in zip(colour, shift, strict=True))


def _palette(rng, count):
    """Returns `count` colours (r, g, b) of 0 to 255, related in hue. Not too dark: the things have black outlines."""
    hue, spread = rng.random(), rng.uniform(0.05, 0.5)
    colours = []
    for _ in range(count):
        near, saturation, value = hue + rng.uniform(-spread, spread), rng.uniform(0.05, 0.8), rng.uniform(0.35, 1)
        colours.append(tuple(int(255 * part) for part in colorsys.hsv_to_rgb(near % 1, saturation, value)))
    return colours


def _cloud(rng, height, width, cells):
    """Returns smooth noise float32 [height, width] in [0, 1] with about `cells` bumps in a row."""
    coarse = Image.fromarray(rng.random((cells + 2, cells + 2), np.float32))
    return np.clip(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)


def _along(rng, height, width, angle=None):
    """Returns the way along a direction, any one if `angle` (radians) is None, in heights: float32 [height, width]."""
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    return x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) + np.float32(rng.random())


def _radius(rng, height, width):
    """Returns the distance from a random point, in heights: float32 [height, width]."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    return np.hypot(x - np.float32(rng.random() * width / height), y - np.float32(rng.random()))


def _mix(field, colours):
    """Returns the image in which the lowest value of `field` has the first colour and the highest the last."""
    stops = np.linspace(field.min(), field.max() + 1e-6, len(colours))
    channels = [np.interp(field, stops, [colour[k] for colour in colours]) for k in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def _pick(numbers, colours):
    """Returns the image in which number n has the colour n modulo their count."""
    return Image.fromarray(np.array(colours, np.uint8)[numbers % len(colours)])
