"""From classes of ImageNet and Open Images to one vocabulary, as a user does it."""

import subprocess
import sys

import pytest

from data_processing.lists import dictionary
from tests.scripts import ROOT, run_script


def build(output, *options):
    return run_script("data_processing/build_dictionary.py", f"--output_dir={output}", *options, status=None)


def table(path):
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=False)) for line in lines]


IMAGENET = {
    "n02084071": 900,  # dog
    "n02121620": 800,  # cat
    "n00015388": 5000,  # animal
    "n01751748": 700,  # sea snake
    "n00029378": 900,  # event
    "n03126707": 900,  # crane, the machine
    "n02009912": 900,  # American egret
    "n00001740": 99,  # entity
    "n02103406": 3,  # working dog
}
OPEN_IMAGES = [
    ("/m/0bt9lr", "Dog", 2000),  # seven senses
    ("/m/0sea", "Sea", 5000),
    ("/m/0egret", "egret", 700),  # one sense
    ("/m/0crane", "Crane", 800),
    ("/m/0rare", "sea snake", 12),
    ("/m/0none", "Selfie stick pose", 9000),
    ("/m/0summer", "Summer", 9000),
    ("/m/0puppy", "Puppy", 1500),
]
CHOSEN = {"/m/0bt9lr": "n02084071", "/m/0sea": "n09426788", "/m/0crane": "n02012849", "/m/0summer": "n15236475"}


def write_sources(folder):
    (folder / "ids.txt").write_text("# of ImageNet\n" + "".join(f"{wnid}\t{n}\n" for wnid, n in IMAGENET.items()))
    (folder / "class-descriptions.csv").write_text("".join(f'{mid},"{name}"\n' for mid, name, _ in OPEN_IMAGES))
    (folder / "counts.tsv").write_text("# id\timages\n" + "".join(f"{mid}\t{n}\n" for mid, _, n in OPEN_IMAGES))
    (folder / "chosen.tsv").write_text("id\twnid\n" + "".join(f"{mid}\t{wnid}\n" for mid, wnid in CHOSEN.items()))
    return [
        f"--wnids={folder}/ids.txt",
        f"--class_descriptions={folder}/class-descriptions.csv",
        f"--image_counts={folder}/counts.tsv",
        f"--label_synsets={folder}/chosen.tsv",
        "--min_images_wnids=5",
    ]


def test_every_class_has_a_decision(tmp_path):
    options = write_sources(tmp_path)
    done = build(tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    decisions = {row["id"]: row for row in table(tmp_path / "out" / "decisions.tsv")}
    assert {name: row["outcome"] for name, row in decisions.items()} == {
        "n02084071": "kept",
        "n02121620": "kept",
        "n00015388": "kept",
        "n01751748": "kept",
        "n00029378": "abstract",
        "n03126707": "kept",
        "n02009912": "kept",
        "n00001740": "abstract",
        "n02103406": "rare",
        "/m/0bt9lr": "merged",
        "/m/0sea": "kept",
        "/m/0egret": "kept",
        "/m/0crane": "kept",
        "/m/0rare": "rare",
        "/m/0none": "no synset",
        "/m/0summer": "abstract",
        "/m/0puppy": "unsure",
    }
    assert decisions["/m/0bt9lr"]["class"] == decisions["n02084071"]["class"]
    entries = dictionary.read(tmp_path / "out" / "dictionary_and_semantic_hierarchy.txt")
    wnids = {entry.wnid for entry in entries}
    assert wnids == {row["wnid"] for row in decisions.values() if row["outcome"] == "kept"} and len(entries) == 9
    by_wnid = {entry.wnid: entry for entry in entries}
    assert entries[by_wnid["n02084071"].parent].wnid == "n00015388" and by_wnid["n09426788"].parent == -1
    assert all(entry.parent < entry.index for entry in entries)
    # The two cranes share a name and are reported, not merged; the word with several senses is for a person to choose.
    assert [row["wnid"] for row in table(tmp_path / "out" / "namesakes.tsv")] == ["n03126707"]
    review = table(tmp_path / "out" / "review.tsv")
    assert {row["id"] for row in review} == {"/m/0puppy"} and len(review) > 1 and "young dog" in review[0]["gloss"]

    # The review file, with one line left, is what the next run takes; the same input makes the same bytes.
    lines = (tmp_path / "out" / "review.tsv").read_text().splitlines()
    with open(tmp_path / "chosen.tsv", "a") as file:
        file.write(lines[1] + "\n")
    assert build(tmp_path / "again", *options).returncode == build(tmp_path / "twice", *options).returncode == 0
    rows = {row["id"]: row for row in table(tmp_path / "again" / "decisions.tsv")}
    assert rows["/m/0puppy"]["outcome"] == "kept" and rows["/m/0puppy"]["wnid"] == "n01322604"
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()


def test_senses_that_nobody_chose(tmp_path):
    (tmp_path / "words.csv").write_text("LabelName,DisplayName\n/m/1,Puppy\n/m/2,Dog\n")
    # In a process of its own, as a user runs it.
    options = [f"--output_dir={tmp_path}/out", f"--class_descriptions={tmp_path}/words.csv", "--unsure=first"]
    command = [sys.executable, ROOT / "data_processing/build_dictionary.py", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {row["wnid"] for row in table(tmp_path / "out" / "decisions.tsv")} == {"n01322604", "n02084071"}


@pytest.mark.parametrize(
    "options, content, message",
    [
        (["--wnids=in"], "n02084071\nn99999999\n", "in:2: 'n99999999' is no noun of WordNet 3.0"),
        (["--wnids=in"], "n02084071\nn02084071\n", "in:2: n02084071 came before"),
        (["--wnids=in"], "n02084071\tmany\n", "in:1: 'many' is no number of images"),
        (["--wnids=fine", "--label_synsets=in"], "id\twnid\n/m/1\tn1\n", "in:2: 'n1' is no noun"),
        (["--wnids=fine", "--abstract=in"], "# none\nn02084071\nn02084072\n", "in:3: 'n02084072' is no noun"),
        (["--class_descriptions=in"], "/m/1,Dog\n/m/2,caf\udce9\n", "in:1: here or soon after it is not CSV in UTF-8"),
        (["--wnids=in"], "n00029378\n", "no class is left"),
        (["--class_descriptions=in"], "/m/1,Dog\nDog\n", "in:2: not an id and a name"),
        ([], "", "give --wnids, --class_descriptions or both"),
    ],
)
def test_bad_input(tmp_path, options, content, message):
    (tmp_path / "in").write_text(content, errors="surrogateescape")
    (tmp_path / "fine").write_text("n02084071\n")
    done = build(tmp_path / "out", *(option.replace("=", f"={tmp_path}/") for option in options))
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()
