"""Records read ahead: each once and in order, few opens and reads, damage, and bounds of memory."""

import contextlib
import itertools
from pathlib import Path
import sys
import threading
import time

import numpy as np
import pytest

from data_processing.input_pipeline import order, read_ahead
from data_processing.records import tfrecord
from data_processing.records.index import RecordIndex

COUNTS = (300, 1, 179)
RECORDS = sum(COUNTS)


def content(k):
    return bytes([k % 251]) * (700 + k)


@pytest.fixture
def index(tmp_path):
    return index_of(tmp_path, COUNTS, content)


def index_of(folder, counts, content):
    paths, offsets, numbers = [], [], itertools.count()
    for shard, count in enumerate(counts):
        paths.append(str(folder / f"{shard}.tfrecords"))
        frames = [tfrecord.frame(content(next(numbers))) for _ in range(count)]
        Path(paths[-1]).write_bytes(b"".join(frames))
        offsets.append(np.cumsum([0, *map(len, frames[:-1])]))
    shard = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return RecordIndex(tuple(paths), shard, np.concatenate(offsets), "sparse", ())


def epoch(rank=0, size=1, records=RECORDS, shuffle_buffer=2048):
    """The windows of an epoch, of one rank."""
    begin = 0
    for window in order.epoch_order(records, shuffle_buffer, 1, 0):
        yield window[(begin + np.arange(len(window))) % size == rank]
        begin += len(window)


def take(index, windows, **options):
    """Numbers of the records of `windows`, and what was read of each."""
    planned, wanted = itertools.tee(windows)
    with contextlib.closing(read_ahead.read_ahead(wanted, index, 4, **options)) as records:
        return list(zip(np.concatenate(list(planned)).tolist(), records, strict=True))


@pytest.fixture
def system_calls(monkeypatch):
    """Counts of what the system was asked for: files opened that are shards, and reads."""
    counts, pread = {"open": 0, "read": 0}, read_ahead.os.pread

    def on_event(event, args):
        if counts and event == "open" and str(args[0]).endswith(".tfrecords") and "w" not in str(args[1]):
            counts["open"] += 1

    def counted(*args):
        counts["read"] += 1
        return pread(*args)

    sys.addaudithook(on_event)
    monkeypatch.setattr(read_ahead.os, "pread", counted)
    yield counts
    # A hook cannot be taken away again.
    counts.clear()


@pytest.mark.parametrize("size", [1, 8])
def test_neighbours_are_read_together(index, system_calls, size):
    """480 records are 30 chunks, in 3 shards: 32 runs, and where the last record of each shard ends."""
    taken = [pair for rank in range(size) for pair in take(index, epoch(rank, size))]
    assert sorted(taken) == [(k, content(k)) for k in range(RECORDS)]
    assert system_calls["open"] == system_calls["read"]
    # A window this short has lanes of 30 records, so that ranks share every other chunk.
    assert system_calls["read"] <= (32 + 3 if size == 1 else 2 * 32 + 3)


