"""The demo world: its tables, its files, and that the same command makes the same bytes."""

from collections import Counter
import hashlib
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image, ImageFont
import pytest

from data_processing.lists import dictionary, image_list
from data_processing.sources import csv_labels
from demo import grounds, jobs, scenes, voc, world
from tests.scripts import ROOT, run_script

SETTINGS = jobs.Settings(num_images=60, image_size=48, class_images=1, voc_images=24, seed=5)


def command(output, **other):
    values = {**SETTINGS._asdict(), "output_dir": output, **other}
    return ["demo/make_scenes.py", *(f"--{name}={value}" for name, value in values.items())]


def run(output, **other):
    return run_script(*command(output, **other), status=None)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "world"
    result = run(output)
    assert result.returncode == 0, result.stderr
    return output


def test_tables_fit_together():
    things, classes, _ = world.read()
    wnids = [entry.wnid for entry in classes]
    assert len(set(wnids)) == len(wnids) and all(len(wnid) == 9 and wnid[1:].isdigit() for wnid in wnids)
    assert len({thing.glyph for thing in things}) == len({thing.label for thing in things}) == len(things) >= 110
    for thing in things:
        assert thing.name in classes[thing.label].names.split(", ")
    voc_classes = [thing.voc for thing in things if thing.voc]
    assert sorted(voc_classes) == sorted(set(world.VOC_CLASSES) - {"diningtable"})
    # Every class is a thing or groups at least two classes: no two labels are always the same.
    children = Counter(entry.parent for entry in classes)
    shown = {thing.label for thing in things}
    assert all(entry.index in shown or children[entry.index] >= 2 for entry in classes)
    ancestors = dictionary.ancestors(classes)
    assert max(map(len, ancestors)) >= 4


def test_things_can_be_drawn_and_look_different():
    font = ImageFont.truetype(str(world.font_path()), 40)
    missing = bytes(font.getmask("\U0010fffd"))
    drawn = set()
    for thing in world.read().things:
        assert bytes(font.getmask(thing.glyph)) != missing, f"{thing.name} is not in the font"
        image = scenes.glyph(thing.glyph, 40)
        assert image.mode == "RGBA" and min(image.size) >= 5
        drawn.add(image.tobytes())
    assert len(drawn) == len(world.read().things)


def test_labels_csv_says_what_the_lists_say(made):
    things = world.read().things
    table = csv_labels.read(made / "labels.csv", csv_labels.CsvConfig())
    rows = [row for part in ("train", "val") for row in image_list.read(made / f"{part}.txt")]
    assert not table.notes and [row.path for row in table.rows] == [row.path for row in rows]
    of_thing = {thing.name: thing.label for thing in things}
    for named, row in zip(table.rows, rows, strict=True):
        listed = dict(zip(row.labels, row.confidences, strict=True))
        assert {of_thing[name]: value for name, value in named.labels.items()}.items() <= listed.items()
    assert any(value < 1 for row in table.rows for value in row.labels.values())


def test_lists_hold_every_ancestor(made):
    classes = dictionary.read(made / "dictionary_and_semantic_hierarchy.txt")
    assert tuple(classes) == world.read().classes
    ancestors = dictionary.ancestors(classes)
    things = {thing.label for thing in world.read().things}
    for split, count in (("train", 48), ("val", 12)):
        rows = list(image_list.read(made / f"{split}.txt", len(classes)))
        assert [row.path for row in rows] == [f"images/{split}_{k:06d}.jpg" for k in range(1, count + 1)]
        for row in rows:
            confidence = dict(zip(row.labels, row.confidences, strict=True))
            assert 1 <= len(things & set(row.labels))
            assert all(0 < value <= 1 for value in confidence.values())
            for label in row.labels:
                assert all(confidence[above] >= confidence[label] for above in ancestors[label])


# What the world has shown since there was only this one: labels, size, and mean colour to what libraries may change.
AS_EVER = {
    "images/train_000001.jpg": ("person", (55, 54), (100.3, 81.7, 67.8)),
    "images/train_000002.jpg": ("balloon:0.8|tennis ball", (54, 70), (119.9, 132.2, 96.3)),
    "images/train_000003.jpg": ("saxophone", (49, 43), (144.3, 126.2, 93.4)),
    "images/train_000004.jpg": ("taxi|motorcycle", (47, 45), (157.3, 143.3, 63.6)),
    "classes/001.accordion/001_0001.jpg": (None, (68, 54), (156.3, 140.3, 161.6)),
    "voc/JPEGImages/000001.jpg": (None, (54, 47), (150.8, 135.7, 167.4)),
}


