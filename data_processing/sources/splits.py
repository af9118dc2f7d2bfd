"""Which images are learnt from, and which are for validation or test."""

import hashlib

import numpy as np


def split(labels, train_per_class, val_fraction, seed):
    """Splits images in two, class by class; returns two sorted lists of indices into `labels`.

    Each class is shuffled by the seed. `train_per_class` of its images come into the first part, or, if that is 0,
    all but `val_fraction` of them. At least one is left for the second part, if there are two. With the same seed the
    first part of a smaller `train_per_class` is a part of that of a larger one.
    """
    labels = np.asarray(labels)
    parts = [], []
    for label in np.unique(labels):
        order = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        count = train_per_class or round((1 - val_fraction) * len(order))
        count = max(1, min(count, len(order) - 1))
        parts[0].extend(order[:count].tolist())
        parts[1].extend(order[count:].tolist())
    return sorted(parts[0]), sorted(parts[1])


def chosen(path, seed) -> float:
    """A number in [0, 1) that follows from path and seed alone, so that other sources beside do not change a split."""
    digest = hashlib.blake2b(path.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def by_path(rows, val_fraction, seed):
    """Splits rows, whose first field is a path, in two by `chosen`; returns two lists, in their order.

    Those below `val_fraction` are the second, and at least one of each, if there are two and a fraction is wanted.
    """
    if not 0 < val_fraction < 1:
        return ([], list(rows)) if val_fraction else (list(rows), [])
    numbers = np.array([chosen(row[0], seed) for row in rows])
    is_second = numbers < val_fraction
    if len(rows) > 1:
        is_second[numbers.argmin()], is_second[numbers.argmax()] = True, False
    parts = [], []
    for row, second in zip(rows, is_second.tolist(), strict=True):
        parts[second].append(row)
    return parts
