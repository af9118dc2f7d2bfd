"""The script that builds shards, as a user starts it: on good and bad images."""

from collections import Counter
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import bare, image_files
from data_processing.lists import image_list
from data_processing.lists.image_list import Row
from data_processing.records import manifest
from data_processing.records.shard_writer import ShardConfig, build_shards
from tests.build_tfrecords_runs import CLASSES, files, finish, start
from tests.scripts import run_script

SHARDS = 3
WIDTH, HEIGHT = 48, 32


def smooth():
    """An RGB image whose colours change slowly, so that a JPEG of it is nearly the same."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([40 + 4 * x, 30 + 6 * y, 200 - 2 * x - y], axis=-1).astype(np.uint8))


def make_good(folder):
    """Writes an image of each kind; returns for each name its upright pixels, uint8 [height, width, 3]."""
    image, pixels = smooth(), np.asarray(smooth())
    exif = Image.Exif()
    exif[bare.ORIENTATION] = 6  # to be turned clockwise by a quarter
    alpha = image.copy()
    alpha.putalpha(Image.new("L", image.size, 0))
    (folder / "sub folder").mkdir()
    image.save(folder / "baseline.jpg", quality=95, subsampling=0)
    image.save(folder / "sub folder" / "progressive é.jpg", quality=95, subsampling=0, progressive=True)
    image.convert("L").save(folder / "grey.jpg", quality=95)
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95, subsampling=0)
    image.save(folder / "rotated.jpg", quality=95, subsampling=0, exif=exif)
    alpha.save(folder / "alpha.png")
    image.save(folder / "a.gif")
    image.save(folder / "a.bmp")
    image.save(folder / "a.webp", quality=100, lossless=True)
    expected = {f"{name}": pixels for name in ("baseline.jpg", "sub folder/progressive é.jpg", "cmyk.jpg", "a.bmp")}
    grey = np.asarray(image.convert("L").convert("RGB"))
    expected |= {"grey.jpg": grey, "rotated.jpg": np.rot90(pixels, -1), "alpha.png": np.full_like(pixels, 255)}
    return expected | {"a.gif": np.asarray(Image.open(folder / "a.gif").convert("RGB")), "a.webp": pixels}


KEPT = ("baseline.jpg", "sub folder/progressive é.jpg", "grey.jpg")


def make_bad(folder):
    """Writes what cannot be used; returns for each name a part of the reason."""
    content = (folder / "baseline.jpg").read_bytes()
    (folder / "html.jpg").write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").touch()
    (folder.parent / "outside.jpg").write_bytes(content)
    (folder / "link.jpg").symlink_to(folder.parent / "outside.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    with open(folder / "long.jpg", "wb") as file:
        file.truncate(2**33)  # of no blocks on the disk
    return {
        "html.jpg": "HTML",
        "truncated.jpg": "truncated",
        "empty.jpg": "empty",
        "missing.jpg": "No such file",
        "../outside.jpg": "leaves",
        "link.jpg": "leaves",
        "loop.jpg": "",
        "pipe.jpg": "not a file",
        "huge.png": "10000 x 10000 pixels",
        "long.jpg": "8589934592 bytes",
        "zero\0byte.jpg": "byte",
        "sub folder": "not a file",
        "n" * 300 + ".jpg": "too long",
    }


class Mixed:
    """Images of every kind, good and bad, and their list."""

    def __init__(self, folder):
        self.images, self.list = folder / "images", folder / "list.txt"
        self.images.mkdir()
        self.good, self.bad = make_good(self.images), make_bad(self.images)
        names = [name for pair in zip(self.good, self.bad, strict=False) for name in pair]
        names += [name for name in (*self.good, *self.bad) if name not in names]
        self.rows = {
            name: Row(name, (k % CLASSES, (k + 1) % CLASSES), (1.0, -1.0 if k % 3 else 0.25))
            for k, name in enumerate(names)
        }
        image_list.write(self.list, self.rows.values())


def examples(path):
    """The features of a shard's records, as TensorFlow's own reader and protocol buffers have them."""
    return [
        tf.train.Example.FromString(record.numpy()).features.feature for record in tf.data.TFRecordDataset(str(path))
    ]


def name_of(feature):
    return feature["name"].bytes_list.value[0].decode()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return Mixed(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def built(mixed):
    """The folder of a run that allowed for the bad images, its output and its files as they were."""
    output = mixed.list.parent / "records"
    out, err = finish(start(mixed.images, mixed.list, output, f"--num_shards={SHARDS}", "--max_rejected=0.7"))
    return output, out, err, files(output)


def test_shards_hold_the_good_images(mixed, built):
    output, out, err, _ = built
    records = [feature for path in sorted(output.glob("*.tfrecords")) for feature in examples(path)]
    assert sorted(name_of(feature) for feature in records) == sorted(mixed.good)
    for feature in records:
        name, image = name_of(feature), feature["image"].bytes_list.value[0]
        pixels = tf.io.decode_jpeg(image, channels=3).numpy().astype(int)
        assert pixels.shape == mixed.good[name].shape, name
        assert np.abs(pixels - mixed.good[name]).mean() < 3, name
        assert feature["height"].int64_list.value[0] == len(pixels)
        assert feature["width"].int64_list.value[0] == len(pixels[0])
        assert (image == (mixed.images / name).read_bytes()) == (name in KEPT), name
        assert tuple(feature["label_index"].int64_list.value) == mixed.rows[name].labels
        assert tuple(feature["label_confidence"].float_list.value) == mixed.rows[name].confidences
    assert f"{len(mixed.good)} records in {SHARDS} shards; {CLASSES} of {CLASSES} classes have images" in out
    assert "images/s" in err


def test_rejected_images_are_listed_with_the_reason(mixed, built):
    lines = (built[0] / "rejected.tsv").read_text().split("\n")[:-1]
    rejected = dict(line.split("\t") for line in lines)
    assert list(rejected) == sorted(mixed.bad)
    for name, reason in mixed.bad.items():
        assert reason.lower() in rejected[name].lower() and rejected[name], name


def test_manifest_counts_and_hashes(mixed, built):
    output = built[0]
    manifest = json.loads((output / "manifest.json").read_text())
    names = [f"train-{k:05d}-of-{SHARDS:05d}.tfrecords" for k in range(SHARDS)]
    assert list(manifest["shards"]) == names
    for name, shard in manifest["shards"].items():
        assert shard["sha256"] == hashlib.sha256((output / name).read_bytes()).hexdigest()
        assert shard["records"] == len(examples(output / name))
    rows = [mixed.rows[name] for name in mixed.good]
    classes = Counter(k for row in rows for k, value in zip(row.labels, row.confidences, strict=True) if value > 0)
    assert {int(label): count for label, count in manifest["classes"].items()} == classes
    assert (manifest["records"], manifest["rejected"]) == (len(mixed.good), len(mixed.bad))
    settings = manifest["settings"]
    assert settings["image_list_sha256"] == hashlib.sha256(mixed.list.read_bytes()).hexdigest()
    assert (settings["num_shards"], settings["label_format"], settings["class_num"]) == (SHARDS, "sparse", CLASSES)


def run_that_fails(*options):
    """Returns standard output and error; the run must end with status 1 and without a traceback."""
    done = run_script("data_processing/build_tfrecords.py", *options, status=1)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_runs_that_cannot_resume(mixed, built, tmp_path):
    """After a complete run with too many rejected or other settings; or with wrong lists: nothing changes."""
    output, *_, before = built
    times = {path: path.stat().st_mtime_ns for path in output.glob("*.tfrecords")}
    wrong, two, fresh = (tmp_path / name for name in ("wrong.txt", "two.txt", "fresh"))
    wrong.write_text("baseline.jpg\t1\nbaseline.jpg\t1:2\n")
    two.write_text("baseline.jpg\t1\nbaseline.jpg\t1\t2\n")
    common = [f"--images={mixed.images}", f"--class_num={CLASSES}"]
    again = [*common, f"--image_list={mixed.list}", f"--output_dir={output}"]
    first = [*common, f"--output_dir={fresh}"]
    too_many = run_that_fails(*again, f"--num_shards={SHARDS}")
    other = run_that_fails(*again, "--num_shards=4", "--random_seed=5", "--max_rejected=1")
    bad_line = run_that_fails(*first, "--num_shards=1", f"--image_list={wrong}")
    not_single = run_that_fails(*first, "--num_shards=1", f"--image_list={two}", "--label_format=single")
    few = run_that_fails(*first, f"--image_list={two}", "--num_shards=64")
    nowhere = run_that_fails(*first, f"--image_list={two}", "--images=nowhere")
    assert "of 3 shards 3 are there already" in too_many[0]
    count = f"{len(mixed.bad)} of {len(mixed.rows)} images were rejected, more than --max_rejected=0.01"
    assert f"error: {count}" in too_many[1] and f"see {output / 'rejected.tsv'}" in too_many[1]
    settings = "(num_shards 3, now 4; random_seed 1234, now 5)"
    assert f"error: {output} holds records made with other settings {settings}" in other[1]
    assert f"error: {wrong}:2: field 2 ('1:2'): the confidence" in bad_line[1]
    assert f"error: {two}:2: 'baseline.jpg' has 2 labels; --label_format=single needs one" in not_single[1]
    assert "two.txt has 2 images, fewer than --num_shards=64" in few[1]
    assert "nowhere is no folder" in nowhere[1]
    assert files(output) == before
    assert {path: path.stat().st_mtime_ns for path in output.glob("*.tfrecords")} == times
    assert not any(fresh.iterdir())


CONFIG = ShardConfig("train", "sparse", CLASSES, num_shards=2, random_seed=1, max_rejected=0.0, max_pixels=10_000)


def build_here(mixed, folder, workers=None, **changes):
    """Builds two shards of the good images from this process; returns their examples in the order of the list."""
    folder.mkdir()
    rows = [mixed.rows[name] for name in mixed.good]
    if changes.get("label_format") == "single":
        rows = [row._replace(labels=row.labels[:1], confidences=(1.0,)) for row in rows]
    image_list.write(folder / "list.txt", rows)
    offsets = np.array_split(image_list.line_offsets(folder / "list.txt")[0], 2)
    shards = [(folder / f"{k}.tfrecords", offsets[k]) for k in range(2)]
    build_shards(shards, folder / "list.txt", mixed.images, CONFIG._replace(**changes), workers)
    return [feature for path, _ in shards for feature in examples(path)]


def test_dense_labels_as_published(mixed, tmp_path):
    for feature in build_here(mixed, tmp_path / "dense", label_format="dense"):
        vector = np.frombuffer(feature["label"].bytes_list.value[0], np.float32)
        row = mixed.rows[name_of(feature)]
        assert vector.shape == (CLASSES,) and np.count_nonzero(vector) == 2
        assert tuple(vector[list(row.labels)]) == row.confidences


def test_single_labels(mixed, tmp_path):
    for feature in build_here(mixed, tmp_path / "single", label_format="single"):
        assert list(feature["label"].int64_list.value) == [mixed.rows[name_of(feature)].labels[0]]


def test_same_bytes_whatever_the_number_of_workers(mixed, tmp_path):
    folders = {workers: tmp_path / f"{workers}" for workers in (1, 2, 6)}
    for workers, folder in folders.items():
        assert [name_of(feature) for feature in build_here(mixed, folder, workers)] == list(mixed.good)
    assert files(folders[1]) == files(folders[2]) == files(folders[6])


def test_a_failing_disk_does_not_make_an_image_missing(tmp_path):
    """Reading the start of /proc/self/mem fails with EIO, as reading from a lost file server does."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs Linux")
    image_list.write(tmp_path / "list.txt", [Row("mem", (1,), (1.0,))])
    with pytest.raises(OSError, match="Input/output error"):
        build_shards([(tmp_path / "0.tfrecords", np.array([0]))], tmp_path / "list.txt", "/proc/self", CONFIG)
    assert not (tmp_path / "0.tfrecords").exists()


