"""Batches from shards: which records, in which order, on which rank, and what becomes of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_processing.input_pipeline.batches import InputConfig, evaluation_batches, training_batches
from data_processing.input_pipeline.transforms import Augmentation, decode_jpeg, evaluation_image
from data_processing.records import schema, tfrecord
from data_processing.records.index import index_records
from distributed import Ranks
from tasks.classification import Classification
from tests.sample_shards import CLASSES, RECORDS, SHARDS, jpeg, record, write_shards

PUBLISHED_SHARD = Path(__file__).parents[4] / "shared/data/0.tfrecords"
SIZE = 32
# Crops and flips alone, which need no compiling, where colours do not matter.
PLAIN = Augmentation(0.7, 0.7, 0.0, 0.0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards") / "sparse")


def task_of(index, class_num=CLASSES, augmentation=PLAIN, crop="center"):
    """A classification whose network does not matter, but for its number of classes."""
    kind = type("Task", (Classification,), {"class_num": class_num})
    return kind(model=None, kind=index.kind, head="softmax", augmentation=augmentation, crop=crop)


def take(paths, steps, class_num=CLASSES, augmentation=PLAIN, start=0, ranks=Ranks(), **options):
    """The first `steps` batches, as lists of NumPy arrays by name."""
    options = {"batch_size": 5, "shuffle_buffer": 12, "random_seed": 3, "image_size": SIZE} | options
    index = index_records(paths, class_num)
    task = task_of(index, class_num, augmentation)
    return list(training_batches(index, task, InputConfig(**options), start, ranks).take(steps).as_numpy_iterator())


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def assert_same(actual, expected):
    for name in ("image", "label", "name", "valid"):
        np.testing.assert_array_equal(joined(actual, name), joined(expected, name), err_msg=name)


def test_every_record_once_an_epoch_and_another_order_each(paths):
    names = joined(take(paths, 3 * RECORDS, batch_size=1), "name").reshape(3, RECORDS)
    for epoch in names:
        assert sorted(epoch) == sorted(f"{k}.jpg".encode() for k in range(RECORDS))
    assert len({tuple(epoch) for epoch in names}) == 3
    other = joined(take(paths, RECORDS, batch_size=1, random_seed=4), "name")
    assert tuple(other) != tuple(names[0])
    assert tuple(names[0]) != tuple(sorted(names[0], key=lambda name: int(name[:-4])))


@pytest.fixture(scope="module")
def uninterrupted(paths):
    return take(paths, 24, augmentation=Augmentation())


@pytest.mark.parametrize("step", [1, 7, 8, 20])
def test_starting_at_a_step_gives_what_an_uninterrupted_run_has_from_there_on(paths, uninterrupted, step):
    assert_same(take(paths, 4, start=5 * step, augmentation=Augmentation()), uninterrupted[step : step + 4])


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_together_have_the_batches_of_one(paths, size):
    whole = take(paths, 10, batch_size=6, start=12)
    ranks = [take(paths, 10, batch_size=6 // size, start=12, ranks=Ranks(rank, size)) for rank in range(size)]
    for step, batch in enumerate(whole):
        for name in ("image", "label", "name"):
            # Position by position, a rank's rows are every `size`-th of the batch of one.
            together = np.stack([rank[step][name] for rank in ranks], axis=1).reshape(batch[name].shape)
            np.testing.assert_array_equal(together, batch[name])


def test_the_same_record_looks_different_in_each_epoch(paths):
    batches = take(paths, 3 * RECORDS, batch_size=1)
    images = {batch["image"].tobytes() for batch in batches if batch["name"][0] == b"20.jpg"}
    assert len(images) == 3


@pytest.mark.parametrize("kind", schema.LABEL_KINDS)
def test_all_kinds_of_labels(tmp_path, kind):
    for batch in take(write_shards(tmp_path / kind, kind), 8):
        for name, label in zip(batch["name"], batch["label"], strict=True):
            k = int(name[:-4])
            expected = k % CLASSES if kind == "single" else 0.75 * np.eye(CLASSES)[k % 5] - np.eye(CLASSES)[5]
            np.testing.assert_array_equal(label, expected)
        assert batch["label"].dtype == (np.int64 if kind == "single" else np.float32)
        assert batch["image"].shape == (5, SIZE, SIZE, 3) and batch["image"].dtype == np.float32
        assert batch["valid"].all() and np.abs(batch["image"]).max() <= 1


def published(tmp_path):
    if PUBLISHED_SHARD.exists():
        return [str(PUBLISHED_SHARD)]
    pytest.skip("the published shard is not at hand")


def in_the_published_format(tmp_path):
    return write_shards(tmp_path / "dense", "dense", 11166, counts=[2])


@pytest.mark.parametrize("shard", [published, in_the_published_format])
def test_published_format(tmp_path, shard):
    paths = shard(tmp_path)
    index = index_records(paths, 11166)
    assert (len(index), index.kind) == (2, "dense")
    (batch,) = take(paths, 1, 11166, batch_size=4)
    assert batch["valid"].all() and sorted(batch["name"])[::2] == sorted(set(batch["name"]))
    rows = [tf.train.Example.FromString(data.numpy()) for data in tf.data.TFRecordDataset(paths)]
    features = [row.features.feature for row in rows]
    expected = {
        feature["name"].bytes_list.value[0]: np.frombuffer(feature["label"].bytes_list.value[0], "<f4")
        for feature in features
    }
    for name, label in zip(batch["name"], batch["label"], strict=True):
        np.testing.assert_array_equal(label, expected[name])
    with pytest.raises(tfrecord.RecordError, match="of 11166 classes, not 1000: set --class_num=11166"):
        index_records(paths, 1000)


@pytest.fixture(scope="module")
def damaged(paths, tmp_path_factory):
    """The shards with a byte of record 3 flipped and record 15 truncated under a right checksum; and their places."""
    folder = tmp_path_factory.mktemp("damaged")
    copies = []
    for path in paths:
        copies.append(str(folder / Path(path).name))
        Path(copies[-1]).write_bytes(Path(path).read_bytes())
    content = bytearray(Path(copies[0]).read_bytes())
    flipped = int(tfrecord.index_shard(copies[0])[0][3])
    content[flipped + 200] ^= 1
    Path(copies[0]).write_bytes(content)
    first = sum(SHARDS[:2])
    cut = [record(k, image=jpeg(k, np.random.default_rng(k))[:300] if k == 15 else None) for k in range(first, 29)]
    Path(copies[2]).write_bytes(b"".join(map(tfrecord.frame, cut)))
    cut_place = int(tfrecord.index_shard(copies[2])[0][15 - first])
    return copies, {b"3.jpg": f"{copies[0]}, byte {flipped}", b"15.jpg": f"{copies[2]}, byte {cut_place}"}


def test_damaged_records_are_replaced_and_nothing_else_moves(paths, damaged):
    copies, places = damaged
    invalid = 0
    for good, bad in zip(take(paths, 15), take(copies, 15), strict=True):
        np.testing.assert_array_equal(bad["valid"], ~np.isin(good["name"], list(places)))
        for row, valid in enumerate(bad["valid"]):
            if valid:
                source = row
                assert bad["name"][row] == good["name"][row]
            else:
                invalid += 1
                assert bad["name"][row].decode() == places[good["name"][row]]
                donors = [np.array_equal(bad["image"][row], image) for image in good["image"]]
                source = donors.index(True)
                assert bad["valid"][source]
            np.testing.assert_array_equal(bad["image"][row], good["image"][source])
            np.testing.assert_array_equal(bad["label"][row], good["label"][source])
    assert invalid >= 3


def test_a_batch_without_any_valid_record_is_grey(damaged):
    copies, places = damaged
    invalid = [batch for batch in take(copies, RECORDS, batch_size=1) if not batch["valid"][0]]
    assert sorted(batch["name"][0].decode() for batch in invalid) == sorted(places.values())
    for batch in invalid:
        assert np.all(batch["image"] == 0) and np.all(batch["label"] == -1)


def test_single_labels_of_a_damaged_batch(tmp_path):
    paths = write_shards(tmp_path / "x", "single", counts=[2])
    content = bytearray(Path(paths[0]).read_bytes())
    content[-1] ^= 1
    Path(paths[0]).write_bytes(content)
    labels = [(int(batch["label"][0]), bool(batch["valid"][0])) for batch in take(paths, 2, batch_size=1)]
    assert sorted(labels) == [(-1, False), (0, True)]


def test_labels_that_do_not_fit_are_damage(tmp_path):
    """A class beyond class_num in the middle of a shard stops nothing."""
    image = schema.Image(jpeg(1, np.random.default_rng(1)), 48, 40, "1.jpg")
    records = [record(0), schema.encode(image, [9], [1.0], "sparse", 10)]
    path = tmp_path / "x.tfrecords"
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    (batch,) = take([str(path)], 1, batch_size=2)
    assert sorted(batch["valid"]) == [False, True]


def evaluate(paths, ranks=Ranks(), crop="center"):
    index = index_records(paths, CLASSES)
    config = InputConfig(SIZE, batch_size=10)
    return list(evaluation_batches(index, task_of(index, crop=crop), config, ranks).as_numpy_iterator())


def test_evaluation_is_in_order_and_ends_with_what_is_left(paths):
    batches = evaluate(paths)
    assert [len(batch["name"]) for batch in batches] == [10, 10, 10, RECORDS - 30]
    assert joined(batches, "name").tolist() == [f"{k}.jpg".encode() for k in range(RECORDS)]
    for k in (0, 20, RECORDS - 1):
        expected = evaluation_image(decode_jpeg(jpeg(k, np.random.default_rng(k))), SIZE)
        np.testing.assert_array_equal(joined(batches, "image")[k], expected)


def test_evaluation_on_ranks_with_ten_crops_and_damage(damaged):
    for rank in range(3):
        batches = evaluate(damaged[0], Ranks(rank, 3), "10crop")
        wanted = [f"{k}.jpg".encode() for k in range(RECORDS) if k // 10 % 3 == rank]
        names, valid = joined(batches, "name"), joined(batches, "valid")
        expected = [damaged[1].get(name, name.decode()) for name in wanted]
        assert [name.decode() for name in names] == expected
        np.testing.assert_array_equal(valid, [name not in damaged[1] for name in wanted])
        images = joined(batches, "image")
        assert images.shape[1:] == (10, SIZE, SIZE, 3) and np.all(images[~valid] == 0)
        assert np.all(joined(batches, "label")[~valid] == -1)


@pytest.mark.parametrize("counts, batch_size", [([1], 1), ([1], 4), ([3], 8), ([2, 1], 7)])
def test_datasets_smaller_than_a_batch(tmp_path, counts, batch_size):
    paths = write_shards(tmp_path / "tiny", counts=counts)
    names = joined(take(paths, 6, batch_size=batch_size), "name")
    records = sum(counts)
    whole = names[: len(names) // records * records].reshape(-1, records)
    for epoch in whole:
        assert sorted(epoch) == [f"{k}.jpg".encode() for k in range(records)]


def test_augmentation_is_passed_on(paths):
    plain, augmented = (
        take(paths[1:2], 1, augmentation=augmentation, batch_size=3)[0]["image"]
        for augmentation in (Augmentation(0.99, 0.99, 0.0, 0.0), Augmentation(0.99, 0.99, 1.0, 1.0))
    )
    # Of one image, without colors: at most flipped. With: each another.
    assert np.ptp(plain.mean(axis=(1, 2)), axis=0).max() < 0.05 < np.ptp(augmented.mean(axis=(1, 2)), axis=0).max()


def test_batches_that_are_computed_in_parts_come_as_one(paths):
    whole, parts = take(paths, 3, batch_size=6), take(paths, 3, batch_size=2, accumulate_steps=3)
    assert_same(parts, whole)
