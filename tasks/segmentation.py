"""Semantic segmentation: the class of each pixel. Record, transforms, network, loss and evaluator."""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data_processing.input_pipeline import mask_transforms
from data_processing.records import schema
import distributed
from evaluation import palette
from evaluation.segmentation import SegmentationEvaluator
from losses.segmentation import SegmentationLoss
from models import deeplab
from models.deeplab import DeepLabConfig, build_deeplab, enlarged
from models.resnet import NetworkConfig, resolve_data_format
from tasks.base import Task

# Reference recipe (docs/segmentation.md): the side of a crop in training, in pixels.
CROP = 513
# What the canvas of an evaluated image is in other scales: such a multiple of pixels, and 1; so the last cell of any
# output stride lies in the corner.
STRIDE = 32
# Pixels of the images of a batch of evaluation: the scores of all classes of each are held.
PIXELS = 2**21


class Views(NamedTuple):
    """In what an image is looked at in evaluation; the probabilities of all are averaged.

    Attributes:
      scales: of the image's own size.
      flip: whether in its mirror image, too.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """See `Task`. Training sees crops; evaluation sees images whole, in their own size.

    Attributes:
      model: of `models.deeplab.build_deeplab`.
      config: its `DeepLabConfig`.
      loss: a `SegmentationLoss`.
      seen: the `Views` of evaluation.
    """

    model: keras.Model
    config: DeepLabConfig = DeepLabConfig()
    loss: object = dataclasses.field(default_factory=SegmentationLoss)
    seen: Views = Views()

    kind = "masks"
    head = "masks"
    new_scopes = deeplab.NEW_SCOPES
    class_scopes = ("segmentation/",)
    primary_metric = "mIoU"

    @property
    def class_num(self):
        return self.model.output.shape[-1]

    @property
    def network_name(self):
        return f"DeepLab v3{'+' if self.config.decoder else ''} on {super().network_name}"

    def parse(self, serialized):
        return schema.parse(serialized, "masks", self.class_num)

    def train_transform(self, example, size, seed):
        image, mask = mask_transforms.decode(example, self.class_num)
        image, mask = mask_transforms.random_crop(image, mask, size, seed)
        return {"name": example["name"], "image": image, "mask": mask}

    def eval_transform(self, example, size):
        """The image in its own size, whatever that of training."""
        del size
        image, mask = mask_transforms.decode(example, self.class_num)
        return {"name": example["name"], "image": image, "mask": mask, "original": tf.shape(image)[:2]}

    def blank(self, size, training):
        """An image of void pixels alone is worth no loss."""
        if training:
            image, mask = tf.zeros([size, size, 3]), tf.fill([size, size], -1)
            return {"name": "", "image": image, "mask": mask}
        image, mask = tf.zeros([1, 1, 3], tf.uint8), tf.fill([1, 1], -1)
        return {"name": "", "image": image, "mask": mask, "original": tf.zeros([2], tf.int32)}

    def batched(self, examples, batch_size, training):
        """In evaluation the images of a batch have one padded size, so that no image depends on another.

        Large images come in fewer, or alone, and do not wait for others.
        """
        if training:
            return super().batched(examples, batch_size, training)

        def key(example):
            height, width = tf.unstack(tf.cast(mask_transforms.padded_size(example["original"]), tf.int64))
            return height * 2**32 + width

        shapes = {name: spec.shape for name, spec in examples.element_spec.items()}
        fills = {name: tf.zeros([], spec.dtype) for name, spec in examples.element_spec.items() if name != "name"}
        fills |= {"name": "", "mask": -1}
        return examples.group_by_window(
            key,
            lambda _, some: some.padded_batch(batch_size, shapes, fills, drop_remainder=False),
            window_size_func=lambda key: tf.clip_by_value(PIXELS // (key // 2**32 * (key % 2**32)), 1, batch_size),
        )

    def forward(self, batch, training=False, seed=None):
        """Returns "logits", float32 [batch, height, width, class_num], of all pixels or, in evaluation,

        prediction: int16 [batch, height, width], the class of each pixel; -1 outside of the image.
        confusion: int64 [batch, class_num, class_num], numbers of pixels by true class and predicted one.
        confidences: float32 [batch], the mean over pixels of the highest probability; NaN if one is not finite.
        """
        if training:
            images = tf.ensure_shape(batch["image"], [None, None, None, 3])
            return {"logits": enlarged(self.model(images, training=True), tf.shape(images)[1:3])}
        images = tf.ensure_shape(batch["image"], [None, None, None, 3])
        originals, mask = tf.ensure_shape(batch["original"], [None, 2]), batch["mask"]
        height, width = tf.unstack(tf.shape(images)[1:3])
        images = mask_transforms.pad(images, originals)
        scores = look(self.model, images, self.seen)[:, :height, :width]
        found = tf.argmax(scores, axis=-1, output_type=tf.int32)
        inside = mask_transforms.inside(originals, height, width)
        likeliest = tf.reduce_max(tf.nn.softmax(scores) if self.seen == Views() else scores, axis=-1)
        return {
            "prediction": tf.cast(tf.where(inside, found, -1), tf.int16),
            "confusion": confusion(tf.ensure_shape(mask, [None, None, None]), found, self.class_num),
            "confidences": _means(likeliest, inside),
        }

    def settings(self):
        return {"output_stride": self.config.output_stride, "decoder": self.config.decoder}

    def described(self):
        """Returns a line that says how finely it sees, and in what images are evaluated."""
        scales = ", ".join(f"{scale:g}" for scale in self.seen.scales)
        mirrored = " and mirrored" if self.seen.flip else ""
        return f"output stride {self.config.output_stride}; evaluated at {scales} times the images' size{mirrored}"

    def evaluator(self, scratch_dir=None, names=None):
        del scratch_dir
        return SegmentationEvaluator(self.class_num, names)

    def pictures(self, batch, names):
        """Images of the batch, each above its mask."""
        del names
        images = np.asarray(batch["image"]) / 2 + 0.5
        return np.concatenate([images, palette.colors(np.asarray(batch["mask"])) / 255.0], axis=1).astype(np.float32)

    def pictures_of_outputs(self, batch, outputs, names):
        """Each image beside its mask and what is predicted."""
        del names
        pictures = []
        for k, (height, width) in enumerate(np.maximum(batch["original"], 1)):
            parts = [
                palette.colors(np.asarray(one[k])[:height, :width]) for one in (batch["mask"], outputs["prediction"])
            ]
            image = np.concatenate([np.asarray(batch["image"][k])[:height, :width], *parts], axis=1)
            pictures.append(image.astype(np.float32) / 255)
        return pictures

    def captions(self, batch, names):
        rows = [np.unique(mask) for mask in np.asarray(batch["mask"])]
        return [", ".join(names[k] if names else str(k) for k in row[row >= 0]) for row in rows]


class SegmentationConfig(NamedTuple):
    """How a network is built and trained to segment images; see the flags of the names of the fields, and of theirs.

    Attributes:
      freeze_batch_norm: whether the batch normalisation of a checkpoint stays as it is.
    """

    resnet_size: int
    network: NetworkConfig
    output_stride: int = 16
    decoder: bool = False
    class_weights: tuple[float, ...] | None = None
    hard_share: float = 1.0
    freeze_batch_norm: bool = False
    random_seed: int = 1234


def build(config, class_num, seen=Views()):
    """Returns the task to train a network that has random weights.

    Args: a `SegmentationConfig`; the number of classes, the background included; the `Views` of evaluation.

    Raises ValueError if there are not as many `class_weights` as classes.
    """
    if config.class_weights is not None and len(config.class_weights) != class_num:
        raise ValueError(
            f"--class_weights: {len(config.class_weights)} for {class_num} classes; give each one, the background first"
        )
    network = config.network._replace(data_format=resolve_data_format(config.network.data_format))
    kept = DeepLabConfig(config.output_stride, config.decoder)
    model = build_deeplab(config.resnet_size, class_num, network, kept, config.random_seed)
    if config.freeze_batch_norm:
        deeplab.freeze_batch_norm(model)
    loss = SegmentationLoss(config.class_weights, config.hard_share, distributed.mean)
    return Segmentation(model, kept, loss, seen)


def look(model, images, seen=Views()):
    """Returns what a network says of each pixel, float32 [batch, height, width, class_num]: scores that add up.

    Args:
      model: of `models.deeplab.build_deeplab`.
      images: float32 [batch, height, width, 3] in [-1, 1]; sides of 32 k + 1 pixels.
      seen: the `Views`; the probabilities of several are averaged, and of a single one the logits are returned.
    """
    sides = tf.shape(images)[1:3]
    mirrored = (False, True) if seen.flip else (False,)
    ways = [(scale, mirror) for scale in seen.scales for mirror in mirrored]
    if ways == [(1.0, False)]:
        return enlarged(model(images, training=False), sides)
    total = 0.0
    for scale, mirror in ways:
        steps = tf.round(tf.cast(sides - 1, tf.float32) * (scale / STRIDE))
        inputs = enlarged(images, tf.cast(tf.maximum(steps, 1), tf.int32) * STRIDE + 1) if scale != 1 else images
        inputs = tf.reverse(inputs, [2]) if mirror else inputs
        found = tf.nn.softmax(enlarged(model(inputs, training=False), sides))
        total += tf.reverse(found, [2]) if mirror else found
    return total / len(ways)


def _means(values, inside):
    """The means of `values` [batch, height, width] where they are `inside` of their images."""
    counts = tf.reduce_sum(tf.cast(inside, tf.float32), axis=[1, 2])
    return tf.reduce_sum(tf.where(inside, values, 0.0), axis=[1, 2]) / tf.maximum(counts, 1.0)


def confusion(mask, found, class_num):
    """Returns numbers of pixels by true class and predicted one, int64 [batch, class_num, class_num].

    Args:
      mask: int32 [batch, height, width], -1 for what does not count.
      found: int32 [batch, height, width], classes.
      class_num: number of classes.
    """
    pairs = tf.where(mask >= 0, mask * class_num + found, class_num**2)
    pairs = tf.reshape(pairs, [tf.shape(pairs)[0], -1])
    counts = tf.math.bincount(pairs, minlength=class_num**2 + 1, maxlength=class_num**2 + 1, axis=-1)
    return tf.cast(tf.reshape(counts[:, :-1], [-1, class_num, class_num]), tf.int64)
