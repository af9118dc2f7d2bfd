"""Which images are learnt from, and which are for validation or test."""

import numpy as np


def split(labels, train_per_class, val_share, seed):
    """Splits images in two, class by class; returns two sorted lists of indices into `labels`.

    Each class is shuffled by the seed. `train_per_class` of its images come into the first part, or, if that is 0,
    all but `val_share` of them. At least one is left for the second part, if there are two. With the same seed the
    first part of a smaller `train_per_class` is a part of that of a larger one.
    """
    labels = np.asarray(labels)
    parts = [], []
    for label in np.unique(labels):
        order = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        count = train_per_class or round((1 - val_share) * len(order))
        count = max(1, min(count, len(order) - 1))
        parts[0].extend(order[:count].tolist())
        parts[1].extend(order[count:].tolist())
    return sorted(parts[0]), sorted(parts[1])
