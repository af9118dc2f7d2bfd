"""Records and shards against TensorFlow's own writer and reader, and damaged in every way."""

from pathlib import Path
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from data_processing.records import schema, tfrecord
from data_processing.records.schema import RecordError

PUBLISHED_SHARD = Path(__file__).parents[4] / "shared/data/0.tfrecords"
CLASSES = 7
LABELS, CONFIDENCES = [4, 0, 5], [0.9, 1.0, -1.0]
VECTOR = np.array([1, 0, 0, 0, 0.9, -1, 0], np.float32)


def record(kind, labels=LABELS, confidences=CONFIDENCES, class_num=CLASSES, name="dir/é.jpg"):
    if kind == "single":
        labels, confidences = [4], [1.0]
    return schema.encode(schema.Image(b"\xff\xd8 image", 40, 30, name), labels, confidences, kind, class_num)


def example(**features):
    """A serialized Example of bytes or lists of numbers."""
    lists = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    message = tf.train.Example()
    for name, values in features.items():
        getattr(message.features.feature[name], lists[type(values[0])]).value.extend(values)
    return message.SerializeToString()


def write_shard(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for serialized in records:
            writer.write(serialized)
    return path


@pytest.mark.parametrize("kind", schema.LABEL_KINDS)
def test_records_hold_what_the_schema_says(kind):
    message = tf.train.Example.FromString(record(kind))
    feature = message.features.feature
    assert list(feature["image"].bytes_list.value) == [b"\xff\xd8 image"]
    assert list(feature["name"].bytes_list.value) == ["dir/é.jpg".encode()]
    assert (feature["width"].int64_list.value[0], feature["height"].int64_list.value[0]) == (40, 30)
    if kind == "sparse":
        assert list(feature["label_index"].int64_list.value) == LABELS
        np.testing.assert_allclose(feature["label_confidence"].float_list.value, CONFIDENCES, rtol=1e-7)
    elif kind == "dense":
        assert feature["label"].bytes_list.value[0] == VECTOR.astype("<f4").tobytes()
    else:
        assert list(feature["label"].int64_list.value) == [4]
    assert record(kind) == record(kind)


@pytest.mark.parametrize("kind", schema.LABEL_KINDS)
def test_parse_gives_back_what_was_encoded(kind):
    assert schema.label_kind(record(kind), CLASSES, "x") == kind
    parsed = schema.parse(tf.constant(record(kind)), kind, CLASSES)
    assert parsed["image"].numpy() == b"\xff\xd8 image"
    assert parsed["name"].numpy().decode() == "dir/é.jpg"
    label = parsed["label"].numpy()
    np.testing.assert_array_equal(label, 4 if kind == "single" else VECTOR)
    assert label.dtype == (np.int64 if kind == "single" else np.float32)


SPARSE_LABELS = st.dictionaries(st.integers(0, CLASSES - 1), st.floats(2.0**-19, 1, width=32) | st.just(-1.0))


@settings(max_examples=50, deadline=None)
@given(SPARSE_LABELS)
def test_sparse_and_dense_say_the_same(labels):
    vectors = [
        schema.parse(record(kind, list(labels), list(labels.values())), kind, CLASSES)["label"].numpy()
        for kind in ("sparse", "dense")
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert {k: v for k, v in enumerate(vectors[0]) if v} == labels


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_record_without_labels_is_one_of_no_class(kind):
    serialized = record(kind, [], [])
    assert schema.label_kind(serialized, CLASSES, "x") == kind
    assert not schema.parse(tf.constant(serialized), kind, CLASSES)["label"].numpy().any()
    assert schema.decode(serialized, kind)[2] == []


def test_single_needs_one_label():
    with pytest.raises(RecordError, match="'a.jpg' has 2 labels; --label_format=single"):
        schema.encode(schema.Image(b"", 1, 1, "a.jpg"), [1, 2], [1.0, 1.0], "single", CLASSES)


@pytest.mark.parametrize(
    "kind, serialized",
    [
        ("sparse", record("sparse", [CLASSES], [1.0])),
        ("sparse", record("sparse", [-1], [1.0])),
        ("sparse", record("sparse", [1, 2], [1.0])),
        ("sparse", b"no example"),
        ("dense", record("dense", class_num=CLASSES + 1)),
        ("dense", example(image=[b"x"], label=[b"12345"])),
        ("dense", record("single")),
        ("single", example(image=[b"x"], label=[CLASSES])),
        ("single", example(image=[b"x"], label=[-1])),
        ("single", record("sparse")),
        ("single", example(label=[1])),
        *(("sparse", record("sparse", [2], [wrong])) for wrong in (np.nan, np.inf, 5.0, -0.5, 0.0, 1.0001, -1.0001)),
        *(("dense", record("dense", [2], [wrong])) for wrong in (np.nan, np.inf, -np.inf, 5.0, -0.5)),
    ],
    # Bytes would name the cases otherwise, in an order of features that changes from process to process.
    ids=lambda value: value if isinstance(value, str) else "record",
)
def test_a_record_that_does_not_fit_is_an_error_of_the_operation(kind, serialized):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        schema.parse(tf.constant(serialized), kind, CLASSES)
    # As in the input pipeline, where an assertion that nothing depends on must be run, too.
    records = tf.data.Dataset.from_tensors(serialized).map(lambda x: schema.parse(x, kind, CLASSES)).ignore_errors()
    assert list(records) == []


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 5.0, -0.5])
def test_what_is_no_confidence_is_damage_in_python_too(kind, wrong):
    with pytest.raises(RecordError, match=r"x, record 3: class 2 has confidence .*, which must be in \(0, 1\], or -1"):
        schema.decode(record(kind, [2], [wrong]), kind, "x, record 3")


