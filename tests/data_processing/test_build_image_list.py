"""Image lists of ImageNet's archives, published lists and Open Images' tables, as a user makes them."""

import os
import subprocess
import sys

import pytest

from data_processing.images import archives, image_files
from data_processing.lists import dictionary, image_list
from data_processing.sources import labeled_images
from tests.scripts import ROOT, run_script
from tests.tar_files import archive, image

ENTRIES = [
    dictionary.Entry(0, "n00015388", -1, "animal"),
    dictionary.Entry(1, "n02084071", 0, "dog"),
    dictionary.Entry(2, "n09426788", -1, "sea"),
]
DECISIONS = """id\tname\timages\toutcome\tclass\twnid\treason
n02084071\tdog\t\tkept\t1\tn02084071\t
/m/dog\tDog\t9\tmerged\t1\tn02084071\tthe same synset
/m/puppy\tPuppy\t9\tmerged\t1\tn02084071\tshares a name
/m/sea\tSea\t9\tkept\t2\tn09426788\t
/m/party\tParty\t9\tabstract\t\t\ta kind of event
"""


def run(folder, *options):
    return run_script("data_processing/build_image_list.py", f"--output_dir={folder}/out", *options, status=None)


def with_dictionary(folder):
    dictionary.write(folder / "dictionary.txt", ENTRIES)
    (folder / "decisions.tsv").write_text(DECISIONS)
    return [f"--dictionary={folder}/dictionary.txt", f"--decisions={folder}/decisions.tsv"]


def rows(path):
    return {row.path: dict(zip(row.labels, row.confidences, strict=True)) for row in image_list.read(path)}


def test_imagenet_from_archives_and_folders(tmp_path):
    source = tmp_path / "imagenet"
    (source / "n09426788").mkdir(parents=True)
    (source / "n09426788" / "n09426788_1.JPEG").write_bytes(image(1))
    good = {"n02084071_8388.JPEG": image(2), "n02084071_9.JPEG": image(3), "more/n02084071_1.JPEG": image(4)}
    bad = {"../outside.JPEG": b"x", "/etc/a.JPEG": b"x", "link.JPEG": None, "notes.txt": b"x"}
    archive(source / "n02084071.tar", good | bad)
    done = run(tmp_path, f"--imagenet={source}", *with_dictionary(tmp_path))
    assert done.returncode == 0, done.stderr
    expected = {f"n02084071/{name}": {1: 1.0} for name in good} | {"n09426788/n09426788_1.JPEG": {2: 1.0}}
    assert rows(tmp_path / "out/train.txt") == expected
    assert (tmp_path / "out/counts.tsv").read_text() == "# id\timages\nn02084071\t3\nn09426788\t1\n"
    # The images are read where they lie, below a folder above, too.
    for name, data in good.items():
        assert archives.read_file(source, f"n02084071/{name}", 10**6) == data
        assert archives.read_file(tmp_path, f"imagenet/n02084071/{name}", 10**6) == data
    assert archives.read_file(source, "n09426788/n09426788_1.JPEG", 10**6) == image(1)
    for wrong in ("n02084071/missing.JPEG", "n02084071/../outside.JPEG", "n02084071/link.JPEG", "../x/n02084071/a.jpg"):
        with pytest.raises((image_files.ImageError, OSError)):
            archives.read_file(source, wrong, 10**6)


