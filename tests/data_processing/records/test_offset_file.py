"""Offsets noted beside shards: those that the headers tell, or none."""

import os
from pathlib import Path
import struct

import google_crc32c
import numpy as np
from PIL import Image
import pytest

from data_processing.records import offset_file, shard_writer, tfrecord
from tests.sample_shards import write_shards


@pytest.fixture
def shard(tmp_path):
    """A shard of 11 records, whose offsets are noted beside it."""
    [path] = write_shards(tmp_path / "shards", counts=[11])
    offsets, _ = tfrecord.index_shard(path)
    offset_file.write(path, np.diff(offsets))
    np.testing.assert_array_equal(offset_file.read(path), offsets)
    return Path(path)


def test_a_builder_notes_what_the_headers_tell(tmp_path):
    """Of shards of several images, of one, and of none, where all were rejected."""
    (tmp_path / "images").mkdir()
    lines = []
    for k in range(6):
        Image.effect_noise((20 + 9 * k, 30), 50).save(tmp_path / f"images/{k}.jpg")
        lines.append(f"{k}.jpg\t{k}\n" if k else "none.jpg\t1\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    for count in (1, 6):
        out = tmp_path / f"out{count}"
        config = shard_writer.ShardConfig("train", "sparse", 6, count, random_seed=1, max_rejected=0.5)
        shard_writer.build(tmp_path / "list.txt", tmp_path / "images", out, config)
        paths = tfrecord.shard_paths(out, "train")
        records = []
        for path in paths:
            assert os.stat(path).st_mtime_ns <= offset_file.place(path).stat().st_mtime_ns
            offsets, expected = offset_file.read(path), tfrecord.index_shard(path)[0]
            np.testing.assert_array_equal(offsets, expected)
            assert offsets.dtype == np.int64 and offset_file.place(path).stat().st_size == 32 + 4 * (len(offsets) - 1)
            records.append(len(offsets) - 1)
        assert sorted(records) == ([5] if count == 1 else [0, 1, 1, 1, 1, 1])
        assert not list(out.glob(".*"))


def test_the_bytes_are_those_of_the_format(tmp_path):
    """A file made by hand, as the module describes it."""
    path = tmp_path / "a.tfrecords"
    path.write_bytes(tfrecord.frame(b"abc") + tfrecord.frame(b""))
    lengths = struct.pack("<2I", 19, 16)
    head = b"TFRoffs\n" + struct.pack("<2I2Q", 1, google_crc32c.value(lengths), 35, 2)
    (tmp_path / "a.offsets").write_bytes(head + lengths)
    assert offset_file.read(path).tolist() == [0, 19, 35] == tfrecord.index_shard(path)[0].tolist()
    offset_file.write(path, [19, 16])
    assert (tmp_path / "a.offsets").read_bytes() == head + lengths


def test_other_bytes_do_not_count(shard):
    """One flipped, too few, too many, a file of a later version, or none."""
    beside = offset_file.place(shard)
    content = beside.read_bytes()
    for k in range(len(content)):
        for bit in (1, 128):
            beside.write_bytes(content[:k] + bytes([content[k] ^ bit]) + content[k + 1 :])
            assert offset_file.read(shard) is None, k
        beside.write_bytes(content[:k])
        assert offset_file.read(shard) is None, k
    for more in (b"\0", bytes(4)):
        beside.write_bytes(content + more)
        assert offset_file.read(shard) is None
    beside.write_bytes(content)
    assert len(offset_file.read(shard)) == 12
    beside.unlink()
    assert offset_file.read(shard) is None
    beside.mkdir()
    assert offset_file.read(shard) is None
    shard.unlink()
    with pytest.raises(OSError, match=r"train-00000-of-00001\.tfrecords"):
        offset_file.read(shard)


def test_a_shard_that_is_newer_or_of_another_size_has_no_offsets(shard):
    beside = offset_file.place(shard)
    written = beside.stat().st_mtime_ns
    for after, counts in ((-1, True), (0, True), (1, False)):
        os.utime(shard, ns=(written, written + after))
        assert (offset_file.read(shard) is not None) == counts
    content = shard.read_bytes()
    for other in (content[:-1], content + b"\0", content + tfrecord.frame(b"one more")):
        shard.write_bytes(other)
        os.utime(shard, ns=(written, written))
        assert offset_file.read(shard) is None


@pytest.mark.parametrize("change", ["no progress", "back", "too far", "too short", "no frame", "half a record"])
def test_offsets_that_are_wrong_with_a_right_checksum_do_not_count(shard, change):
    size = shard.stat().st_size
    lengths = np.diff(offset_file.read(shard))
    changes = {
        "no progress": [0, *lengths],
        "back": [*lengths, 2**32 - 5],
        "too far": [*lengths[:-1], lengths[-1] + 1],
        "too short": lengths[:-1],
        "no frame": [*lengths[:-1], lengths[-1] - 15, 15],
        "half a record": [*lengths[:-1], lengths[-1] // 2],
    }
    content = np.array(changes[change], "<u4").tobytes()
    head = struct.pack("<8s2I2Q", b"TFRoffs\n", 1, google_crc32c.value(content), size, len(content) // 4)
    offset_file.place(shard).write_bytes(head + content)
    assert offset_file.read(shard) is None


def test_a_record_too_long_for_the_format_is_left_to_the_headers(tmp_path):
    offset_file.write(tmp_path / "a.tfrecords", [2**32, 16])
    assert list(tmp_path.iterdir()) == []