@pytest.mark.parametrize(
    "kind, serialized",
    [
        ("sparse", b""),
        ("sparse", example(image=[b"x"], name=[b"y"], label_index=[1], label_confidence=[1.0, 0.5])),
        ("dense", record("single")),
        ("dense", record("sparse")),
        ("dense", example(image=[b"x"], name=[b"y"], label=[b"123"])),
        ("single", record("dense")),
        ("single", example(image=[b"x"], label=[1])),
    ],
    ids=lambda value: value if isinstance(value, str) else "record",
)
def test_what_is_no_record_of_a_kind_is_an_error_that_says_so(kind, serialized):
    with pytest.raises(RecordError, match=f"x: its features are not those of {kind} labels"):
        schema.decode(serialized, kind, "x")
    with pytest.raises(RecordError, match="x: no tf.train.Example"):
        schema.decode(b"no example", kind, "x")


@pytest.mark.parametrize(
    "serialized, message",
    [
        (record("dense", class_num=CLASSES), "a.tfrecords: the labels are of 7 classes, not 5: set --class_num=7"),
        (example(label=[b"123"]), "a.tfrecords: the labels are 3 bytes"),
        (b"\xff\xff\xff", "a.tfrecords: the first record is no tf.train.Example"),
        (example(image=[b"x"], name=[b"y"]), "a.tfrecords: .* has no labels; its features are image, name$"),
        (b"", "a.tfrecords: .* has no labels"),
    ],
    ids=["wrong class_num", "labels truncated", "no example", "no labels", "empty"],
)
def test_records_that_are_refused(serialized, message):
    with pytest.raises(RecordError, match=message):
        schema.label_kind(serialized, 5, "a.tfrecords")


def test_published_shard():
    if not PUBLISHED_SHARD.exists():
        pytest.skip("the published shard is not at hand")
    offsets, problem = tfrecord.index_shard(PUBLISHED_SHARD)
    assert problem is None and len(offsets) == 3 and offsets[-1] == PUBLISHED_SHARD.stat().st_size
    for offset, expected in zip(offsets, tf.data.TFRecordDataset(str(PUBLISHED_SHARD)), strict=False):
        serialized = tfrecord.read_record(PUBLISHED_SHARD, offset)
        assert serialized == expected.numpy()
        assert schema.label_kind(serialized, 11166, "x") == "dense"
        parsed = schema.parse(serialized, "dense", 11166)
        assert tf.io.decode_jpeg(parsed["image"]).shape[2] == 3
        assert 0 < np.count_nonzero(parsed["label"]) < 50
    with pytest.raises(RecordError, match="of 11166 classes, not 1000: set --class_num=11166"):
        schema.label_kind(serialized, 1000, "x")


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=30, deadline=None)
def test_frames_are_those_of_tensorflow(tmp_path_factory, records):
    path = write_shard(tmp_path_factory.getbasetemp() / "frames.tfrecords", records)
    assert path.read_bytes() == b"".join(map(tfrecord.frame, records))
    offsets, problem = tfrecord.index_shard(path)
    assert problem is None and offsets.dtype == np.int64
    np.testing.assert_array_equal(offsets, np.cumsum([0] + [len(data) + 16 for data in records]))


