"""Shards of lists that are odd, and of images that decoders and encoders stumble over."""

import io
import json
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin
import pytest

from data_processing.images import archives
from data_processing.lists import image_list
from data_processing.records import build_dataset, image_record, index, schema, shard_writer, tfrecord

CLASSES = 5
CONFIG = shard_writer.ShardConfig("train", "sparse", CLASSES, num_shards=1, random_seed=1, max_rejected=0.0)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(4):
        Image.new("RGB", (20, 10), (40 * k, 0, 0)).save(folder / f"{k}.jpg")
    return folder


def build(images, lines, **changes):
    """Builds into a folder beside `images`; returns {name: labels} of the split's records."""
    config, output = CONFIG._replace(**changes), images.parent / "records"
    path = images.parent / f"{config.split}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    shard_writer.build(path, images, output, config)
    records = {}
    for shard in tfrecord.shard_paths(output, config.split):
        offsets, problem = tfrecord.index_shard(shard)
        assert problem is None
        for offset in offsets[:-1]:
            name, _, labels = schema.decode(tfrecord.read_record(shard, offset), config.label_format)
            records[name.decode()] = dict(labels)
    return records


LISTED = ["0.jpg\t1\t2:0.5", "1.jpg", "2.jpg\t1:-1\t1:0.25\t3:-1\t1", "3.jpg\t"]


def test_images_without_labels_are_left_out_and_counted(images, capsys):
    assert build(images, LISTED) == {"0.jpg": {1: 1.0, 2: 0.5}, "2.jpg": {1: 1.0, 3: -1.0}}
    out = capsys.readouterr().out
    path = images.parent / "train.txt"
    assert f"2 images without labels, left out; --keep_unlabeled keeps them: {path}:2, {path}:4\n" in out
    assert f"1 lines with a class twice, the higher confidence holds: {path}:3\n" in out
    assert "2 images; of 1 shards 0 are there already" in out
    assert "2 records in 1 shards; 2 of 5 classes have images; 0 images rejected, 2 without labels left out" in out
    content = json.loads((images.parent / "records/manifest.json").read_text())
    assert (content["records"], content["rejected"], content["unlabeled"]) == (2, 0, 2)
    assert content["classes"] == {"1": 2, "2": 1}


@pytest.mark.parametrize("label_format", ["sparse", "dense"])
def test_images_without_labels_are_kept_as_images_of_no_class(images, capsys, label_format):
    # An image without labels comes first, which says what kind the labels of all are.
    records = build(images, LISTED[1:2], label_format=label_format, keep_unlabeled=True, split="val")
    assert records == {"1.jpg": {}}
    found = index.index_split(images.parent / "records", "val", CLASSES)
    assert found.kind == label_format and len(found) == 1
    records = build(images, LISTED, label_format=label_format, keep_unlabeled=True)
    assert records == {"0.jpg": {1: 1, 2: 0.5}, "1.jpg": {}, "2.jpg": {1: 1, 3: -1}, "3.jpg": {}}
    assert "0 images rejected, 2 without labels kept" in capsys.readouterr().out


def test_single_labels_may_not_be_missing(images):
    with pytest.raises(ValueError, match="train.txt:2: '1.jpg' has 0 labels; --label_format=single needs one an image"):
        build(images, ["0.jpg\t1", "1.jpg"], label_format="single", keep_unlabeled=True)
    with pytest.raises(ValueError, match=r"train.txt has 0 images \(without the 1 that have no labels\), fewer than"):
        build(images, ["1.jpg"])


def test_two_splits_in_one_folder(images):
    train, val = ["0.jpg\t1", "1.jpg\t2"], ["2.jpg\t1", "none.jpg\t1"]
    assert build(images, train) == {"0.jpg": {1: 1}, "1.jpg": {2: 1}}
    assert build(images, val, split="val", max_rejected=0.5) == {"2.jpg": {1: 1}}
    output = images.parent / "records"
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.tfrecords")}
    assert build(images, train) == {"0.jpg": {1: 1}, "1.jpg": {2: 1}}
    build(images, val, split="val", max_rejected=0.5)
    assert before == {path.name: path.stat().st_mtime_ns for path in output.glob("*.tfrecords")}
    names = {f"{stem}{split}" for stem in ("settings", "manifest") for split in (".json", "-val.json")}
    shards = {f"{split}-00000-of-00001.{end}" for split in ("train", "val") for end in ("tfrecords", "json", "offsets")}
    counts = {f"label_counts-{split}.json" for split in ("train", "val")}
    assert {path.name for path in output.iterdir()} == names | shards | counts | {"rejected.tsv", "rejected-val.tsv"}
    assert (output / "rejected.tsv").read_text() == ""
    assert (output / "rejected-val.tsv").read_text() == "none.jpg\tNo such file or directory\n"
    assert json.loads((output / "manifest-val.json").read_text())["settings"]["split"] == "val"
    assert build_dataset.classes_of_records(output) == CLASSES
    with pytest.raises(ValueError, match=r"other settings \(class_num 5, now 6\); .*delete its val-\*"):
        build(images, val, split="val", max_rejected=0.5, class_num=6)
    build(images, ["3.jpg\t5"], split="test", class_num=6)
    with pytest.raises(ValueError, match="manifest-test.json is of records of 6 classes, .*manifest-val.json of 5"):
        build_dataset.classes_of_records(output)


def test_a_split_is_a_part_of_file_names(images):
    with pytest.raises(ValueError, match="--split='../a' is no name of a split"):
        build(images, ["0.jpg\t1"], split="../a")


def png_without_palette():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(4)) * 4)
    transparency = chunk(b"tRNS", b"\0\1")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparency + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def with_long_comment(kind):
    image, buffer, comment = Image.new("RGB", (20, 10), (200, 0, 0)), io.BytesIO(), "x" * 70_000
    if kind == "GIF":
        image.save(buffer, "GIF", comment=comment.encode())
    else:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("comment", comment)
        image.save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def test_no_image_ends_a_build(images):
    """Valid ones with more text than a JPEG may hold become records; a damaged one is refused, and listed."""
    for kind in ("GIF", "PNG"):
        (images / f"{kind}.jpg").write_bytes(with_long_comment(kind))
    (images / "palette.png").write_bytes(png_without_palette())
    lines = ["0.jpg\t1", "GIF.jpg\t1", "palette.png\t2", "PNG.jpg\t3"]
    records = build(images, lines, max_rejected=0.5)
    rejected = (images.parent / "records/rejected.tsv").read_text().splitlines()
    assert {"0.jpg", "GIF.jpg", "PNG.jpg"} <= records.keys()
    assert len(records) + len(rejected) == 4 and all(line.startswith("palette.png\t") for line in rejected)


def test_what_fails_in_reading_is_the_machine(images, monkeypatch):
    """As when a file server is lost: the image is there, and must not be left out."""

    def read_file(folder, path, max_pixels):
        raise OSError(5, "Input/output error")

    row = image_list.Row("0.jpg", (1,), (1.0,))
    monkeypatch.setattr(archives, "read_file", read_file)
    with pytest.raises(OSError, match="Input/output error"):
        image_record.make(row, images, CONFIG)
    monkeypatch.setattr(archives, "read_file", lambda folder, path, max_pixels: np.random.default_rng(0).bytes(99))
    made = image_record.make(row, images, CONFIG)
    assert made.record is None and "not an image" in made.reason

    def as_jpeg(*_):
        raise MemoryError

    monkeypatch.setattr(image_record.image_files, "as_jpeg", as_jpeg)
    with pytest.raises(OSError, match="0.jpg: out of memory"):
        image_record.make(row, images, CONFIG)
