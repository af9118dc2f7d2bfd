"""Shards with any bytes in them: each is indexed and read, or refused with an error that names it."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from data_processing.input_pipeline import reading
from data_processing.records import schema, tfrecord
from data_processing.records.index import RecordIndex, index_records
from tests.sample_shards import CLASSES, record

KINDS = {kind: [record(k, kind, image=b"\xff\xd8 image") for k in range(3)] for kind in schema.KINDS}
BLANK = {"image": "", "name": "", "label": -tf.ones([CLASSES])}


def check_shard(path, content):
    """A file of any bytes: its index, the kind of its labels, and its records in both ways."""
    path.write_bytes(content)
    try:
        index = index_records([str(path)], CLASSES)
    except tfrecord.RecordError as error:
        assert str(path) in str(error)
        return
    assert all(str(path) in problem for problem in index.problems)
    assert index.kind in schema.KINDS
    for offset in index.offset:
        check_record(tfrecord.read_record(path, offset), index.kind)


def is_label(label, kind):
    if kind in ("single", "boxes"):
        return ((0 <= label) & (label < CLASSES)).all()
    return label.shape == (CLASSES,) and all(0 <= value <= 1 or value == -1 for value in label)


def are_boxes(parsed):
    """Whether the objects of a record are in its image, and their lists as long as each other."""
    box, count = parsed["box"].numpy(), len(parsed["label"])
    size = np.array([parsed["width"], parsed["height"]] * 2)
    lengths = {len(parsed[key]) for key in ("difficult", "truncated")} | {count}
    inside = (box >= 0).all() and (box <= size).all() and (box[:, :2] < box[:, 2:]).all()
    return box.shape == (count, 4) and lengths == {count} and inside


def check_record(serialized, kind):
    """What TensorFlow makes of a record, and Python: neither takes what is no label."""
    try:
        parsed = schema.parse(tf.constant(serialized), kind, CLASSES)
    except (tf.errors.InvalidArgumentError, ValueError):
        parsed = None
    assert parsed is None or kind == "masks" or is_label(parsed["label"].numpy(), kind)
    assert parsed is None or kind != "masks" or parsed["mask"].shape == ()
    assert parsed is None or kind != "boxes" or are_boxes(parsed)
    try:
        name, image, labels = schema.decode(serialized, kind, "here")
    except tfrecord.RecordError as error:
        assert str(error).startswith("here: ")
        return
    assert isinstance(name, bytes) and isinstance(image, bytes)
    if kind == "boxes":
        assert all(box.label >= 0 and box.left < box.right and box.top < box.bottom for box in labels)
        return
    if kind == "masks":
        assert labels.startswith(b"\x89PNG")
        return
    for label, confidence in labels:
        assert label >= 0 and (0 < confidence <= 1 or confidence == -1)


@st.composite
def flipped(draw, contents):
    """Bytes of which a few are others, come twice, or are missing."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(content)


RECORDS = st.sampled_from([serialized for records in KINDS.values() for serialized in records])
# Damage that the checksums tell, and damage from before they were computed.
SHARDS = st.lists(
    st.one_of(
        RECORDS.map(tfrecord.frame),
        flipped(RECORDS).map(tfrecord.frame),
        flipped(RECORDS.map(tfrecord.frame)),
        st.binary(max_size=40).map(tfrecord.frame),
        st.binary(max_size=40),
    ),
    max_size=4,
).map(b"".join)


def framed(*features):
    """A shard of one record with other features, pairs of a name and a list."""
    message = tf.train.Example()
    for name, values in features:
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
        getattr(message.features.feature[name], kind).value.extend(values)
    return tfrecord.frame(message.SerializeToString())


PLAIN = [("image", [b"x"]), ("name", [b"y"])]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(SHARDS)
@example(b"")
@example(tfrecord.frame(b""))
@example(tfrecord.frame(record(0, image=b"x")) + b"\0")
@example(framed(*PLAIN, ("box", [0.0, 0.0, 2.0, float("nan")]), ("box_class", [1])))
@example(framed(*PLAIN, ("width", [2]), ("height", [2]), ("box", [0.0, 0.0, 2.0, 2.0]), ("box_class", [9])))
@example(framed(*PLAIN, ("label", [b""])))  # dense labels of no class
@example(framed(*PLAIN, ("label", [1.0])))
@example(framed(*PLAIN, ("label", [1, 2])))
@example(framed(*PLAIN, ("label", [2**63 - 1])))
@example(framed(*PLAIN, ("label_index", [b"x"])))
@example(framed(*PLAIN, ("label_index", [-(2**63)]), ("label_confidence", [1.0])))
@example(framed(*PLAIN, ("label_index", [1]), ("label_confidence", [float("nan")])))
@example(framed(*PLAIN, ("label_index", [1]), ("label_confidence", [5.0])))
@example(framed(*PLAIN, ("label_index", [1]), ("label_confidence", [1e-45])))
def test_any_shard_is_read_or_refused(tmp_path_factory, content):
    check_shard(tmp_path_factory.getbasetemp() / "damaged.tfrecords", content)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(SHARDS)
def test_many_more_shards_are_read_or_refused(tmp_path_factory, content):
    check_shard(tmp_path_factory.getbasetemp() / "damaged.tfrecords", content)


@pytest.mark.parametrize("kind", schema.KINDS)
def test_training_reads_past_any_damage(tmp_path, kind):
    """Records with any bytes and right checksums among good ones: those are read, each other is blank or a record."""
    rng, good = np.random.default_rng(0), KINDS[kind][0]
    records = []
    for k in range(400):
        damaged = bytearray(good)
        for _ in range(k % 4):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        records.append(bytes(damaged))
    path = tmp_path / "a.tfrecords"
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    offsets, problem = tfrecord.index_shard(path)
    assert problem is None
    count = len(records)
    index = RecordIndex((str(path),), np.zeros(count, np.int32), offsets[:-1], kind, ())
    blank = BLANK | ({"label": tf.constant(-1, tf.int64)} if kind == "single" else {})
    if kind in ("boxes", "masks"):
        blank = {key: tf.zeros_like(value) for key, value in schema.parse(good, kind, CLASSES).items()}
    windows = [(np.arange(count), np.arange(count))]
    parsed = reading.load(lambda: windows, index, lambda _, data: schema.parse(data, kind, CLASSES), blank, threads=4)
    examples = list(parsed.as_numpy_iterator())
    assert len(examples) == count
    assert all(example["valid"] for k, example in enumerate(examples) if k % 4 == 0)
    assert kind == "masks" or all(is_label(example["label"], kind) for example in examples if example["valid"])
    damaged = [example["name"].decode() for example in examples if not example["valid"]]
    assert len(damaged) > 20 and all(name.startswith(f"{path}, byte ") for name in damaged)
