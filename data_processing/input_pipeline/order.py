"""The order of the samples: a pure function of the seed, so that a run can begin at any step without reading back.

Epoch e is a permutation of chunks of neighbouring records, shuffled again inside windows of `shuffle_buffer` records;
the epochs follow each other without end. The place in that sequence is a sample's position. Step k of `size` ranks with
batches of B takes the positions from k * B * size on; a rank takes every `size`-th of them.
"""

import numpy as np

# Neighbours that stay together in the first shuffle, so that disks read megabytes, not single images.
CHUNK = 16


def epoch_order(records, shuffle_buffer, seed, epoch, first=0):
    """Yields the order of an epoch from position `first` on, window by window: arrays of indices below `records`.

    All of them together are a permutation, fresh for each `epoch`.
    """
    chunks = np.random.default_rng([seed, epoch]).permutation(-(-records // CHUNK)).astype(np.int64)
    order = (chunks[:, None] * CHUNK + np.arange(CHUNK)).ravel()
    order = order[order < records]
    for begin in range(first - first % shuffle_buffer, records, shuffle_buffer):
        window = order[begin : begin + shuffle_buffer]
        np.random.default_rng([seed, epoch, begin]).shuffle(window)
        yield window[max(first - begin, 0) :]


def sample_positions(records, shuffle_buffer, seed, first=0):
    """Yields without end, from position `first` on, two arrays int64 [n]: positions, and the record of each."""
    epoch, start = divmod(first, records)
    while True:
        for window in epoch_order(records, shuffle_buffer, seed, epoch, start):
            yield np.arange(first, first + len(window)), window
            first += len(window)
        epoch, start = epoch + 1, 0
