"""Images like photographs, and what training makes of them, for several tests."""

import io

import numpy as np
from PIL import Image
import tensorflow as tf

from data_processing.input_pipeline.transforms import (
    Augmentation,
    training_image,
)

PLAIN = Augmentation(0.7, 0.7, 0.0, 0.0)


def photograph(height, width, seed=0):
    """Smooth colors with some grain, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    return np.clip(np.asarray(small) + rng.normal(size=(height, width, 1)) * 4, 0, 255).astype(np.uint8)


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def training_images(encoded, image_size, seeds, augmentation):
    """The training images of many seeds, as the input pipeline makes them."""

    def one(seed):
        return training_image(encoded, image_size, tf.stack([tf.constant(7, tf.int64), seed]), augmentation)

    images = tf.data.Dataset.range(seeds).map(one, num_parallel_calls=2, deterministic=True).batch(seeds)
    return next(images.as_numpy_iterator())