def test_masked_crc_of_known_value():
    # RFC 3720, B.4: the CRC-32C of 32 bytes of zeros is 0x8a9136aa; the mask as in TensorFlow's crc32c.h.
    crc = 0x8A9136AA
    assert tfrecord.masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    records = [record("sparse", name=f"{k}" * k) for k in range(5)]
    return write_shard(tmp_path_factory.mktemp("shard") / "whole.tfrecords", records)


def test_read_record_at_any_byte(shard):
    offsets, _ = tfrecord.index_shard(shard)
    expected = [data.numpy() for data in tf.data.TFRecordDataset(str(shard))]
    for k in (3, 0, 4, 1, 2):
        assert tfrecord.read_record(shard, offsets[k]) == expected[k]
    assert tfrecord.read_record(shard, offsets[-1]) == b""


@pytest.mark.parametrize("place", [0, 7, 8, 11, 12, 40, -5, -4, -1])
def test_wrong_checksum_gives_nothing(shard, tmp_path, place):
    """A flipped bit in length, its checksum, the data or their checksum."""
    offsets, _ = tfrecord.index_shard(shard)
    content = bytearray(shard.read_bytes())
    begin, end = offsets[2:4]
    content[begin + place if place >= 0 else end + place] ^= 0x10
    (tmp_path / "flipped.tfrecords").write_bytes(content)
    assert tfrecord.read_record(tmp_path / "flipped.tfrecords", begin) == b""
    assert tfrecord.read_record(tmp_path / "flipped.tfrecords", end) == tfrecord.read_record(shard, end)


def test_truncated_at_any_byte_keeps_what_is_whole(shard, tmp_path):
    offsets, _ = tfrecord.index_shard(shard)
    content = shard.read_bytes()
    path = tmp_path / "cut.tfrecords"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        indexed, problem = tfrecord.index_shard(path)
        np.testing.assert_array_equal(indexed, offsets[offsets <= end])
        assert (problem is None) == (end in offsets)
        if problem:
            assert str(path) in problem and f"record {len(indexed)}" in problem
            assert ("header" in problem) == (end - indexed[-1] < 12)


def test_damaged_length_leaves_the_rest_out(shard, tmp_path):
    offsets, _ = tfrecord.index_shard(shard)
    content = bytearray(shard.read_bytes())
    content[offsets[2] + 1] ^= 1
    (tmp_path / "x.tfrecords").write_bytes(content)
    indexed, problem = tfrecord.index_shard(tmp_path / "x.tfrecords")
    np.testing.assert_array_equal(indexed, offsets[:3])
    assert f"x.tfrecords: damaged at byte {offsets[2]}; the rest of the shard is left out" in problem


def hostile(length):
    """A header with any length, and the right checksum for it."""
    header = struct.pack("<Q", length)
    return header + struct.pack("<I", tfrecord.masked_crc(header))


CHUNKS = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(tfrecord.frame),
    st.integers(0, 2**64 - 1).map(hostile),
    st.integers(0, 60).map(hostile),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64 - 16]).map(hostile),
)


@given(st.lists(CHUNKS, max_size=6).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_inside_the_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "hostile.tfrecords"
    path.write_bytes(content)
    offsets, problem = tfrecord.index_shard(path)
    assert offsets[0] == 0 and np.all(np.diff(offsets) >= 16) and offsets[-1] <= len(content)
    assert (problem is None) == (offsets[-1] == len(content))


def test_shard_paths_of_all_layouts(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    def names(split, folder="."):
        return [str(Path(path).relative_to(tmp_path)) for path in tfrecord.shard_paths(tmp_path / folder, split)]

    touch("ours/train-00001-of-00002.tfrecords", "ours/train-00000-of-00002.tfrecords")
    touch("ours/val-00000-of-00001.tfrecords", "ours/train-00000-of-00002.tfrecords.part", "ours/manifest.json")
    assert names("train", "ours") == ["ours/train-00000-of-00002.tfrecords", "ours/train-00001-of-00002.tfrecords"]
    assert names("val", "ours") == ["ours/val-00000-of-00001.tfrecords"]
    touch("published/train/0.tfrecords", "published/val/0.tfrecords")
    assert names("train", "published") == ["published/train/0.tfrecords"]
    assert names("train", "published/train") == ["published/train/0.tfrecords"]
    assert names("val", "published") == ["published/val/0.tfrecords"]


@pytest.mark.parametrize("folder, split", [("train_only", "val"), ("empty", "train"), ("missing", "train")])
def test_no_shards(tmp_path, folder, split):
    (tmp_path / "train_only").mkdir()
    (tmp_path / "train_only/0.tfrecords").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=rf"{folder}: no shards {split}-\*.tfrecords here .* --data_dir"):
        tfrecord.shard_paths(tmp_path / folder, split)
