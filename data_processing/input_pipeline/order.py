"""The order of the samples: a pure function of the seed, so that a run can begin at any step without reading back.

Epoch e is a permutation of chunks of neighbouring records, shuffled again inside windows of `shuffle_buffer` records;
the epochs follow each other without end. Where batches are padded to the largest image in them, images that are higher
than wide come together, as far as a window has them. The place in that sequence is a sample's position. Step k of
`size` ranks with batches of B takes the positions from k * B * size on; a rank takes every `size`-th of them.
"""

import numpy as np

# Neighbours that stay together in the first shuffle, so that disks read megabytes, not single images.
CHUNK = 16
# Images of one orientation that stay together: batches of up to so many hold only one, but at the end of a window.
GROUP = 16


def epoch_order(records, shuffle_buffer, seed, epoch, first=0, portrait=None):
    """Yields the order of an epoch from position `first` on, window by window: arrays of indices below `records`.

    All of them together are a permutation, fresh for each `epoch`. With `portrait`, bool [records], groups of GROUP
    records that are alike in it stay together.
    """
    chunks = np.random.default_rng([seed, epoch]).permutation(-(-records // CHUNK)).astype(np.int64)
    order = (chunks[:, None] * CHUNK + np.arange(CHUNK)).ravel()
    order = order[order < records]
    for begin in range(first - first % shuffle_buffer, records, shuffle_buffer):
        window = order[begin : begin + shuffle_buffer]
        random = np.random.default_rng([seed, epoch, begin])
        random.shuffle(window)
        if portrait is not None:
            window = _grouped(window, portrait[window], random)
        yield window[max(first - begin, 0) :]


def _grouped(window, is_portrait, random):
    """Puts groups of records of one orientation in a random order; what is left of both comes last."""
    parts = [window[~is_portrait], window[is_portrait]]
    groups = [part[k : k + GROUP] for part in parts for k in range(0, len(part) - GROUP + 1, GROUP)]
    rest = [part[len(part) - len(part) % GROUP :] for part in parts]
    return np.concatenate([*(groups[k] for k in random.permutation(len(groups))), *rest])


def sample_positions(records, shuffle_buffer, seed, first=0, portrait=None):
    """Yields without end, from position `first` on, two arrays int64 [n]: positions, and the record of each.

    `portrait` as of `epoch_order`.
    """
    epoch, start = divmod(first, records)
    while True:
        for window in epoch_order(records, shuffle_buffer, seed, epoch, start, portrait):
            yield np.arange(first, first + len(window)), window
            first += len(window)
        epoch, start = epoch + 1, 0
