"""Label counts: noted by who writes shards, counted from records, and kept; against a count of the list in NumPy."""

import json
import os
from pathlib import Path
import shutil

import numpy as np
from PIL import Image
import pytest

from data_processing.records import build_dataset, index, label_counts, schema, shard_writer, tfrecord
from tests.sample_shards import write_shards

CLASSES = 7
CONFIG = shard_writer.ShardConfig("train", "sparse", CLASSES, num_shards=4, random_seed=1, max_rejected=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, one of which is missing, and confidences in lists by kind of labels: float64 [images, classes]."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(3)
    (folder / "images").mkdir()
    for k in range(30):
        Image.new("RGB", (20, 10), (8 * k, 0, 0)).save(folder / f"images/{k}.jpg")
    values = np.round(rng.uniform(0.01, 1, (30, CLASSES)), 3)
    values *= rng.random((30, CLASSES)) < 0.4
    values[rng.random((30, CLASSES)) < 0.2] = -1
    values[:, -1] = 0
    values[5] = 0  # without labels
    single = np.eye(CLASSES)[rng.integers(0, CLASSES - 1, 30)]
    (folder / "images/9.jpg").unlink()
    return folder, {"sparse": values, "dense": values, "single": single}


def build(world, output, kind="sparse", **changes):
    folder, lists = world
    lines = [
        "\t".join([f"{k}.jpg", *(f"{c}:{v:g}" for c, v in enumerate(row) if v)]) for k, row in enumerate(lists[kind])
    ]
    path = folder / f"{kind}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    config = CONFIG._replace(label_format=kind, keep_unlabeled=kind != "single", **changes)
    shard_writer.build(path, folder / "images", output, config)


def expected(world, kind="sparse"):
    """The image that is missing is in no record."""
    values = np.delete(world[1][kind], 9, axis=0)
    return np.where(values > 0, np.float32(values), 0).sum(0, dtype=np.float64), (values != -1).sum(0)


def assert_counts(counts, world, kind="sparse"):
    confidences, known = expected(world, kind)
    assert counts.records == 29
    np.testing.assert_array_equal(counts.confidences, confidences)
    np.testing.assert_array_equal(counts.known, known)


def indexed(folder, class_num=CLASSES, split="train"):
    return index.index_split(folder, split, class_num)


@pytest.mark.parametrize("kind", schema.LABEL_KINDS)
def test_what_a_builder_notes_is_what_a_pass_counts(world, tmp_path, capsys, kind):
    build(world, tmp_path, kind)
    records = indexed(tmp_path)
    assert records.kind == kind
    noted = label_counts.noted(records.paths, "train", CLASSES)
    assert_counts(noted, world, kind)
    capsys.readouterr()
    assert_counts(label_counts.of_split(records, "train", CLASSES), world, kind)
    assert capsys.readouterr().out == ""
    note = tmp_path / "label_counts-train.json"
    before = note.read_bytes()
    note.unlink()
    assert label_counts.noted(records.paths, "train", CLASSES) is None
    assert_counts(label_counts.of_split(records, "train", CLASSES), world, kind)
    assert capsys.readouterr().out == f"counted the labels of 29 records; kept in {note}\n"
    assert note.read_bytes() == before


def test_a_build_that_resumes_notes_the_same(world, tmp_path):
    build(world, tmp_path)
    note = tmp_path / "label_counts-train.json"
    before = note.read_bytes()
    # As when it was killed in the last shard; and within one of the first, whose old note must not hold any longer.
    for lost in ("train-00003-of-00004.json", "train-00000-of-00004.tfrecords"):
        note.unlink(missing_ok=True)
        (tmp_path / lost).unlink()
        build(world, tmp_path)
        assert note.read_bytes() == before
    assert_counts(label_counts.noted(indexed(tmp_path).paths, "train", CLASSES), world)


def test_shards_of_earlier_versions_are_counted(world, tmp_path):
    build(world, tmp_path)
    (tmp_path / "label_counts-train.json").unlink()
    beside = tmp_path / "train-00001-of-00004.json"
    content = json.loads(beside.read_text())
    del content["labels"]
    beside.write_text(json.dumps(content))
    build(world, tmp_path)
    assert label_counts.noted(indexed(tmp_path).paths, "train", CLASSES) is None
    assert_counts(label_counts.of_split(indexed(tmp_path), "train", CLASSES), world)


def test_several_processes_and_splits(world, tmp_path):
    config = CONFIG._replace(keep_unlabeled=True)
    build(world, tmp_path / "one")
    for rank in (1, 0):
        shard_writer.build(world[0] / "sparse.txt", world[0] / "images", tmp_path / "two", config, rank, 2)
    build(world, tmp_path / "two", split="val")
    one, two = ((tmp_path / name / "label_counts-train.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert_counts(label_counts.noted(indexed(tmp_path / "two", split="val").paths, "val", CLASSES), world)


def test_a_dataset_of_folders(world, tmp_path):
    for k in range(6):
        folder = tmp_path / f"source/class {k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(world[0] / f"images/{k}.jpg", folder)
    made = build_dataset.build(
        f"folder:{tmp_path / 'source'}", tmp_path / "out", build_dataset.DatasetConfig(train_per_class=2)
    )
    counts = label_counts.noted(indexed(tmp_path / "out", made.class_num).paths, "train", made.class_num)
    assert counts.records == 4 and counts.confidences.tolist() == [2, 2] and counts.known.tolist() == [4, 4]


def test_boxes_have_no_label_counts(tmp_path):
    paths = write_shards(tmp_path / "boxes", "boxes")
    assert label_counts.noted(paths, "train", 6) is None


def test_published_records(tmp_path):
    """Dense vectors, names of shards that say no split, nothing beside them; and two records that are damaged."""
    rng = np.random.default_rng(0)
    values = rng.choice([0, 0, 1, 0.5, -1], (15, CLASSES))
    frames = []
    for k, row in enumerate(values):
        labels, image = np.flatnonzero(row), schema.Image(rng.bytes(50), 1, 1, f"{k}.jpg")
        frames.append(bytearray(tfrecord.frame(schema.encode(image, labels, row[labels], "dense", CLASSES))))
    frames[4] = tfrecord.frame(b"no example")
    frames[7][-1] ^= 1  # a checksum
    for shard in range(3):
        (tmp_path / f"{shard}.tfrecords").write_bytes(b"".join(frames[5 * shard : 5 * shard + 5]))
    good = np.delete(values, [4, 7], axis=0)
    counts = label_counts.of_split(indexed(tmp_path), "train", CLASSES)
    again = label_counts.noted(indexed(tmp_path).paths, "train", CLASSES)
    for one in (counts, again):
        assert one.records == 13
        np.testing.assert_array_equal(one.confidences, np.where(good > 0, good, 0).sum(0))
        np.testing.assert_array_equal(one.known, (good != -1).sum(0))


def test_a_note_holds_for_the_same_shards_only(tmp_path, capsys):
    paths = write_shards(tmp_path)
    first = label_counts.of_split(indexed(tmp_path, 6), "train", 6)
    assert first.confidences.tolist() == [6, 6, 5.25, 5.25, 5.25, 0] and first.known.tolist() == [37] * 5 + [0]
    assert label_counts.noted(paths, "train", 5) is None
    note = tmp_path / "label_counts-train.json"
    shard, others = Path(paths[1]), Path(paths[0]).read_bytes()
    before = shard.read_bytes()
    # Another size.
    shard.write_bytes(others)
    assert label_counts.of_split(indexed(tmp_path, 6), "train", 6).records == 47
    # The same size, and newer.
    later = note.stat().st_mtime_ns + 10**9
    os.utime(shard, ns=(later, later))
    assert label_counts.noted(paths, "train", 6) is None
    # One more; one less.
    shard.write_bytes(before)
    assert label_counts.of_split(indexed(tmp_path, 6), "train", 6).records == 37
    shutil.copy(paths[0], tmp_path / "train-00009-of-00010.tfrecords")
    assert label_counts.of_split(indexed(tmp_path, 6), "train", 6).records == 48
    (tmp_path / "train-00009-of-00010.tfrecords").unlink()
    assert label_counts.noted(paths, "train", 6) is None
    # A note that is damaged.
    for text in ("{", "[]", '{"class_num": 6}'):
        note.write_text(text)
        assert label_counts.noted(paths, "train", 6) is None
    assert label_counts.of_split(indexed(tmp_path, 6), "train", 6).records == 37
    assert capsys.readouterr().out.count(f"kept in {note}") == 5


def test_a_folder_that_takes_no_files(tmp_path, capsys, monkeypatch):
    write_shards(tmp_path)

    def write_json(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(label_counts, "write_json", write_json)
    counts = label_counts.of_split(indexed(tmp_path, 6), "train", 6)
    assert counts.records == 37 and not (tmp_path / "label_counts-train.json").exists()
    assert "not kept, so the next run counts again: [Errno 13] Permission denied" in capsys.readouterr().out


def test_an_estimate_reads_some_and_writes_nothing(tmp_path, monkeypatch):
    paths = write_shards(tmp_path)
    monkeypatch.setattr(label_counts, "SAMPLE", 20)
    counts = label_counts.estimate(indexed(tmp_path, 6), "train", 6)
    assert counts.records == 20 and counts.confidences.sum() == 20 * 0.75 and counts.known[5] == 0
    assert not (tmp_path / "label_counts-train.json").exists()
    whole = label_counts.of_split(indexed(tmp_path, 6), "train", 6)
    again = label_counts.estimate(indexed(tmp_path, 6), "train", 6)
    assert whole.records == again.records == 37 and paths
