"""The bytes of records in the order in which they are wanted: neighbours are read together, and ahead, in threads.

All that training and evaluation read of shards comes through `read`.
"""

import atexit
from concurrent import futures
import os
import threading
import time
from typing import NamedTuple
import weakref

import numpy as np

from data_processing.input_pipeline.order import CHUNK
from data_processing.records import tfrecord
from utils.daemon_threads import DaemonThreads

# Records read and not yet handed on, beyond those of one window: enough for batches to come while others are read.
AHEAD = 256
# And their bytes. Twice a window of 2048 images of 100 kB and more; of larger ones, neighbours that would have to wait
# with all others are read one by one, when their turn comes.
HELD_BYTES = 2**29
# A protobuf has no more bytes; what claims to be a longer record is damage, and not read.
LONGEST = 2**31 - 1
THREADS = "read records"
_readers, _ending = weakref.WeakSet(), threading.Event()


class Run(NamedTuple):
    """Neighbours in a shard that are read together.

    Attributes:
      first: the least of `slots`.
      slots: list of n ints: when each is wanted, counted from the first record of all.
      path: of the shard.
      begins, ends: lists of n ints, in the order of the shard: their first bytes, and those after their last.
      most: how many records may be held when this one is read before its turn.
    """

    first: int
    slots: list
    path: str
    begins: list
    ends: list
    most: int


def read(path, begin, end):
    """Returns the bytes of a file from `begin` to before `end`, or to its own end if that comes first."""
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), max(min(end, os.fstat(file.fileno()).st_size) - begin, 0), begin)


def read_ahead(windows, index, threads, held_bytes=HELD_BYTES):
    """Returns a generator of the records that are wanted: bytes, b"" for one that is damaged or cannot be read.

    Args:
      windows: iterable of arrays int64 [n], the records that are wanted: those in one array are read together where
        they are neighbours, and may be held in memory together.
      index: `RecordIndex`.
      threads: reads at the same time.
      held_bytes: of records that are held, at most; one that is wanted now may come on top.
    """
    reader = _records(_runs(windows, index, held_bytes), threads, held_bytes)
    _readers.add(reader)
    return reader


def _records(runs, threads, held_bytes):
    pool, asked = DaemonThreads(threads, THREADS), {}
    held, slot, run = 0, 0, next(runs, None)
    try:
        while (run or asked) and not _ending.is_set():
            while run and (run.first == slot or _fits(run, len(asked), held_bytes - held)):
                future = pool.submit(_load, run.path, run.begins, run.ends)
                for k, (wanted, begin, end) in enumerate(zip(run.slots, run.begins, run.ends, strict=True)):
                    asked[wanted] = future, k, end - begin
                    held += end - begin
                run = next(runs, None)
            future, k, size = asked.pop(slot)
            while not future.done():
                futures.wait([future], timeout=0.1)
                if _ending.is_set():
                    return
            records = future.result()
            record, records[k] = records[k], None
            held -= size
            slot += 1
            yield record
    finally:
        # Nobody wants them any more, and nobody waits for the threads.
        for future, _, _ in asked.values():
            future.cancel()
        pool.shutdown()


@atexit.register
def _end():
    """Lets what still waits for records end before Python does: after that, its threads and TensorFlow never would."""
    _ending.set()
    quiet = 0
    while _readers and quiet < 20:
        quiet = 0 if any(reader.gi_running for reader in _readers) else quiet + 1
        time.sleep(0.01)


def _fits(run, count, free):
    return count + len(run.slots) <= run.most and run.ends[-1] - run.begins[0] <= free


def _load(path, begins, ends):
    try:
        data = memoryview(read(path, begins[0], ends[-1]))
    except OSError:
        # One that cannot be read leaves the others of its run as they are.
        singles = zip(begins, ends, strict=True) if len(begins) > 1 else ()
        return [_load(path, [begin], [end])[0] for begin, end in singles] or [b""]
    at = begins[0]
    return [tfrecord.record_in(data[begin - at : end - at]) for begin, end in zip(begins, ends, strict=True)]


def _runs(windows, index, held_bytes):
    """Yields a `Run` after the other, in the order in which the first of each is wanted."""
    first, last_ends = 0, {}
    for records in filter(len, windows):
        begins, ends = _extents(records, index, last_ends)
        for places in _neighbours(records, begins, ends, held_bytes // 2):
            slots, path = (first + places).tolist(), index.paths[index.shard[records[places[0]]]]
            yield Run(min(slots), slots, path, begins[places].tolist(), ends[places].tolist(), len(records) + AHEAD)
        first += len(records)


def _extents(records, index, last_ends):
    """Returns the first bytes of `records` and those after their last, int64 [n] each; the same for what is not read.

    The last of a shard ends where its header says; `last_ends` keeps that by number of the record.
    """
    after = np.minimum(records + 1, len(index) - 1)
    begins, ends = index.offset[records], index.offset[after]
    for k in np.flatnonzero((index.shard[after] != index.shard[records]) | (after == records)):
        record, begin = int(records[k]), int(begins[k])
        if record not in last_ends:
            try:
                header = read(index.paths[index.shard[record]], begin, begin + tfrecord.HEADER.size)
            except OSError:
                ends[k] = begin
                continue
            last_ends[record] = begin + min(tfrecord.framed_size(header), LONGEST + 1)
        ends[k] = last_ends[record]
    return begins, np.where(ends - begins > LONGEST, begins, ends)


def _neighbours(records, begins, ends, whole_bytes):
    """Returns places in `records` of those of a chunk that lie one after the other: arrays, the first wanted first.

    Of what is wanted after `whole_bytes`, each is by itself.
    """
    by_record = np.argsort(records)
    begins, ends, records = begins[by_record], ends[by_record], records[by_record]
    # (The first of a shard begins at byte 0.)
    apart = (np.diff(records) != 1) | (np.diff(records // CHUNK) != 0) | (begins[1:] != ends[:-1]) | (begins[1:] == 0)
    apart = np.concatenate([[True], apart])
    starts = np.flatnonzero(apart)
    wanted = np.argsort(np.minimum.reduceat(by_record, starts))
    late = np.zeros(len(starts), bool)
    late[wanted] = np.cumsum(np.add.reduceat(ends - begins, starts)[wanted]) > whole_bytes
    starts = np.flatnonzero(apart | late[np.cumsum(apart) - 1])
    parts = np.split(by_record, starts[1:])
    return [parts[k] for k in np.argsort(np.minimum.reduceat(by_record, starts))]
