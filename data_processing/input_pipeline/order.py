"""The order of the samples: a pure function of the seed, so that a run can begin at any step without reading back.

Epoch e is a permutation of chunks of neighbouring records, shuffled again inside windows of `shuffle_buffer` records;
the epochs follow each other without end. The place in that sequence is a sample's position. Step k of `size` ranks with
batches of B takes the positions from k * B * size on; a rank takes every `size`-th of them.

A window is shuffled in lanes: a lane is dealt the chunks that follow each other in it, they are shuffled together, and
the positions take a record of each lane in turn. So ranks whose number divides that of the lanes have chunks of their
own, to be read whole, neighbours come as far from each other as there are lanes, and the order is the same for any
number of ranks. Where batches are padded to the largest image in them, images that are higher than wide come together,
as far as a window has them, and ranks share chunks.

VERSION tells this order from others before it, for runs that go on: 1 shuffled the records of a window without lanes.
"""

import numpy as np

VERSION = 2
# Neighbours that stay together in the first shuffle, so that disks read megabytes, not single images.
CHUNK = 16
# Lanes are a power of two, as numbers of ranks mostly are. A window of fewer than LEAST_LANES chunks has but one: few
# lanes that always follow each other would hardly be shuffled.
LEAST_LANES, MOST_LANES = 8, 1024
# Images of one orientation that stay together, at positions that are multiples of it: steps of so many images, or of a
# half, a quarter … of it, hold only one, but where a window begins or ends. Grouped are numbers of records, 8 bytes
# each, before any is read: no image waits for others of its orientation.
GROUP = 64


def epoch_order(records, shuffle_buffer, seed, epoch, first=0, portrait=None):
    """Yields the order of an epoch from position `first` on, window by window: arrays of indices below `records`.

    All of them together are a permutation, fresh for each `epoch`. A window has about `shuffle_buffer` records: as many
    chunks in each lane. With `portrait`, bool [records], groups of GROUP records that are alike in it stay together, at
    positions that are multiples of GROUP in the whole sequence.
    """
    chunks = np.random.default_rng([seed, epoch]).permutation(-(-records // CHUNK)).astype(np.int64)
    begin, at_once = 0, -(-shuffle_buffer // CHUNK)
    at_once = round(at_once / lanes(at_once * CHUNK)) * lanes(at_once * CHUNK)
    for k in range(0, len(chunks), at_once):
        window = (chunks[k : k + at_once, None] * CHUNK + np.arange(CHUNK)).ravel()
        # Only the last chunk of the shards may be short; what comes after it begins so much earlier.
        window = window[window < records]
        if first < begin + len(window):
            random, position = np.random.default_rng([seed, epoch, begin]), epoch * records + begin
            shuffled = _in_lanes(window, position, random)
            if portrait is not None:
                shuffled = _grouped(shuffled, portrait[shuffled], -position % GROUP, random)
            yield shuffled[max(first - begin, 0) :]
        begin += len(window)


def lanes(count):
    """Returns how many lanes a window of `count` records has: of at least a chunk each."""
    number = 1 << max(count // CHUNK, 1).bit_length() - 1
    return min(number, MOST_LANES) if number >= LEAST_LANES else 1


def _in_lanes(window, position, random):
    """Deals the records of a window, which begins at `position` of the whole sequence, to lanes, and shuffles these."""
    lane = (position + np.arange(len(window))) % lanes(len(window))
    # The places of a lane after those of the lanes before it, in a random order.
    places = np.lexsort((random.permutation(len(window)), lane))
    shuffled = np.empty_like(window)
    shuffled[places] = window
    return shuffled


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