def test_the_small_world_stays_as_it_was(made):
    table = dict(line.split(",") for line in (made / "labels.csv").read_text().splitlines())
    for path, (labels, size, colour) in AS_EVER.items():
        assert table.get(path) == labels
        with Image.open(made / path) as image:
            assert image.size == size
            np.testing.assert_allclose(np.asarray(image).mean(axis=(0, 1)), colour, atol=0.5)


def test_images_decode_near_the_asked_size(made):
    sizes = set()
    for path in sorted(made.rglob("*.jpg")):
        with Image.open(path) as image:
            image.load()
            assert image.format == "JPEG" and image.mode == "RGB"
            sizes.add(image.size)
            assert 0.85 * 48 <= min(image.size) <= 1.2 * 48 and max(image.size) <= 1.5 * 48
    assert len(sizes) > 20


def test_class_folders_have_the_layout_of_caltech(made):
    folders = sorted(path.name for path in (made / "classes").iterdir())
    assert len(folders) == len(world.read().things)
    for number, folder in enumerate(folders, start=1):
        assert folder.startswith(f"{number:03d}.") and " " not in folder
        assert [path.name for path in (made / "classes" / folder).iterdir()] == [f"{number:03d}_0001.jpg"]


def voc_objects(made, name):
    root = ET.parse(made / "voc" / "Annotations" / f"{name}.xml").getroot()
    size = tuple(int(root.find(f"size/{side}").text) for side in ("width", "height"))
    boxes = []
    for element in root.iter("object"):
        box = [int(element.find(f"bndbox/{end}").text) for end in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append((element.find("name").text, box, int(element.find("difficult").text)))
    return root, size, boxes


def test_voc_boxes_hold_the_masks(made):
    names = [path.stem for path in sorted((made / "voc" / "JPEGImages").iterdir())]
    assert len(names) == 24
    for name in names:
        root, size, boxes = voc_objects(made, name)
        assert root.find("filename").text == f"{name}.jpg" and boxes
        with Image.open(made / "voc" / "JPEGImages" / f"{name}.jpg") as image:
            assert image.size == size
        with Image.open(made / "voc" / "SegmentationClass" / f"{name}.png") as image:
            assert image.mode == "P" and image.size == size
            assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), voc.colour_map())
            mask = np.array(image)
        covered = {index: np.zeros(mask.shape, bool) for index in range(1, 21)}
        for voc_class, (left, top, right, bottom), _ in boxes:
            assert 1 <= left <= right <= size[0] and 1 <= top <= bottom <= size[1]
            covered[world.VOC_CLASSES.index(voc_class) + 1][top - 1 : bottom, left - 1 : right] = True
        values = set(np.unique(mask).tolist())
        assert values <= {0, voc.BORDER, *(world.VOC_CLASSES.index(voc_class) + 1 for voc_class, _, _ in boxes)}
        for index in values - {0, voc.BORDER}:
            assert covered[index][mask == index].all()


def test_voc_image_sets_agree_with_the_annotations(made):
    sets = made / "voc" / "ImageSets"
    train, val, both = ((sets / "Main" / f"{name}.txt").read_text().split() for name in ("train", "val", "trainval"))
    assert sorted(train + val) == both and len(train) == len(val) == 12
    assert (sets / "Segmentation" / "val.txt").read_text().split() == val
    for voc_class in world.VOC_CLASSES:
        for line in (sets / "Main" / f"{voc_class}_trainval.txt").read_text().splitlines():
            name, mark = line.split()
            difficult = [hard for shown, _, hard in voc_objects(made, name)[2] if shown == voc_class]
            assert int(mark) == (-1 if not difficult else 0 if all(difficult) else 1)


def test_palette_is_that_of_voc():
    # The first colours, as the VOC development kit lists them.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for index, colour in known.items():
        assert tuple(voc.colour_map()[index].tolist()) == colour
    assert tuple(voc.colour_map()[255].tolist()) == (224, 224, 192)


def test_boxes_and_visible_shares_follow_from_the_owner():
    for seed in range(40):
        rng = np.random.default_rng([seed, 9])
        scene = scenes.compose(rng, rng.integers(len(world.read().things), size=5).tolist(), 64, grounds.TRAIN)
        assert scene.image.shape == (*scene.owner.shape, 3) and scene.image.dtype == np.uint8
        assert set(np.unique(scene.owner)) <= set(range(-1, len(scene.objects)))
        for number, item in enumerate(scene.objects):
            left, top, right, bottom = item.box
            shown = scene.owner == number
            inside = shown[top:bottom, left:right]
            assert inside.sum() == shown.sum() > 0
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            assert scenes.MIN_VISIBLE <= item.visible <= 1
            assert (item.visible < 1) == (item.truncated or item.occluded)