def test_ranks_read_whole_chunks(tmp_path, system_calls):
    index = index_of(tmp_path, (4096,), lambda k: b"%d" % k)
    taken = [pair for rank in range(8) for pair in take(index, epoch(rank, 8, 4096))]
    assert sorted(taken) == [(k, b"%d" % k) for k in range(4096)]
    assert system_calls == {"open": 4096 // 16 + 1, "read": 4096 // 16 + 1}


@pytest.mark.parametrize("size", [1, 3])
def test_damaged_records_are_empty_and_the_others_whole(index, size):
    flipped, cut = 100, index.offset[RECORDS - 1] + 40
    with open(index.paths[0], "r+b") as file:
        file.seek(index.offset[flipped] + 50)
        file.write(b"\xff")
    with open(index.paths[2], "r+b") as file:
        file.truncate(cut)
    Path(index.paths[1]).unlink()
    taken = dict(pair for rank in range(size) for pair in take(index, epoch(rank, size)))
    assert taken == {k: b"" if k in (flipped, 300, RECORDS - 1) else content(k) for k in range(RECORDS)}


@pytest.mark.parametrize("place", [0, 7, 12])
def test_damage_at_any_place_of_a_frame(index, place):
    with open(index.paths[0], "r+b") as file:
        file.seek(index.offset[33] + place)
        byte = file.read(1)
        file.seek(index.offset[33] + place)
        file.write(bytes([byte[0] ^ 1]))
    assert [k for k, data in take(index, epoch()) if not data] == [33]


def test_what_cannot_be_read_takes_no_other_with_it(index, monkeypatch):
    """As where a sector of a disk is gone."""
    read, gone = read_ahead.read, int(index.offset[200]) + 100

    def failing(path, begin, end):
        if path == index.paths[0] and begin <= gone < end:
            raise OSError("gone")
        return read(path, begin, end)

    monkeypatch.setattr(read_ahead, "read", failing)
    assert [k for k, data in take(index, epoch()) if not data] == [200]


@pytest.mark.parametrize("length", [2**31, 2**62, 2**64 - 1])
def test_a_monstrous_length_is_not_read(tmp_path, length, monkeypatch):
    """In the middle, where the index says that it is so long, and at the end, where the header does."""
    path, frame = tmp_path / "0.tfrecords", tfrecord.frame(b"good")
    header = tfrecord.HEADER.pack(length, tfrecord.masked_crc(length.to_bytes(8, "little")))
    path.write_bytes(frame + header)
    with open(path, "r+b") as file:  # (a file with a hole)
        file.truncate(2**32)
        file.seek(2**32)
        file.write(frame + header)
    offsets = np.array([0, len(frame), 2**32, 2**32 + len(frame)])
    index = RecordIndex((str(path),), np.zeros(4, np.int32), offsets, "sparse", ())
    asked, read = [], read_ahead.read
    monkeypatch.setattr(read_ahead, "read", lambda *args: asked.append(args[2] - args[1]) or read(*args))
    assert [data for _, data in take(index, [np.arange(4)])] == [b"good", b"", b"good", b""]
    assert max(asked) < 1000


@pytest.mark.parametrize("held_bytes", [2**30, 300_000, 3000])
def test_memory_is_bounded(index, held_bytes, monkeypatch):
    """By a window and some records, and by bytes, of which one record more may be needed."""
    read, total, lock = read_ahead.read, [0, 0], threading.Lock()

    def counted(path, begin, end):
        with lock:
            total[0] += end - begin
        return read(path, begin, end)

    monkeypatch.setattr(read_ahead, "read", counted)
    monkeypatch.setattr(read_ahead, "AHEAD", 20)
    windows = [*epoch(shuffle_buffer=160)] * 3
    largest = most = 0
    with contextlib.closing(read_ahead.read_ahead(windows, index, 2, held_bytes)) as records:
        for k, data in zip(np.concatenate(windows), records, strict=True):
            assert data == content(k)
            with lock:
                most = max(most, total[0] - total[1])
            total[1] += len(data) + tfrecord.HEADER.size + tfrecord.FOOTER.size
            largest = max(largest, len(data) + 16)
    headers = 3 * tfrecord.HEADER.size
    assert most <= min(held_bytes + 2 * largest, (160 + 20 + 16) * largest) + headers


@pytest.mark.parametrize("taken", [0, 1, 50])
def test_threads_end_with_the_reader(index, taken):
    wait_for_their_end()
    reader = read_ahead.read_ahead(itertools.cycle([np.arange(RECORDS)]), index, 3)
    for _ in range(taken):
        next(reader)
    assert len(reading_threads()) == (3 if taken else 0)
    reader.close()
    wait_for_their_end()


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == read_ahead.THREADS]


def wait_for_their_end():
    for _ in range(3000):
        if not reading_threads():
            return
        time.sleep(0.01)
    raise AssertionError(reading_threads())


def test_an_error_that_is_no_damage_is_raised(index, monkeypatch):
    def failing(path, begin, end):
        raise MemoryError

    monkeypatch.setattr(read_ahead, "read", failing)
    with pytest.raises(MemoryError):
        take(index, epoch())
