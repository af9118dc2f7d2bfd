"""Faster R-CNN (Ren et al. 2015) on the ResNet of `models/resnet.py`, as in "Deep Residual Learning", appendix A.

A trunk, the network up to stages_2 (stride 16), sees whole images; a head, the last stage with stride 1, sees crops of
what leaves it. Ours is a pre-activation network: what leaves a stage is not normalised. So the layers that propose
regions see it through the first batch normalisation and ReLU of the next stage's main path, which crops go through
as well, in the next stage itself; its weights come with a checkpoint, and nothing is added to the network.
"""

import math
from typing import NamedTuple

import keras
from keras import layers
import tensorflow as tf

from models import anchors, boxes, regions
from models.boxes import Objects
from models.resnet import POLICIES, NetworkConfig, build_last_stage, build_resnet, layer_seed

TAP = "stages_3_block_0.conv1_b2_bn"
RPN_CHANNELS = 512
# The reference recipe's: nothing else is frozen.
FROZEN = ("init.", "stages_0_")


class DetectorConfig(NamedTuple):
    """What a detector looks for, and among how many regions; see the flags of the same names.

    Attributes:
      anchor_sizes: square roots of the anchors' areas, in pixels of the resized image.
      regions: sampled from an image in training.
      proposals: looked at in an image at test.
    """

    anchor_sizes: tuple[int, ...] = (128, 256, 512)
    regions: int = 256
    proposals: int = 300


class Detector:
    """A detector: a trunk over whole images, what proposes regions of its map, and a head over crops of the map.

    Attributes:
      model: functional model of all layers, from images, a map and crops, named "resnet_<size>". Its variables have the
        names of `checkpoint.model_variables`: those of a classification network without logits, "rpn/…", "regions/…".
      trunk: its part from images to the map, [batch, height / 16, width / 16, channels], sides rounded up; in the
        layout and precision of the network.
      rpn: its part from a map to "objectness", float32 [batch, height / 16, width / 16, anchors], and "offsets",
        [batch, …, 4 * anchors].
      head: its part from crops [regions, 7, 7, channels], in the network's layout, to "classes", float32 [regions,
        class_num + 1], the background's logit last, and "offsets", [regions, 4 * class_num].
      class_num: number of classes, without the background.
      config: the `DetectorConfig`.
    """

    def __init__(self, parts, class_num, network, config):
        """`parts` are the trunk, the rpn and the head; `network` is the `NetworkConfig`."""
        self.trunk, self.rpn, self.head = parts
        self.class_num, self.config = class_num, config
        self._channels_first = network.data_format == "channels_first"
        outputs = [self.trunk.output, *self.rpn.output.values(), *self.head.output.values()]
        self.model = keras.Model([part.input for part in parts], outputs, name=self.trunk.name)

    def training_outputs(self, batch, batch_norm_training=False):
        """Returns what `losses.detection.DetectionLoss` compares, a dictionary of tensors.

        Args:
          batch: dictionary of
            image: float32 [batch, height, width, 3] in [-1, 1], padded with 0 at the right and the bottom.
            size: int32 [batch, 2], height and width of the true image in it; 0, 0 for none.
            box: float32 [batch, objects, 4], left, top, right, bottom in pixels of `image`.
            label: int64 [batch, objects], -1 for what only fills up.
            difficult: bool [batch, objects]; such an object makes neither a positive nor a negative.
            seed: int64 [batch, 2], from which alone an image's anchors and regions are sampled.
          batch_norm_training: whether batch normalisation uses the statistics of the batch, and updates its own.

        Returns, without a gradient to what is not a logit or an offset:
          rpn_logits: float32 [batch, anchors], of there being an object.
          rpn_labels: int32 [batch, anchors], 1 object, 0 none, -1 not sampled.
          rpn_offsets, rpn_targets: float32 [batch, anchors, 4], predicted and true.
          region_logits: float32 [batch, regions, class_num + 1].
          region_labels: int32 [batch, regions], class_num for the background, -1 where there was no region to sample.
          region_offsets, region_targets: float32 [batch, regions, 4], of the true class; 0 for the background.
        """
        features, places, logits, offsets = self._look(batch["image"], batch_norm_training)
        objects = Objects(batch)
        labels, targets = anchors.targets(places, objects, batch["size"], batch["seed"])
        proposals, valid = regions.propose(places, logits, offsets, batch["size"], regions.TRAINING_COUNTS)
        sampled, kinds, nearest = regions.sample(proposals, valid, objects, batch["seed"], self.config.regions)
        true_boxes, true_labels = objects.of(nearest)
        classes, class_offsets = self._classify(features, sampled, batch_norm_training)
        on_object = kinds == 1
        region_targets = boxes.encode(sampled, true_boxes, regions.OFFSET_SCALES)
        region_offsets = tf.gather(class_offsets, tf.maximum(true_labels, 0), batch_dims=2)
        return {
            "rpn_logits": logits,
            "rpn_labels": labels,
            "rpn_offsets": offsets,
            "rpn_targets": targets,
            "region_logits": classes,
            "region_labels": tf.where(on_object, true_labels, tf.where(kinds == 0, self.class_num, -1)),
            "region_offsets": tf.where(on_object[..., None], region_offsets, 0.0),
            "region_targets": tf.where(on_object[..., None], region_targets, 0.0),
        }

    def detect(self, images, sizes):
        """Returns the objects in images, the likeliest first, a dictionary of tensors.

        Args:
          images: float32 [batch, height, width, 3] in [-1, 1], padded with 0 at the right and the bottom.
          sizes: int32 [batch, 2], height and width of the true image in it.

        Returns:
          boxes: float32 [batch, 100, 4], left, top, right, bottom in pixels of `images`, inside the true image.
          scores: float32 [batch, 100], probabilities of the classes; 0 where there is no further object, NaN of an
            image of which the network's answers are not finite.
          classes: int32 [batch, 100]; -1 where there is no further object.
        """
        features, places, logits, offsets = self._look(images, training=False)
        counts = (regions.TEST_ANCHORS, self.config.proposals)
        proposals, valid = regions.propose(places, logits, offsets, sizes, counts)
        classes, class_offsets = self._classify(features, proposals, training=False)
        found = regions.detect(proposals, valid, classes, class_offsets, sizes)
        # Suppression drops what is not finite, and a network that diverged would seem to see nothing.
        finite = [tf.math.is_finite(one) for one in (logits, offsets, classes, class_offsets)]
        finite = tf.stack([tf.reduce_all(one, axis=tf.range(1, tf.rank(one))) for one in finite])
        scores = tf.where(tf.reduce_all(finite, axis=0)[:, None], found["scores"], math.nan)
        return found | {"scores": scores}

    def _look(self, images, training):
        """Returns the map, NHWC, anchors [anchors, 4], and their logits [batch, …] and offsets [batch, …, 4]."""
        features = self.trunk(images, training=training)
        # Never with the statistics of the batch, whatever the rest: the layer is one of the head's, too, and its
        # moving averages would become those of a mixture of maps and crops, and right for neither.
        outputs = self.rpn(features, training=False)
        batch, height, width = tf.unstack(tf.shape(outputs["objectness"])[:3])
        places = anchors.of_map(self.config.anchor_sizes, height, width)
        logits, offsets = tf.reshape(outputs["objectness"], [batch, -1]), tf.reshape(outputs["offsets"], [batch, -1, 4])
        if self._channels_first:
            features = tf.transpose(features, [0, 2, 3, 1])
        return features, places, logits, offsets

    def _classify(self, features, chosen, training):
        """Returns logits [batch, n, class_num + 1] and offsets [batch, n, class_num, 4] of regions [batch, n, 4]."""
        crops = regions.crop(features, chosen)
        if self._channels_first:
            crops = tf.transpose(crops, [0, 3, 1, 2])
        outputs = self.head(tf.cast(crops, self.head.input.dtype), training=training)
        shape = tf.shape(chosen)[:2]
        logits = tf.reshape(outputs["classes"], tf.concat([shape, [self.class_num + 1]], axis=0))
        return logits, tf.reshape(outputs["offsets"], tf.concat([shape, [self.class_num, 4]], axis=0))


