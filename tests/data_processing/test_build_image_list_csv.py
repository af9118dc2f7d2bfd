"""Image lists of a CSV and of COCO's annotations, as a user makes them: from there to records."""

import csv
import json
import random
import re
import subprocess
import sys

import pytest

from data_processing.lists import dictionary, image_list
from tests.archives import jpeg
from tests.scripts import ROOT, run_script

DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
NAMES = ["dog, brown", 'the "cat"', "Größe", "猫", "Mission: Impossible", "a;b", "  blanks  ", "Dog", "dog"]


def run(folder, *options, status=0):
    return run_script(
        "data_processing/build_image_list.py", f"--output_dir={folder}/out", *options, status=status, cwd=folder
    )


def images_of(path):
    return [row.path for row in image_list.read(path, require_labels=False)]


def labels_of(folder):
    """{path: {name: confidence}} of the lists in a folder."""
    names = dictionary.read_names(folder / DICTIONARY)
    return {
        row.path: {names[k]: value for k, value in zip(row.labels, row.confidences, strict=True)}
        for part in ("train", "val")
        for row in image_list.read(folder / f"{part}.txt", len(names), require_labels=False)
    }


def write_csv(folder, images, header=("path", "labels")):
    """A CSV of {path: names}."""
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *([path, "|".join(names)] for path, names in images.items())])
    return folder / "labels.csv"


def test_lists_hold_every_image_and_names_are_kept(tmp_path):
    """As a user runs it, in a process of its own."""
    choice = random.Random(0)
    images = {f"folder {k % 3}/Bild, {k} ü.jpg": choice.sample(NAMES, choice.randrange(4)) for k in range(200)}
    images["once.jpg"] = ["a class that comes once"]
    path = write_csv(tmp_path, images)
    (tmp_path / "images").mkdir()
    command = [sys.executable, ROOT / "data_processing/build_image_list.py", f"--csv={path}"]
    command += [f"--images={tmp_path}/images", f"--output_dir={tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    train, val = (images_of(tmp_path / f"out/{part}.txt") for part in ("train", "val"))
    assert not set(train) & set(val) and len(train) + len(val) == len(images) == 201
    assert 20 < len(val) < 60
    assert labels_of(tmp_path / "out") == {path: dict.fromkeys(names, 1.0) for path, names in images.items()}
    entries = dictionary.read(tmp_path / "out" / DICTIONARY)
    assert all(entry.parent == -1 and entry.wnid == entry.names for entry in entries)
    # In order of first appearance.
    assert [entry.names for entry in entries] == list(dict.fromkeys(sum(images.values(), [])))
    empty = sum(not names for names in images.values())
    assert f"{empty} images without labels, which stay in the lists; --keep_unlabeled" in done.stdout
    absent = f"201 images that are not in {tmp_path}/images, of which no record will be made; these are all: is"
    assert f"{absent} --images the folder that the paths are relative to?: {path}:2: '" in done.stdout
    counted = (
        f"{len(train)} images in {tmp_path}/out/train.txt, {len(val)} images in {tmp_path}/out/val.txt; 10 classes"
    )
    assert counted in done.stdout and re.search(
        "1 names that differ only in case.*: '[Dd]og' and '[Dd]og'", done.stdout
    )


def test_one_hot_and_frequency(tmp_path):
    rows = [["1.jpg", "0", "1", "0"], ["2.jpg", "0.5", "1", ""], ["3.jpg", "", "-1", "0"]]
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["img", "a", "b, c", "never"], *rows])
    options = [f"--csv={tmp_path}/labels.csv", "--one_hot", "--class_order=frequency", "--val_fraction=0.4"]
    done = run(tmp_path, *options)
    assert dictionary.read_names(tmp_path / "out" / DICTIONARY) == ["b, c", "a", "never"]
    expected = {"1.jpg": {"b, c": 1.0}, "2.jpg": {"b, c": 1.0, "a": 0.5}, "3.jpg": {"b, c": -1.0}}
    assert labels_of(tmp_path / "out") == expected
    assert "classes without an image for training: " in done.stdout and "'never'" in done.stdout
    # Of the same images in another order, the same are chosen.
    val = images_of(tmp_path / "out/val.txt")
    (tmp_path / "labels.csv").write_text("img;a\n3.jpg;1\n2.jpg;1\n1.jpg;0\n")
    run(tmp_path, *options)
    assert sorted(images_of(tmp_path / "out/val.txt")) == sorted(val) != []


