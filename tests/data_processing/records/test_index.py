"""Where each record is: the index of whole, truncated and damaged shards, by their headers and by noted offsets."""

import os
from pathlib import Path
import time

import numpy as np
import pytest
import tensorflow as tf

from data_processing.records import offset_file, tfrecord
from data_processing.records.index import index_records, index_split
from tests.sample_shards import CLASSES, RECORDS, SHARDS, write_shards


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards") / "sparse")


def test_index(paths):
    index = index_records(paths, CLASSES)
    assert len(index) == RECORDS and index.kind == "sparse" and index.problems == ()
    np.testing.assert_array_equal(np.bincount(index.shard), SHARDS)
    names = []
    for shard, offset in zip(index.shard, index.offset, strict=True):
        example = tf.train.Example.FromString(tfrecord.read_record(index.paths[shard], offset))
        names.append(example.features.feature["name"].bytes_list.value[0].decode())
    assert names == [f"{k}.jpg" for k in range(RECORDS)]


def test_a_truncated_shard_is_reported(paths, tmp_path):
    cut = tmp_path / "cut.tfrecords"
    cut.write_bytes(Path(paths[0]).read_bytes()[:-10])
    index = index_records([str(cut), paths[1]], CLASSES)
    assert len(index) == SHARDS[0] - 1 + SHARDS[1]
    assert len(index.problems) == 1 and f"{cut}: truncated in record {SHARDS[0]}" in index.problems[0]


def test_shards_without_a_usable_record(paths, tmp_path):
    path = tmp_path / "x.tfrecords"
    for content, message in (
        (b"", "x.tfrecords: the shards are empty"),
        (b"text", "x.tfrecords: truncated in the header of record 1"),
        (Path(paths[1]).read_bytes()[:-1] + b"?", "x.tfrecords: the first 1 records are damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(tfrecord.RecordError, match=message):
            index_records([str(path)], CLASSES)


def assert_same_index(actual, expected):
    assert (actual.paths, actual.kind, actual.problems) == (expected.paths, expected.kind, expected.problems)
    for name in ("shard", "offset", "portrait"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
        assert getattr(actual, name) is None or getattr(actual, name).dtype == getattr(expected, name).dtype


def no_headers(monkeypatch):
    """From here on nobody may go from header to header."""

    def index_shard(path):
        raise AssertionError(path)

    monkeypatch.setattr(tfrecord, "index_shard", index_shard)


@pytest.mark.parametrize("kind", ["sparse", "boxes"])
def test_headers_are_gone_through_once(tmp_path, monkeypatch, kind):
    paths = write_shards(tmp_path / kind, kind)
    by_headers = index_records(paths, CLASSES)
    assert sorted(path.name for path in (tmp_path / kind).iterdir()) == sorted(
        Path(path).with_suffix(end).name for path in paths for end in (".tfrecords", ".offsets")
    )
    no_headers(monkeypatch)
    index = index_records(paths, CLASSES)
    assert_same_index(index, by_headers)
    assert index.shard.nbytes + index.offset.nbytes == 12 * RECORDS


def test_shards_with_a_problem_are_gone_through_each_time(tmp_path):
    """Their offsets are not noted, nor are those of before the damage believed."""
    paths = write_shards(tmp_path / "shards")
    index_records(paths, CLASSES)
    content = Path(paths[2]).read_bytes()
    damaged, cut = bytearray(content), content[:-3]
    damaged[tfrecord.index_shard(paths[2])[0][5]] ^= 1
    for other, problem, count in ((damaged, "damaged at byte", 5), (cut, "truncated in record 17", 16)):
        Path(paths[2]).write_bytes(other)
        written = offset_file.place(paths[2]).stat().st_mtime_ns
        os.utime(paths[2], ns=(written, written + 1))
        for _ in range(2):
            index = index_records(paths, CLASSES)
            assert len(index.problems) == 1 and problem in index.problems[0] and paths[2] in index.problems[0]
            np.testing.assert_array_equal(np.bincount(index.shard), [11, 1, count, 8])
        assert offset_file.place(paths[2]).stat().st_mtime_ns == written


def test_a_shard_that_was_copied_gets_new_offsets(tmp_path, monkeypatch):
    paths = write_shards(tmp_path / "shards")
    index_records(paths, CLASSES)
    written = offset_file.place(paths[1]).stat().st_mtime_ns
    os.utime(paths[1], ns=(written, written + 1))
    expected = index_records(paths, CLASSES)
    assert offset_file.place(paths[1]).stat().st_mtime_ns > written
    no_headers(monkeypatch)
    assert_same_index(index_records(paths, CLASSES), expected)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(28, "no space left")])
def test_a_folder_that_cannot_be_written_is_indexed_all_the_same(tmp_path, monkeypatch, capfd, error):
    """As root, whom no permission holds back, too."""
    paths = write_shards(tmp_path / "shards")

    def fsync(number):
        raise error

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):
        assert len(index_records(paths, CLASSES)) == RECORDS
    assert sorted(map(str, (tmp_path / "shards").iterdir())) == paths
    assert capfd.readouterr() == ("", "")


def test_the_progress_is_shown_where_headers_are_gone_through(tmp_path, monkeypatch, capfd):
    paths, index_shard = write_shards(tmp_path / "shards", counts=[2, 3]), tfrecord.index_shard

    def slow(path):
        time.sleep(0.6)
        return index_shard(path)

    monkeypatch.setattr(tfrecord, "index_shard", slow)
    for quiet, shown in ((True, False), (False, True), (False, False)):
        index_records(paths, CLASSES, threads=1, quiet=quiet)
        assert ("finding records: 100%" in capfd.readouterr().err) == shown
        if quiet:
            for path in paths:
                offset_file.place(path).unlink()


def test_problems_of_a_split_are_printed(tmp_path, capsys):
    paths = write_shards(tmp_path)
    Path(paths[3]).write_bytes(Path(paths[3]).read_bytes()[:-1])
    assert len(index_split(tmp_path, "train", CLASSES)) == RECORDS - 1
    assert capsys.readouterr().out == f"warning: {paths[3]}: truncated in record 8\n"
    with pytest.raises(tfrecord.RecordError, match="no shards val-"):
        index_split(tmp_path, "val", CLASSES)
