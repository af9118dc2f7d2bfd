"""The loss of Faster R-CNN (Ren et al. 2015, section 3.1.2; Girshick 2015, section 2.3), in four terms of weight 1."""

from losses.base import UnweightedLoss


class DetectionLoss(UnweightedLoss):
    """Cross-entropy and smooth L1, of anchors and of regions; of `models.faster_rcnn.Detector.training_outputs`."""

    def __call__(self, batch, outputs, weights):
        """Returns the terms by name, float32 []: "rpn_class", "rpn_box", "region_class" and "region_box".

        Each is a mean over images of a term of one image, so that the mean over processes is that of one large batch.
        """
        raise NotImplementedError
