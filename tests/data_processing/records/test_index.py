"""Where each record is: the index of whole, truncated and damaged shards."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_processing.records import tfrecord
from data_processing.records.index import index_records
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