def test_what_cannot_be_used_is_left_out_and_named(tmp_path):
    source = tmp_path / "imagenet"
    source.mkdir()
    odd = {"a\tb.JPEG": b"x", os.fsdecode(b"\xff.JPEG"): b"x", "fine.JPEG": b"x"}
    archive(source / "n02084071.tar", odd)
    archive(source / "n09426788.tar", {f"{k}.JPEG": image(k) * 20 for k in range(9)})
    os.truncate(source / "n09426788.tar", 60_000)
    table = "ImageID,OriginalURL\n0f,\n02,http://a/1\tb.jpg\n" + "fffffffffffffff0,http://a/2.jpg\n"
    options = write(tmp_path, OPEN_IMAGES | {"images.csv": table})
    done = run(tmp_path, f"--imagenet={source}", *options, *with_dictionary(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (
        f"\n1 damaged archives, whose other images are missing; fetch them again: {source}/n09426788.tar\n"
        in done.stdout
    )
    assert "\n4 images left out, whose path or URL is empty" in done.stdout and r"n02084071/a\tb.JPEG" in done.stdout
    # Where a source has lines, they are named.
    assert f"{tmp_path}/images.csv:2: ''" in done.stdout
    assert rf"{tmp_path}/images.csv:3: 'http://a/1\tb.jpg'" in done.stdout
    kept = rows(tmp_path / "out/train.txt")
    assert [path for path in kept if "n09426788" not in path] == ["n02084071/fine.JPEG", "http://a/2.jpg"]
    assert 0 < len(kept) - 2 < 9
    # Nor are they counted, for the choice of classes.
    assert labeled_images.id_lines(tmp_path / "out/counts.tsv")["n02084071"] == ["1"]


OPEN_IMAGES = {
    "images.csv": "ImageID,Subset,OriginalURL,License\n"
    "000000000000000f,train,http://a/1.jpg,CC\n"
    'fffffffffffffff0,train,"http://a/2,3.jpg",CC\n'
    "0000000000000002,train,http://a/4.jpg,CC\n"
    "0000000000000003,train,http://a/none.jpg,CC\n",
    "annotations-human.csv": "ImageID,Source,LabelName,Confidence\n"
    "fffffffffffffff0,verification,/m/sea,0\n"
    "000000000000000f,verification,/m/dog,1\n",
    "annotations-machine.csv": "ImageID,Source,LabelName,Confidence\n"
    "000000000000000f,machine,/m/dog,0.6\n"
    "000000000000000f,machine,/m/sea,0.7\n"
    "fffffffffffffff0,machine,/m/sea,0.9\n"
    "fffffffffffffff0,machine,/m/dog,0.5\n"
    "fffffffffffffff0,machine,/m/puppy,0.8\n"
    "0000000000000002,machine,/m/party,1.0\n",
}
LATER = {
    "train-images-boxable.csv": OPEN_IMAGES["images.csv"],
    "train-annotations-human-imagelabels.csv": "ImageID,LabelName,Confidence\n000000000000000f,/m/dog,1\n",
    "train-annotations-machine-imagelabels.csv": "ImageID,LabelName,Confidence\n000000000000000f,/m/dog,0.5\n",
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)
    images, *annotations = (str(folder / name) for name in files)
    return [f"--open_images={images}", f"--annotations={','.join(annotations)}"]


def test_open_images(tmp_path):
    options = write(tmp_path, OPEN_IMAGES)
    done = run(tmp_path, *options, *with_dictionary(tmp_path))
    assert done.returncode == 0, done.stderr
    # People win over machines; labels that became one class have the highest confidence; what has no class goes.
    assert rows(tmp_path / "out/train.txt") == {"http://a/1.jpg": {1: 1.0, 2: 0.7}, "http://a/2,3.jpg": {1: 0.8}}
    assert "2 images in" in done.stdout and "2 images left out" in done.stdout
    counts = labeled_images.id_lines(tmp_path / "out/counts.tsv")
    assert counts == {"/m/dog": ["2"], "/m/sea": ["1"], "/m/puppy": ["1"], "/m/party": ["1"]}
    assert run(tmp_path, *options, "--min_confidence=0.75", *with_dictionary(tmp_path)).returncode == 0
    assert rows(tmp_path / "out/train.txt") == {"http://a/1.jpg": {1: 1.0}, "http://a/2,3.jpg": {1: 0.8}}


def test_later_versions_of_open_images(tmp_path):
    assert run(tmp_path, *write(tmp_path, LATER), *with_dictionary(tmp_path)).returncode == 0
    assert rows(tmp_path / "out/train.txt") == {"http://a/1.jpg": {1: 1.0}}


def test_a_published_list(tmp_path):
    published = [dictionary.Entry(0, "n09426788", -1, "sea"), dictionary.Entry(1, "n02084071", -1, "dog")]
    dictionary.write(tmp_path / "published.txt", published)
    text = "n02084071/n02084071_8388.JPEG\t1:1\nhttps://a/b.jpg\t0:0.9\t1:-1\n"
    (tmp_path / "train_image_id_from_imagenet.txt").write_text(text)
    options = [f"--lists={tmp_path}/train_image_id_from_imagenet.txt", f"--list_dictionary={tmp_path}/published.txt"]
    # In a process of its own, as a user runs it.
    command = [sys.executable, ROOT / "data_processing/build_image_list.py", f"--output_dir={tmp_path}/out", *options]
    assert subprocess.run([*command, *with_dictionary(tmp_path)], capture_output=True).returncode == 0
    assert rows(tmp_path / "out/train.txt") == {
        "n02084071/n02084071_8388.JPEG": {1: 1.0},
        "https://a/b.jpg": {1: -1.0, 2: 0.9},
    }


def test_validation_is_chosen_by_path_and_seed_alone(tmp_path):
    dictionary.write(tmp_path / "published.txt", ENTRIES)
    options = [f"--list_dictionary={tmp_path}/published.txt", "--val_fraction=0.25", *with_dictionary(tmp_path)]
    val = []
    for count in (1000, 2000):
        (tmp_path / "list.txt").write_text("".join(f"{k}.jpg\t1\n" for k in range(count)))
        assert run(tmp_path, f"--lists={tmp_path}/list.txt", *options).returncode == 0
        val.append(set(rows(tmp_path / "out/val.txt")))
        train = set(rows(tmp_path / "out/train.txt"))
        assert not train & val[-1] and len(train | val[-1]) == count
        assert abs(len(val[-1]) - count / 4) < 4 * (count * 3 / 16) ** 0.5
    assert val[0] == {path for path in val[1] if int(path.split(".")[0]) < 1000}


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("images.csv", "000000000000000f,http://a\n", "images.csv:1: no column ImageID, OriginalURL"),
        ("images.csv", "ImageID,OriginalURL\nzz,http://a\n", "images.csv:2: ImageID 'zz' is not 16 hexadecimal"),
        ("images.csv", "ImageID,OriginalURL\n0f\n", "images.csv:2: too few fields"),
        ("annotations-machine.csv", "ImageID,LabelName,Confidence\n0f,/m/a,2\n", ":2: Confidence '2' is no number"),
        ("annotations-machine.csv", "ImageID,LabelName,Confidence\n0f,/m/a,nan\n", "Confidence 'nan' is no number"),
        ("annotations-machine.csv", "ImageID,LabelName,Confidence\n", ""),
    ],
)
def test_bad_tables(tmp_path, name, text, message):
    files = OPEN_IMAGES | {"annotations-human.csv": "ImageID,LabelName,Confidence\n", name: text}
    done = run(tmp_path, *write(tmp_path, files))
    message = message or "the sources have no labels"
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_files_of_two_runs_do_not_go_together(tmp_path):
    options = write(tmp_path, OPEN_IMAGES) + with_dictionary(tmp_path)
    (tmp_path / "decisions.tsv").write_text(DECISIONS.replace("\t2\tn09426788", "\t1\tn09426788"))
    done = run(tmp_path, *options)
    assert done.returncode == 1 and "/m/sea is class 1 (n09426788), which" in done.stderr
    assert "no source: give" in run(tmp_path).stderr
    assert "neither archives like" in run(tmp_path, f"--imagenet={tmp_path}").stderr


def test_a_path_of_a_list_that_cannot_be_used_is_named_with_its_line(tmp_path):
    dictionary.write(tmp_path / "published.txt", ENTRIES)
    (tmp_path / "list.txt").write_bytes(b"fine.jpg\t1\n\na\rb.jpg\t1\n")
    options = [f"--lists={tmp_path}/list.txt", f"--list_dictionary={tmp_path}/published.txt"]
    done = run(tmp_path, *options, *with_dictionary(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(rows(tmp_path / "out/train.txt")) == ["fine.jpg"]
    assert "1 images left out" in done.stdout and rf": {tmp_path}/list.txt:3: 'a\rb.jpg'" in done.stdout
