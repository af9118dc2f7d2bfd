"""The order of the samples: a pure function of the seed, so that a run can begin at any step without reading back.

Epoch e is a permutation of chunks of neighbouring records, shuffled again inside windows of `shuffle_buffer` records;
the epochs follow each other without end. Where batches are padded to the largest image in them, images that are higher
than wide come together, as far as a window has them. The place in that sequence is a sample's position. Step k of
`size` ranks with batches of B takes the positions from k * B * size on; a rank takes every `size`-th of them.
"""

import numpy as np

# Neighbours that stay together in the first shuffle, so that disks read megabytes, not single images.
CHUNK = 16
# Images of one orientation that stay together, at positions that are multiples of it: steps of so many images, or of a
# half, a quarter … of it, hold only one, but where a window begins or ends. Grouped are numbers of records, 8 bytes
# each, before any is read: no image waits for others of its orientation.
GROUP = 64


def epoch_order(records, shuffle_buffer, seed, epoch, first=0, portrait=None):
    """Yields the order of an epoch from position `first` on, window by window: arrays of indices below `records`.

    All of them together are a permutation, fresh for each `epoch`. With `portrait`, bool [records], groups of GROUP
    records that are alike in it stay together, at positions that are multiples of GROUP in the whole sequence.
    """
    chunks = np.random.default_rng([seed, epoch]).permutation(-(-records // CHUNK)).astype(np.int64)
    order = (chunks[:, None] * CHUNK + np.arange(CHUNK)).ravel()
    order = order[order < records]
    for begin in range(first - first % shuffle_buffer, records, shuffle_buffer):
        window = order[begin : begin + shuffle_buffer]
        random = np.random.default_rng([seed, epoch, begin])
        random.shuffle(window)
        if portrait is not None:
            window = _grouped(window, portrait[window], -(epoch * records + begin) % GROUP, random)
        yield window[max(first - begin, 0) :]


def _grouped(window, is_portrait, before, random):
    """Puts groups of records of one orientation in a random order, `before` others first, and the rest last."""
    parts = [window[~is_portrait], window[is_portrait]]
    groups = [part[k : k + GROUP] for part in parts for k in range(0, len(part) - GROUP + 1, GROUP)]
    groups = [groups[k] for k in random.permutation(len(groups))]
    rest = [part[len(part) - len(part) % GROUP :] for part in parts]
    while groups and sum(map(len, rest)) < before:
        rest.append(groups.pop())
    rest = np.concatenate(rest)
    return np.concatenate([rest[:before], *groups, rest[before:]])


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