def test_an_image_that_only_begins_well(mixed, tmp_path):
    """Truncated at any length, a JPEG is refused or, its last marker aside, decodes for TensorFlow too."""
    content = (mixed.images / "baseline.jpg").read_bytes()
    accepted = []
    for end in range(2, len(content) + 1):
        try:
            image, _, _ = image_files.as_jpeg(content[:end])
        except image_files.ImageError:
            continue
        accepted.append(end)
        assert np.asarray(Image.open(io.BytesIO(image))).shape == (HEIGHT, WIDTH, 3)
        assert tf.io.decode_jpeg(image).shape == (HEIGHT, WIDTH, 3)
    assert accepted and accepted[-1] == len(content) and len(accepted) <= 3


def test_the_dictionary_says_how_many_classes_and_stays_beside_the_shards(tmp_path):
    """A second split in the folder must be of the same names."""
    make_good(tmp_path)
    (tmp_path / "list.txt").write_text("baseline.jpg\t0\ngrey.jpg\t2\n")
    (tmp_path / "names.txt").write_text("0\tdog\n1\tcat\n2\towl\n")
    (tmp_path / "other.txt").write_text("0\tdog\n1\tcow\n2\towl\n")
    common = [f"--image_list={tmp_path}/list.txt", f"--images={tmp_path}", f"--output_dir={tmp_path}/out"]
    common += ["--num_shards=1"]
    run_script("data_processing/build_tfrecords.py", *common, f"--dictionary={tmp_path}/names.txt")
    assert json.loads((tmp_path / "out/manifest.json").read_text())["settings"]["class_num"] == 3
    assert (tmp_path / "out/dictionary.txt").read_text() == (tmp_path / "names.txt").read_text()
    assert manifest.class_num(tmp_path / "out") == 3
    guessed = [*common[:2], f"--output_dir={tmp_path}/guessed", "--num_shards=1"]
    run_script("data_processing/build_tfrecords.py", *guessed)
    assert manifest.class_num(tmp_path / "guessed") is None  # the default says nothing
    other = [*common, "--split=val", f"--dictionary={tmp_path}/other.txt"]
    error = run_script("data_processing/build_tfrecords.py", *other, status=1).stderr
    assert "other.txt is not of the classes of" in error and "class 1 is 'cow' instead of 'cat'" in error
    error = run_script(
        "data_processing/build_tfrecords.py", *common, f"--dictionary={tmp_path}/names.txt", "--class_num=7", status=1
    ).stderr
    assert "names.txt has 3 classes, not 7: leave --class_num out" in error
