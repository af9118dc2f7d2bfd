"""Which classes occur together: counted from what a network is sure of in images of known classes.

Paper, section 3.3: CO(i, j) is the share of the images of class i in which a network is sure of class j.
"""

import numpy as np
from scipy import sparse


class Counts:
    """Adds up, over images, how often a class is labelled and how often another is predicted beside it.

    Attributes:
      images: int64 [labelled classes], images with each label.
      together: sparse int64 [labelled classes, predicted classes], images with that label and that prediction.
    """

    def __init__(self, class_num, predicted_num):
        self.images = np.zeros(class_num, np.int64)
        self.together = sparse.csr_array((class_num, predicted_num), dtype=np.int64)

    def add(self, labels, probabilities, posterior):
        """Counts a batch.

        Args:
          labels: confidences, float [batch, class_num], above 0 where a class is there.
          probabilities: of the network, float [batch, predicted_num].
          posterior: a class is predicted if its probability is above this.
        """
        there = sparse.csr_array((labels > 0).astype(np.int64))
        predicted = sparse.csr_array((probabilities > posterior).astype(np.int64))
        self.images += np.asarray(there.sum(axis=0)).ravel()
        self.together = self.together + there.T @ predicted

    def merge(self, other):
        """Adds the counts of other images, of another process say."""
        self.images += other.images
        self.together = self.together + other.together


def strong_pairs(counts, predicted_as, ancestors, min_co, min_images):
    """Returns (class, co-occurring class, images, predicted) of each pair that counts, the highest share first.

    Args:
      counts: `Counts`.
      predicted_as: int [predicted classes], which class each output of the network is, or -1.
      ancestors: ancestors of each class; a pair of which one is an ancestor of the other does not count.
      min_co: the share must be above this.
      min_images: of the first class; shares of few images are chance.
    """
    together = counts.together.tocoo()
    pairs = []
    for label, output, predicted in zip(*together.coords, together.data, strict=True):
        label, other, images = int(label), int(predicted_as[output]), int(counts.images[label])
        related = other == label or other in ancestors[label] or label in ancestors[other]
        if other >= 0 and not related and images >= min_images and predicted > min_co * images:
            pairs.append((label, other, images, int(predicted)))
    return sorted(pairs, key=lambda pair: (-pair[3] / pair[2], -pair[2], pair[:2]))