def build_detector(resnet_size, class_num, network=NetworkConfig(), config=DetectorConfig(), seed=1234):
    """Builds a `Detector` with random weights.

    Args:
      resnet_size: one of `models.resnet.DEPTHS`.
      class_num: number of classes, without the background.
      network: a `NetworkConfig`.
      config: a `DetectorConfig`.
      seed: of the initial weights, see `models.resnet.build_resnet`.
    """
    whole = build_resnet(resnet_size, 1, network, seed=seed)
    trunk = keras.Model(whole.input, whole.output["stages_2"], name=whole.name)
    last = build_last_stage(resnet_size, network, strides=1, seed=seed)
    classifying = {
        "classes": _dense(class_num + 1, "regions.classes", 0.01, seed)(last.output["feature"]),
        "offsets": _dense(4 * class_num, "regions.offsets", 0.001, seed)(last.output["feature"]),
    }
    parts = trunk, _rpn(last, network, config, seed), keras.Model(last.input, classifying, name="regions")
    return Detector(parts, class_num, network, config)


def freeze(detector):
    """Freezes the first convolution, the first stage and all batch normalisation of a detector (reference recipe).

    Frozen batch normalisation uses its moving statistics, in training, too.
    """
    for layer in detector.model.layers:
        if layer.name.startswith(FROZEN) or isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def _rpn(last, network, config, seed):
    """Returns the model "rpn" of a `Detector`, with layers of the `last` stage."""
    policy, count = keras.DTypePolicy(POLICIES[network.precision]), len(anchors.RATIOS) * len(config.anchor_sizes)
    features = keras.Input(last.input.shape[1:], name="map", dtype=policy.compute_dtype)
    x = last.get_layer(f"{TAP}_relu")(last.get_layer(TAP)(features))

    def conv(x, name, shape, dtype, activation=None):
        return layers.Conv2D(
            *shape,
            padding="same",
            data_format=network.data_format,
            activation=activation,
            kernel_initializer=_normal(0.01, seed, name),
            dtype=dtype,
            name=name,
        )(x)

    x = conv(x, "rpn.conv", (RPN_CHANNELS, 3), policy, "relu")
    outputs = {
        "objectness": conv(x, "rpn.objectness", (count, 1), "float32"),
        "offsets": conv(x, "rpn.offsets", (4 * count, 1), "float32"),
    }
    if network.data_format == "channels_first":
        outputs = {
            name: layers.Permute((2, 3, 1), dtype="float32", name=f"{name}_last")(x) for name, x in outputs.items()
        }
    return keras.Model(features, outputs, name="rpn")


def _dense(width, name, deviation, seed):
    return layers.Dense(width, kernel_initializer=_normal(deviation, seed, name), dtype="float32", name=name)


def _normal(deviation, seed, name):
    """Each layer draws from the seed and its own name, as in `models.resnet`."""
    return keras.initializers.RandomNormal(stddev=deviation, seed=layer_seed(seed, name))