def test_columns_separator_and_the_user_s_split(tmp_path):
    text = "Datei,Klassen,Teil\n1.jpg,a/b,train\n2.jpg,a,val\n3.jpg,b/a,train\n4.jpg,b,test\n"
    (tmp_path / "labels.csv").write_text(text)
    done = run(tmp_path, f"--csv={tmp_path}/labels.csv", status=1)
    assert (
        "labels.csv:1: no column that must be the one of paths; its first line names the columns: 'Datei'"
        in done.stderr
    )
    options = ["--path_column=Datei", "--label_column=Klassen", "--separator=/", "--split_column=Teil"]
    done = run(tmp_path, f"--csv={tmp_path}/labels.csv", *options)
    assert [images_of(tmp_path / f"out/{part}.txt") for part in ("train", "val", "test")] == [
        ["1.jpg", "3.jpg"],
        ["2.jpg"],
        ["4.jpg"],
    ]
    assert f"2 images in {tmp_path}/out/train.txt, 1 images in {tmp_path}/out/val.txt, 1 images in" in done.stdout


def test_classes_of_another_dictionary(tmp_path):
    entries = [dictionary.Entry(0, "x", -1, "x"), dictionary.Entry(1, "y", -1, "y")]
    dictionary.write(tmp_path / "dictionary.txt", entries)
    path = write_csv(tmp_path, {"1.jpg": ["y", "z"], "2.jpg": ["x"], "3.jpg": ["z"]})
    done = run(tmp_path, f"--csv={path}", f"--dictionary={tmp_path}/dictionary.txt")
    assert labels_of(tmp_path / "out") == {"1.jpg": {"y": 1.0}, "2.jpg": {"x": 1.0}, "3.jpg": {}}
    assert f"2 labels left out, which are not in the dictionary: {path}:2: 'z', {path}:4: 'z'" in done.stdout
    assert dictionary.read(tmp_path / "out" / DICTIONARY) == entries


def test_hierarchy_of_wordnet(tmp_path):
    path = write_csv(tmp_path, {"1.jpg": ["giraffe"], "2.jpg": ["crane", "zebra"], "3.jpg": ["crane", "ufo 17"]})
    done = run(tmp_path, f"--csv={path}", "--hierarchy=wordnet")
    assert "1 names that are of several senses in WordNet, and stay without parents: 'crane'" in done.stdout
    assert "1 names that are no nouns of WordNet, and stay without parents: 'ufo 17'" in done.stdout
    labels = labels_of(tmp_path / "out")
    assert {"giraffe", "ungulate, hoofed mammal"} < set(labels["1.jpg"]) and set(labels["3.jpg"]) == {"crane", "ufo 17"}
    review = (tmp_path / "out/review.tsv").read_text()
    assert "n02012849\tcrane\t2\tcrane\tlarge long-necked wading bird" in review
    (tmp_path / "chosen.tsv").write_text("crane\tn02012849\n")
    run(tmp_path, f"--csv={path}", "--hierarchy=wordnet", f"--label_synsets={tmp_path}/chosen.tsv")
    assert "wading bird, wader" in labels_of(tmp_path / "out")["3.jpg"]
    closed = run_script(
        "data_processing/augment_labels.py",
        "--check",
        f"--image_list={tmp_path}/out/train.txt",
        f"--dictionary={tmp_path}/out/{DICTIONARY}",
        status=None,
    )
    assert closed.returncode == 0, closed.stdout + closed.stderr