def test_hidden_things_are_less_sure():
    item = scenes.Object(0, (0, 0, 1, 1), scenes.MIN_VISIBLE, False, True)
    hidden = scenes.labels([item])
    assert set(hidden) == set(world.read().things[0].labels) and set(hidden.values()) == {0.5}
    assert set(scenes.labels([item, item._replace(visible=0.9)]).values()) == {1.0}


def test_frequencies_are_zipf_and_themes_go_together():
    things = world.read().things
    probabilities = scenes.frequencies(3)
    ordered = np.sort(probabilities)[::-1]
    np.testing.assert_allclose(ordered * (np.arange(len(things)) + 3), ordered[0] * 3)
    assert not np.array_equal(probabilities, scenes.frequencies(4))
    rng = np.random.default_rng(0)
    drawn = [scenes.choose_things(rng, probabilities) for _ in range(4000)]
    counts = np.bincount(sum(drawn, []), minlength=len(things))
    # A thing comes again in the same scene, so its count varies more than a binomial one: about twice as much.
    expected = probabilities * counts.sum()
    assert np.all(np.abs(counts - expected) < 10 * np.sqrt(expected))
    several = [choice for choice in drawn if len(choice) > 1]
    together = np.mean([len({things[thing].theme for thing in choice}) == 1 for choice in several])
    assert 0.75 < together < 0.9
    assert {len(choice) for choice in drawn} == {1, 2, 3, 4, 5}


def test_train_and_val_stand_on_different_grounds(made):
    for kind in ("", "voc_"):
        assert not set(jobs.GROUNDS[f"{kind}train"]) & set(jobs.GROUNDS[f"{kind}val"])
    sums = [value for name, value in digests(made).items() if name.endswith(".jpg")]
    assert len(set(sums)) == len(sums)
    for name in grounds.TEXTURES:
        ground = grounds.draw(np.random.default_rng(1), name, 40, 56)
        assert ground.shape == (40, 56, 3) and ground.min() >= 0 and ground.max() <= 255 and ground.std() > 3


def test_bytes_do_not_depend_on_the_number_of_processes(made, tmp_path):
    jobs.make_images(tmp_path / "alone", SETTINGS, 1)
    jobs.make_images(tmp_path / "three", SETTINGS, 3)
    alone, three, whole = digests(tmp_path / "alone"), digests(tmp_path / "three"), digests(made)
    assert alone == three and len(alone) == 60 + len(world.read().things) + 3 * 24
    assert alone == {name: whole[name] for name in alone}


def test_another_seed_makes_another_world(made, tmp_path):
    other = jobs.Settings(5, 48, 0, 0, seed=6)
    jobs.make_images(tmp_path / "other", other, 1)
    before, after = digests(made), digests(tmp_path / "other")
    assert after and all(before[name] != digest for name, digest in after.items())


def test_a_killed_run_leaves_nothing_that_looks_whole(made, tmp_path):
    output = tmp_path / "world"
    process = subprocess.Popen(
        [sys.executable, *command(output)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(tmp_path.rglob("*.jpg")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists() and list(tmp_path.rglob("*.jpg"))
    assert run(output).returncode == 0
    assert digests(output) == digests(made)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_second_run_does_nothing_and_another_command_is_refused(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    again = run(made)
    assert again.returncode == 0 and "is there already" in again.stdout
    refused = run(made, seed=6)
    assert refused.returncode == 1 and refused.stderr.startswith(f"error: {made} holds")
    assert "choose another --output_dir" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_folder_of_the_user_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = run(tmp_path)
    assert result.returncode == 1 and "holds something else" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("flag", ["num_images=4", "image_size=8", "seed=-1", "voc_images=-1", "class_images=many"])
def test_flags_out_of_bounds_are_named(tmp_path, flag):
    name, value = flag.split("=")
    result = run(tmp_path / "world", **{name: value})
    assert result.returncode != 0 and f"--{name}={value}" in result.stderr and "Traceback" not in result.stderr


def test_the_output_folder_must_be_named():
    result = run_script("demo/make_scenes.py", status=None)
    assert result.returncode != 0 and "--output_dir" in result.stderr and "Traceback" not in result.stderr
