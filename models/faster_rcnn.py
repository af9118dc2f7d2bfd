"""Faster R-CNN on the ResNet of `models/resnet.py` (Ren et al. 2015; the "C4" form of He et al. 2016, section A)."""

from typing import NamedTuple

from models.resnet import NetworkConfig


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
    """A detector: a trunk over whole images that proposes regions, and a head over crops of what leaves it.

    Attributes:
      model: functional model of all layers, from images and crops, named "resnet_<size>". Its variables have the names
        of `checkpoint.model_variables`: those of a classification network without logits, "rpn/…" and "regions/…".
      class_num: number of classes, without the background, whose logit is the last.
      config: the `DetectorConfig`.
    """

    def __init__(self, model, class_num, config):
        self.model, self.class_num, self.config = model, class_num, config

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
        raise NotImplementedError

    def detect(self, images, sizes):
        """Returns the objects in images, the likeliest first, a dictionary of tensors.

        Args:
          images: float32 [batch, height, width, 3] in [-1, 1], padded with 0 at the right and the bottom.
          sizes: int32 [batch, 2], height and width of the true image in it.

        Returns:
          boxes: float32 [batch, 100, 4], left, top, right, bottom in pixels of `images`, inside the true image.
          scores: float32 [batch, 100], probabilities of the classes; 0 where there is no further object.
          classes: int32 [batch, 100]; -1 where there is no further object.
        """
        raise NotImplementedError


def build_detector(resnet_size, class_num, network=NetworkConfig(), config=DetectorConfig(), seed=1234):
    """Builds a `Detector` with random weights.

    Args:
      resnet_size: one of `models.resnet.DEPTHS`.
      class_num: number of classes, without the background.
      network: a `NetworkConfig`.
      config: a `DetectorConfig`.
      seed: of the initial weights, see `models.resnet.build_resnet`.
    """
    raise NotImplementedError


def freeze(detector):
    """Freezes the first convolution, the first stage and all batch normalisation of a detector (reference recipe)."""
    raise NotImplementedError