def test_coco(tmp_path):
    content = {
        "images": [{"id": k, "file_name": f"{k:012d}.jpg"} for k in range(10)],
        "categories": [{"id": 5, "name": "dog, brown"}, {"id": 7, "name": "unicorn"}],
        "annotations": [{"image_id": k, "category_id": 5} for k in (0, 0, 1, 2, 3, 4, 5, 6)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    done = run(tmp_path, "--coco=instances.json")
    labels = labels_of(tmp_path / "out")
    assert labels == {f"{k:012d}.jpg": {"dog, brown": 1.0} if k < 7 else {} for k in range(10)}
    assert dictionary.read_names(tmp_path / "out" / DICTIONARY) == ["dog, brown", "unicorn"]
    assert "3 images without labels, which stay in the lists" in done.stdout


def test_says_what_is_wrong(tmp_path):
    path = write_csv(tmp_path, {"1.jpg": ["x"]})
    for options, message in (
        ([f"--csv={path}", "--coco=x.json"], "--csv and --coco: give one of them"),
        ([f"--csv={path}", "--imagenet=x"], "--csv and --imagenet: give one of them"),
        ([f"--csv={path}x"], "No such file or directory"),
        ([f"--csv={path}", "--images=nowhere"], "--images=nowhere is no folder; give the one that the paths in"),
        ([f"--csv={path}", "--separator="], "--separator is empty"),
        ([f"--coco={path}"], "labels.csv: not JSON in UTF-8"),
    ):
        done = run(tmp_path, *options, status=1)
        assert message in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_records_and_statistics_of_such_lists(tmp_path, keep):
    (tmp_path / "images").mkdir()
    images = {f"{k}.jpg": NAMES[k % 3 :: 3] if k else [] for k in range(12)}
    for k, path in enumerate(images):
        (tmp_path / "images" / path).write_bytes(jpeg(k))
    path = write_csv(tmp_path, images)
    run(tmp_path, f"--csv={path}", f"--images={tmp_path}/images")
    options = [f"--output_dir={tmp_path}/records", f"--images={tmp_path}/images", "--num_shards=1"]
    options += [f"--class_num={len(NAMES)}", f"--dictionary={tmp_path}/out/{DICTIONARY}"]
    counts = []
    for split in ("train", "val"):
        own = [f"--image_list={tmp_path}/out/{split}.txt", f"--split={split}"]
        done = run_script("data_processing/build_tfrecords.py", *options, *own, f"--keep_unlabeled={keep}")
        counts.append(int(done.stdout.split(" records")[0].split()[-1]))
    assert sum(counts) == (12 if keep else 11)
    done = run_script(
        "data_processing/statistics.py",
        f"--image_lists={tmp_path}/out/train.txt,{tmp_path}/out/val.txt",
        f"--dictionary={tmp_path}/out/{DICTIONARY}",
        f"--output_dir={tmp_path}/statistics",
    )
    assert "12 images, 9 classes" in done.stdout


def test_one_missing_image_of_a_few_stops_no_records(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "list.txt").write_text("".join(f"{k}.jpg\t0\n" for k in range(20)))
    for k in range(19):
        (tmp_path / "images" / f"{k}.jpg").write_bytes(jpeg(k))
    options = [f"--image_list={tmp_path}/list.txt", f"--images={tmp_path}/images", "--class_num=1"]
    done = run_script("data_processing/build_tfrecords.py", *options, f"--output_dir={tmp_path}/records")
    # As many shards as images, where nobody says how many.
    assert "19 records in 20 shards; 1 of 1 classes have images; 1 images rejected" in done.stdout
    assert (tmp_path / "records/rejected.tsv").read_text() == "19.jpg\tNo such file or directory\n"
    done = run_script(
        "data_processing/build_tfrecords.py", *options, f"--output_dir={tmp_path}/none", "--max_rejected=0", status=1
    )
    assert "1 of 20 images were rejected, more than --max_rejected=0 (1 x No such file" in done.stderr
