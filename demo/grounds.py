"""Textured grounds for the demo's scenes. Those of training and of validation are different ones."""

import numpy as np
from PIL import Image


def draw(rng, width, height, textures):
    """Returns an RGB picture of one of `textures` between two or three colours, with some grain."""
    texture = textures[rng.integers(len(textures))]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / min(width, height)
    blend = np.clip(texture(rng, x, y), 0, 1)[..., None]
    first, second, third = rng.uniform(40, 255, (3, 3)).astype(np.float32)
    pixels = first * (1 - blend) + second * blend
    pixels += (third - pixels) * 0.35 * smooth(rng, x, y, 2)[..., None]
    pixels += rng.normal(0, rng.uniform(0, 12), (height, width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def smooth(rng, x, y, cells):
    """Clouds: random values on a grid of `cells` a side, interpolated; [height, width] in [0, 1]."""
    grid = Image.fromarray(rng.uniform(0, 1, (cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(grid.resize(x.shape[::-1], Image.Resampling.BICUBIC)).clip(0, 1)


def _turned(rng, x, y):
    """A coordinate along a random direction."""
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle)


def clouds(rng, x, y):
    return 0.6 * smooth(rng, x, y, 4) + 0.4 * smooth(rng, x, y, 12)


def stripes(rng, x, y):
    return 0.5 + 0.5 * np.sin(_turned(rng, x, y) * rng.uniform(12, 60))


def checks(rng, x, y):
    frequency = rng.uniform(3, 9)
    return (np.floor(_turned(rng, x, y) * frequency) + np.floor(_turned(rng, y, -x) * frequency)) % 2 * 0.7


def slope(rng, x, y):
    coordinate = _turned(rng, x, y)
    return (coordinate - coordinate.min()) / (np.ptp(coordinate) + 1e-6)


def mosaic(rng, x, y):
    """Cells around random points, each of its own shade."""
    points = rng.uniform(0, 1.5, (rng.integers(8, 40), 2))
    nearest = ((x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2).argmin(-1)
    return rng.uniform(0, 1, len(points))[nearest]


def dots(rng, x, y):
    frequency, radius = rng.uniform(4, 10), rng.uniform(0.15, 0.4)
    return (np.hypot(x * frequency % 1 - 0.5, y * frequency % 1 - 0.5) < radius) * 0.8


def rings(rng, x, y):
    centre = rng.uniform(0, 1.2, 2)
    return 0.5 + 0.5 * np.cos(np.hypot(x - centre[0], y - centre[1]) * rng.uniform(15, 50))


def waves(rng, x, y):
    return 0.5 + 0.5 * np.sin(y * rng.uniform(10, 40) + 2 * np.sin(x * rng.uniform(4, 14)))


TRAINING = (clouds, stripes, checks, slope)
VALIDATION = (mosaic, dots, rings, waves)
