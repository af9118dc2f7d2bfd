"""The large demo world: what its tables say of WordNet and of the font, and that its frequencies have a long tail."""

import csv
import subprocess
import sys

import numpy as np
from PIL import Image, ImageFont
import pytest

from data_processing.lists import dictionary, image_list, wordnet
from demo import frequencies, grounds, jobs, name_things, scenes, world
from tests.demo.test_make_scenes import digests
from tests.scripts import ROOT, run_script

LARGE = world.read("large")
SETTINGS = jobs.Settings(num_images=300, image_size=48, class_images=1, voc_images=0, seed=2, world="large")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder, and what is printed."""
    output = tmp_path_factory.mktemp("demo") / "world"
    flags = {**SETTINGS._asdict(), "output_dir": output}
    done = run_script("demo/make_scenes.py", *(f"--{name}={value}" for name, value in flags.items()))
    return output, done.stdout


@pytest.fixture(scope="module")
def reader():
    return wordnet.load()


def test_sizes():
    shown = [thing for thing in LARGE.things if thing.label is not None]
    novel = [thing for thing in LARGE.things if thing.label is None]
    assert len(shown) >= 400 and len(novel) >= 80 and len(LARGE.classes) >= 700
    themes = {thing.theme for thing in shown}
    assert {thing.theme for thing in novel} == themes and len(themes) >= 20
    assert len({thing.glyph for thing in LARGE.things}) == len(LARGE.things)
    assert len({thing.label for thing in shown}) == len(shown)
    # labels.csv and the folders tell things by their names.
    names = [thing.name.lower() for thing in LARGE.things] + list(LARGE.grounds)
    assert len(set(names)) == len(names)
    assert set(LARGE.grounds) == set(grounds.LABELLED) == set(world.GROUND_IDS)


def test_every_thing_has_a_drawing_of_its_own():
    font = ImageFont.truetype(str(world.font_path()), 40)
    missing = bytes(font.getmask("\U0010fffd"))
    drawn = set()
    for thing in LARGE.things:
        assert bytes(font.getmask(thing.glyph)) != missing, f"{thing.name} is not in the font"
        image = scenes.glyph(thing.glyph, 40)
        assert min(image.size) >= 5
        drawn.add(image.tobytes())
    assert len(drawn) == len(LARGE.things)


def test_the_tables_are_those_of_wordnet(reader):
    for entry in LARGE.classes:
        assert entry.names == wordnet.names(reader, entry.wnid)
        if entry.parent >= 0:
            above = {one for step in wordnet.ancestors(reader, entry.wnid) for one in step}
            assert LARGE.classes[entry.parent].wnid in above
    for _, wnid, name, *_ in world.rows(world.Path(world.__file__).parent / "emoji_large.tsv"):
        assert name in wordnet.names(reader, wnid).split(", ")
    labels = {k: LARGE.classes[labels[0]].names.split(", ")[0] for k, labels in LARGE.grounds.items()}
    assert labels == {name: name for name in grounds.LABELLED}


def test_classes_are_what_scenes_show_and_what_groups_it():
    labels = [thing.labels for thing in LARGE.things if thing.label is not None] + list(LARGE.grounds.values())
    assert {label for one in labels for label in one} == {entry.index for entry in LARGE.classes}
    # No two classes are always together: what is neither thing nor ground has two classes under it.
    ancestors = {entry.index for entry in LARGE.classes} - {one[0] for one in labels}
    parents = [entry.parent for entry in LARGE.classes]
    assert all(parents.count(one) >= 2 for one in ancestors)


def test_the_program_makes_the_committed_tables(tmp_path):
    here = name_things.FOLDER
    run_script("demo/name_things.py", f"--output_dir={tmp_path}")
    for name in ("emoji_large.tsv", "hierarchy_large.tsv"):
        assert (tmp_path / name).read_bytes() == (here / name).read_bytes()
    # Later Unicode has names for more emoji; none is missing of those that were looked at.
    was, now = ([row[0] for row in world.rows(folder / "emoji_left_out.tsv")] for folder in (here, tmp_path))
    assert set(was) <= set(now) and len(was) == len(set(was))
    assert not set(was) & {row[0] for row in world.rows(here / "emoji_large.tsv")}


def test_the_first_sense_is_of_what_can_be_seen(reader):
    # Of "leopard" WordNet has the pelt first, so that one was chosen by hand.
    assert wordnet.wnid(name_things.first_sense(reader, "fox face")) == "n02118333"
    assert name_things.first_sense(reader, "love letter") is None
    chosen = {row[2]: row for row in world.rows(name_things.FOLDER / "emoji_large.tsv")}
    assert chosen["leopard"][1] == "n02128385" and chosen["leopard"][6] == "hand"
    assert chosen["rhinoceros"][6] == "program"


def test_at_most_a_quarter_of_the_classes_is_in_64_scenes():
    shares = []
    for seed in range(3):
        rng = np.random.default_rng([seed, 77])
        probabilities = scenes.frequencies(seed, "large")
        assert all((p > 0) == (thing.label is not None) for p, thing in zip(probabilities, LARGE.things, strict=True))
        textures, sets = grounds.TRAIN + grounds.LABELLED, []
        for _ in range(50 * frequencies.BATCH):
            things = scenes.choose_things(rng, probabilities, "large")
            assert 2 <= len(things) == len(set(things)) <= 5
            ground = LARGE.grounds.get(textures[rng.integers(len(textures))], ())
            sets.append({label for thing in things for label in LARGE.things[thing].labels} | set(ground))
        shares.append(frequencies.share_present(sets, len(LARGE.classes)))
        # A long tail: the commonest tenth of the things is shown more often than all others together.
        counts = np.sort(
            np.bincount([label for one in sets for label in one])[[t.label for t in LARGE.things if t.labels]]
        )
        assert counts[-len(counts) // 10 :].sum() > counts.sum() / 2 > 0 and np.median(counts) < counts.max() / 100
    assert np.mean(shares) <= 0.25, shares


def test_share_present_is_an_average_over_batches():
    sets = [{0}] * 64 + [{0, 1, 2}] * 64 + [{3}] * 10
    assert frequencies.share_present(sets, 4) == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert frequencies.share_present([{1}, {2}], 4) == 0.5


def test_lists_hold_things_grounds_and_ancestors(made):
    output, printed = made
    classes = dictionary.read(output / "dictionary_and_semantic_hierarchy.txt")
    assert tuple(classes) == LARGE.classes
    ancestors = dictionary.ancestors(classes)
    shown = {thing.label for thing in LARGE.things} - {None}
    labelled = {labels[0]: name for name, labels in LARGE.grounds.items()}
    rows = [row for split in ("train", "val") for row in image_list.read(output / f"{split}.txt", len(classes))]
    with open(output / "labels.csv", newline="") as file:
        named = {line["path"]: line["labels"].split("|") for line in csv.DictReader(file)}
    on_ground = 0
    for row in rows:
        labels = set(row.labels)
        assert len(labels & shown) >= 2 and all(set(ancestors[label]) <= labels for label in labels)
        [*ground] = labels & set(labelled)
        on_ground += len(ground)
        assert len(ground) <= 1 and all(labelled[one] in named[row.path] for one in ground)
    assert 0.3 < on_ground / len(rows) < 0.6
    assert len(rows) == 300 and "718 classes" in printed and "in 64 scenes" in printed


def test_frequencies_are_those_of_the_list(made):
    output, _ = made
    counts = np.zeros(len(LARGE.classes), int)
    for row in image_list.read(output / "train.txt"):
        counts[list(row.labels)] += 1
    with open(output / "frequencies.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["images"]) for row in rows] == counts.tolist()
    groups = {group: [int(row["images"]) for row in rows if row["group"] == group] for group in frequencies.GROUPS}
    assert min(groups["frequent"]) >= max(groups["middle"]) and min(groups["middle"]) >= max(groups["rare"]) >= 1
    assert max(map(len, groups.values())) - min(map(len, groups.values())) <= 1


def test_folders_of_seen_and_of_novel_things(made):
    output, _ = made
    with open(output / "frequencies.tsv", newline="") as file:
        group_of = {row["class"]: row["group"] for row in csv.DictReader(file, delimiter="\t")}
    thing_of = {thing.name.replace(" ", "-"): thing for thing in LARGE.things}
    for kind in ("seen", "novel"):
        folders = sorted(path.name for path in (output / "classes" / kind).iterdir())
        assert [folder[:4] for folder in folders] == [f"{k:03d}." for k in range(1, len(folders) + 1)]
        things = [thing_of[folder[4:]] for folder in folders]
        assert all((thing.label is None) == (kind == "novel") for thing in things)
        if kind == "novel":
            assert len(things) == sum(thing.label is None for thing in LARGE.things)
        else:
            groups = [group_of[str(thing.label)] for thing in things]
            assert [groups.count(group) for group in frequencies.GROUPS] == [frequencies.OF_GROUP] * 3
    images = sorted((output / "classes").rglob("*.jpg"))
    assert len(images) == len({digest for name, digest in digests(output).items() if name.startswith("classes/")})


def test_bytes_do_not_depend_on_the_number_of_processes(made, tmp_path):
    jobs.make_images(tmp_path / "alone", SETTINGS, 1)
    alone, whole = digests(tmp_path / "alone"), digests(made[0])
    assert alone and alone == {name: digest for name, digest in whole.items() if name.endswith(".jpg")}


def test_voc_images_are_refused(tmp_path):
    output = tmp_path / "world"
    command = [sys.executable, "demo/make_scenes.py", f"--output_dir={output}", "--world=large", "--voc_images=4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "--voc_images=4: the large world has none" in done.stderr
    assert not output.exists()


def test_grounds_look_like_what_they_are():
    means = {}
    for name in grounds.LABELLED:
        drawn = [grounds.draw(np.random.default_rng(k), name, 48, 64).mean(axis=(0, 1)) for k in range(10)]
        means[name] = np.mean(drawn, axis=0)
    assert means["grass"].argmax() == 1 and means["water"].argmax() == means["sky"].argmax() == 2
    assert means["sand"][0] > means["sand"][1] > means["sand"][2] + 20
    assert means["snow"].min() > 150 and np.ptp(means["snow"]) < 50 < np.ptp(means["sky"])
    assert means["sky"].mean() > means["water"].mean() + 30


def test_a_contact_sheet_shows_it(made):
    with Image.open(made[0] / "contact_sheet.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 1000
