"""The published input pipeline, plainly re-implemented for our records.

Images are decoded whole, converted to float, cropped, resized, flipped, rotated, and their colours changed, with the
operations of `tf.image`.
"""

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline.transforms import ASPECT_RATIOS, CROP_ATTEMPTS
from data_processing.records import schema

CLASSES = 1000


def batches(paths, augmentation, config):
    """Returns an endless dataset of batches of our records, of CLASSES with several an image.

    Args:
      paths: of shards.
      augmentation: an `Augmentation`, of which the crops are taken; the rest is as released.
      config: an `InputConfig`.
    """
    size = config.image_size

    def load(serialized):
        record = schema.parse(serialized, "sparse", CLASSES)
        image = tf.image.convert_image_dtype(tf.io.decode_jpeg(record["image"], channels=3), tf.float32)
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            min_object_covered=augmentation.crop_min_covered,
            aspect_ratio_range=ASPECT_RATIOS,
            area_range=(augmentation.crop_min_area, 1.0),
            max_attempts=CROP_ATTEMPTS,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.image.resize(tf.slice(image, begin, extent), [size, size])
        image = tf.image.random_flip_left_right(tf.ensure_shape(image, [size, size, 3]))
        return (augment(image) - 0.5) * 2, record["label"], record["name"]

    records = tf.data.TFRecordDataset(list(paths)).shuffle(config.shuffle_buffer).repeat()
    return records.map(load, num_parallel_calls=config.num_preprocess_threads).batch(config.batch_size).prefetch(4)


def augment(image):
    """A third rotated and in colours A, a third in colours B."""

    def brightness(image):
        return tf.image.random_brightness(image, 32 / 255)

    def saturation(image):
        return tf.image.random_saturation(image, 0.5, 1.5)

    def hue(image):
        return tf.image.random_hue(image, 0.2)

    def contrast(image):
        return tf.image.random_contrast(image, 0.5, 1.5)

    def order_a():
        return contrast(hue(saturation(brightness(rotate(image)))))

    def order_b():
        return hue(saturation(contrast(brightness(image))))

    choice = tf.random.uniform([], 0, 3, tf.int32)
    return tf.clip_by_value(tf.switch_case(choice, [order_a, order_b, lambda: image]), 0.0, 1.0)


def rotate(image):
    """As `tf.contrib.image.rotate` did: one operation, nearest neighbour, black outside."""
    angle = tf.random.uniform([], -np.pi / 4, np.pi / 4)
    cos, sin, center = tf.cos(angle), tf.sin(angle), (image.shape[0] - 1) / 2
    transform = [cos, -sin, center * (1 - cos + sin), sin, cos, center * (1 - sin - cos), 0.0, 0.0]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(transform)[None],
        output_shape=image.shape[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
