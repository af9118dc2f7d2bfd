"""Detection: the objects in an image, each with a box and a class. Record, transforms, network, loss and evaluator."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline import box_transforms
from data_processing.input_pipeline.transforms import decode_jpeg
from data_processing.records import schema
from evaluation import drawing
from evaluation.detection import DetectionEvaluator
from losses.detection import DetectionLoss
from models.faster_rcnn import Detector, DetectorConfig, build_detector, freeze
from models.resnet import NetworkConfig, resolve_data_format
from tasks.base import Task
from training import plan

# Reference recipe (docs/detection.md): an image's short and long side, in pixels.
SHORT_SIDE, LONG_SIDE = 600, 1000
# Detections that pictures show.
SHOWN_SCORE = 0.5
# The longest side of pictures: TensorBoard's files hold one after the other.
PICTURE_SIDE = 600


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """See `Task`. Images keep their aspect; those of a batch are padded to a common size.

    Attributes:
      detector: a `models.faster_rcnn.Detector`.
      long_side: what the long side of an image is reduced to, if it is more, in pixels.
      loss: a `DetectionLoss`.
      batch_norm_training: whether batch normalisation uses the batch's statistics and moves its averages.
    """

    detector: Detector
    long_side: int = LONG_SIDE
    loss: object = dataclasses.field(default_factory=DetectionLoss)
    batch_norm_training: bool = False

    kind = "boxes"
    head = "boxes"
    new_scopes = ("rpn/", "regions/")
    class_scopes = ("regions/",)
    primary_metric = "mAP"
    shapes_vary = True

    @property
    def model(self):
        return self.detector.model

    @property
    def class_num(self):
        return self.detector.class_num

    @property
    def network_name(self):
        return f"Faster R-CNN on {super().network_name}"

    def parse(self, serialized):
        return schema.parse(serialized, "boxes", self.class_num)

    def train_transform(self, example, size, seed):
        """As `eval_transform`, and mirrored or not."""
        example = self.eval_transform(example, size) | {"seed": tf.cast(seed, tf.int64)}
        image, box = example["image"], example["box"]
        mirror = tf.random.stateless_uniform([], seed) < 0.5
        image = tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)
        box = tf.where(mirror, box_transforms.mirrored(box, example["original"][1]), box)
        return example | {"image": image, "box": box}

    def eval_transform(self, example, size):
        """The whole image, `shrunk` if it is large; it is resized on the device, to a short side of `size`.

        Its "original" height and width, and its boxes, are those of the record. An image of another size than its
        record says is an error: its boxes were checked against that.
        """
        image = decode_jpeg(example["image"])
        original = tf.shape(image)[:2]
        said = tf.cast(tf.stack([example["height"], example["width"]]), tf.int32)
        wrong = [example["name"], "the record says height and width", said, "its image has", original]
        tf.debugging.Assert(tf.reduce_all(said == original), [*wrong, "build the shard again"])
        kept = {name: example[name] for name in ("name", "box", "label", "difficult")}
        return kept | {
            "image": box_transforms.shrunk(image, size, self.long_side),
            "original": original,
            "short_side": tf.constant(size, tf.int32),
        }

    def blank(self, size, training):
        """One grey pixel without an object: its size of 0 is worth no loss."""
        blank = {
            "name": "",
            "box": tf.zeros([0, 4]),
            "label": tf.zeros([0], tf.int64),
            "difficult": tf.zeros([0], tf.bool),
            "image": tf.zeros([1, 1, 3], tf.uint8),
            "original": tf.zeros([2], tf.int32),
            "short_side": tf.constant(size, tf.int32),
        }
        return blank | ({"seed": tf.zeros([2], tf.int64)} if training else {})

    def batched(self, examples, batch_size, training):
        """In evaluation the images of a batch have one padded size, so that no image depends on another.

        Up to `batch_size` - 1 images of each padded size wait for others then. There are fewer sizes than twice the
        long side's multiples of 64, 31 for 600 and 1,000 pixels, most of them of odd aspects: VOC's photographs have a
        few. An image takes at most 12 bytes a pixel that the network sees, 7 MB there, one of 500 x 375 pixels 0.6 MB.
        """
        shapes = {name: spec.shape for name, spec in examples.element_spec.items()}
        fills = {name: tf.zeros([], spec.dtype) for name, spec in examples.element_spec.items() if name != "name"}
        fills |= {"name": "", "label": tf.constant(-1, tf.int64)}

        def padded(some, whole):
            return some.padded_batch(batch_size, shapes, fills, drop_remainder=whole)

        if training:
            # A single image needs no padding, and none of the copying.
            return padded(examples, True) if batch_size > 1 else examples.batch(1, drop_remainder=True)

        def key(example):
            size = box_transforms.network_size(
                tf.maximum(example["original"], 1), example["short_side"], self.long_side
            )
            height, width = tf.unstack(tf.cast(box_transforms.padded_size(size), tf.int64))
            return height * 2**32 + width

        return examples.group_by_window(key, lambda _, some: padded(some, False), batch_size)

    def forward(self, batch, training=False, seed=None):
        """Returns what the loss compares or, in evaluation, "boxes", "scores" and "classes" as `Detector.detect` does.

        Boxes of evaluation are in pixels of the image as the record holds it.
        """
        images = tf.ensure_shape(batch["image"], [None, None, None, 3])
        originals = tf.ensure_shape(batch["original"], [None, 2])
        long_side = tf.constant(self.long_side)
        images, sizes, scale = box_transforms.fit_batch(
            images, tf.maximum(originals, 1), batch["short_side"][0], long_side
        )
        if not training:
            found = self.detector.detect(images, sizes)
            return found | {"boxes": box_transforms.scaled(found["boxes"], 1 / scale)}
        is_there = tf.reduce_all(originals > 0, axis=1, keepdims=True)
        inputs = {
            "image": images,
            "size": tf.where(is_there, sizes, 0),
            "box": box_transforms.scaled(tf.ensure_shape(batch["box"], [None, None, 4]), scale),
            "label": tf.ensure_shape(batch["label"], [None, None]),
            "difficult": tf.ensure_shape(batch["difficult"], [None, None]),
            "seed": tf.ensure_shape(batch["seed"], [None, 2]),
        }
        return self.detector.training_outputs(inputs, self.batch_norm_training)

    def settings(self):
        return {"anchors": ",".join(map(str, self.detector.config.anchor_sizes)), "long_side": self.long_side}

    def run_settings(self):
        return {"from_random": self.batch_norm_training}

    def described(self):
        """Returns a line that says what it looks for, and in what."""
        config = self.detector.config
        sizes = ", ".join(map(str, config.anchor_sizes))
        return f"long sides of at most {self.long_side:,} pixels, anchors of {sizes}, {config.regions} regions an image"

    def evaluator(self, scratch_dir=None, names=None):
        del scratch_dir
        return DetectionEvaluator(self.class_num, names)

    def memory(self, batch_size, size):
        sides = box_transforms.padded_size(size), box_transforms.padded_size(self.long_side)
        return plan.detector_memory(self.detector, batch_size, sides)

    def pictures(self, batch, names):
        boxes, labels = np.asarray(batch["box"]), np.asarray(batch["label"])
        captions = [[_name(names, label) for label in row] for row in labels]
        return _stacked([self._drawn(batch, k, boxes[k], labels[k], captions[k]) for k in range(len(labels))])

    def pictures_of_outputs(self, batch, outputs, names):
        """The likely objects, each with its probability."""
        scores, classes = np.asarray(outputs["scores"]), np.asarray(outputs["classes"])
        boxes, classes = np.asarray(outputs["boxes"]), np.where(scores >= SHOWN_SCORE, classes, -1)
        captions = [
            [f"{_name(names, label)} {score:.2f}" for label, score in zip(*row, strict=True)]
            for row in zip(classes, scores, strict=True)
        ]
        return [self._drawn(batch, k, boxes[k], classes[k], captions[k]) for k in range(len(classes))]

    def _drawn(self, batch, k, boxes, labels, captions):
        """The k-th image of a batch with boxes drawn into it, of those that have a label, in [0, 1]."""
        original = np.maximum(batch["original"][k], 1)
        height, width = held = box_transforms.held_size(original, batch["short_side"][k], self.long_side).numpy()
        shown = np.minimum(held, box_transforms.network_size(held, PICTURE_SIDE, PICTURE_SIDE))
        image = tf.image.resize(batch["image"][k][:height, :width], shown, "area").numpy().astype(np.uint8)
        chosen = np.flatnonzero(labels >= 0)
        colors = [drawing.color_of(labels[n]) for n in chosen]
        scale = np.tile((shown / original)[::-1], 2)
        drawn = drawing.draw(image, boxes[chosen] * scale, [captions[n] for n in chosen], colors)
        return drawn.astype(np.float32) / 255

    def captions(self, batch, names):
        rows = np.asarray(batch["label"])
        return [", ".join(_name(names, label) for label in row[row >= 0]) for row in rows]


class DetectionConfig(NamedTuple):
    """How a network is built and trained to find objects; see the flags of the names of the fields, and of theirs.

    Attributes:
      from_random: whether the network begins with random weights: then nothing of it is frozen, and batch normalisation
        uses the statistics of the batch.
    """

    resnet_size: int
    network: NetworkConfig
    anchor_sizes: tuple[int, ...]
    long_side: int
    regions: int = 256
    proposals: int = 300
    from_random: bool = False
    random_seed: int = 1234


def build(config, class_num):
    """Returns the task to train a detector that has random weights; args: a `DetectionConfig`, number of classes."""
    detector = build_detector(
        config.resnet_size,
        class_num,
        config.network._replace(data_format=resolve_data_format(config.network.data_format)),
        DetectorConfig(config.anchor_sizes, config.regions, config.proposals),
        config.random_seed,
    )
    if not config.from_random:
        freeze(detector)
    return Detection(detector, config.long_side, batch_norm_training=config.from_random)


def choose_long_side(asked, description, short):
    """Returns the long side of images in pixels: as asked for, as the checkpoint says, or 5/3 of the `short` one.

    Args: what is asked for, or None; the `checkpoint.Description` or None; the short side. Raises ValueError if the
    short side is longer.
    """
    long = asked or (description and description.long_side) or round(short * LONG_SIDE / SHORT_SIDE)
    if long < short:
        raise ValueError(f"--long_side={long} is less than the short side, {short}; give --image_size too, or more")
    return long


def _name(names, label):
    return names[label] if names else str(label)


def _stacked(images):
    """Images of several sizes as one array, with black at right and bottom."""
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    return np.stack([np.pad(i, [(0, height - i.shape[0]), (0, width - i.shape[1]), (0, 0)]) for i in images])
