"""Makes a small world of drawn scenes with labels, boxes and masks, so that everything can be tried without a download.

    python demo/make_scenes.py --output_dir=out/world --num_images=5000 --image_size=96 --seed=1
    python demo/make_scenes.py --output_dir=out/large --num_images=8000 --image_size=60 --seed=1 --world=large

Writes into --output_dir:
    images/train_000001.jpg …, images/val_000001.jpg …          scenes with one to five things; a fifth are for val
    train.txt, val.txt                                          image lists, with paths relative to --output_dir
    labels.csv                                                  the same images, with the names of what is in them
    dictionary_and_semantic_hierarchy.txt                       the classes and their parents
    classes/001.name/001_0001.jpg …                             one thing an image, in the layout of Caltech-256
    voc/                                                        scenes with boxes and masks, in the layout of PASCAL VOC
    contact_sheet.png                                           a look at some of it
    settings.json                                               what it was made from

The large world has more than 700 classes. Its scenes show two to five things each, some much more often than others,
and grass, sand, water, sky and snow as grounds are labels too. It has no voc/, and instead
    classes/seen/001.name/…                                     a hundred things that scenes show, of all frequencies
    classes/novel/001.name/…                                    things that no scene shows, to transfer to
    frequencies.tsv                                             how many images of train show each class

The same command makes the same bytes, on any number of cores. The folder appears when all is done; if it is there
already, and was made by the same command, nothing is done.

The images show emoji of OpenMoji (https://openmoji.org, CC BY-SA 4.0), so they are under that licence too.
"""

import csv
import hashlib
import json
import os
from pathlib import Path
import shutil
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, given, run, script
from absl import flags

flags.DEFINE_enum("world", "small", ["small", "large"], "Small: 193 classes; large: over 700, in crowded scenes.")

script(
    __name__,
    __doc__,
    first="world num_images class_images voc_images image_size seed",
    required="output_dir",
    defaults={"num_images": 5000},
)

from data_processing.lists import dictionary, image_list
from demo import contact_sheet, frequencies, jobs, scenes, voc, world

# What the images and labels follow from, besides the settings.
PROGRAM = (
    *("emoji.tsv", "frequencies.py", "grounds.py", "hierarchy.tsv", "jobs.py", "make_scenes.py", "scenes.py", "voc.py"),
    *("emoji_large.tsv", "hierarchy_large.tsv", "world.py"),
)
# Scenes of train and of val on the contact sheet.
SHOWN = 20


def main(argv):
    del argv
    output = Path(FLAGS.output_dir)
    settings = config(jobs.Settings)
    if settings.world == "large":
        if given("voc_images"):
            raise ValueError(f"--voc_images={FLAGS.voc_images}: the large world has none; leave it out or use 0")
        settings = settings._replace(voc_images=0)
    if is_there(output, settings):
        print(f"{output} is there already, made by the same command")
        return
    # What a run that was stopped left behind is here too; it is made anew.
    temp_path = output.absolute().with_name(output.absolute().name + ".part")
    shutil.rmtree(temp_path, ignore_errors=True)
    made = jobs.make_images(temp_path, settings, min(os.cpu_count() or 1, 32))
    write_lists(temp_path, made, settings.world)
    if settings.voc_images:
        voc.write_image_sets(temp_path / "voc", _voc_rows(made["voc_train"]), _voc_rows(made["voc_val"]))
    if settings.world == "large":
        frequencies.write(temp_path / "frequencies.tsv", made["train"])
    contact_sheet.write(temp_path / "contact_sheet.png", temp_path, _shown(made, settings.world))
    (temp_path / "settings.json").write_text(_description(settings))
    temp_path.replace(output)
    count = sum(len(images) for images in made.values())
    classes = len(world.read(settings.world).classes)
    print(f"{output}: {count:,} images, {classes} classes; have a look at contact_sheet.png")
    if settings.world == "large":
        print(frequencies.describe(made["train"]))


def is_there(output, settings) -> bool:
    """Whether `output` was made by these settings and this program. Raises ValueError if it holds something else."""
    if not output.exists() or output.is_dir() and not any(output.iterdir()):
        return False
    described = output / "settings.json"
    if described.is_file() and described.read_text() == _description(settings):
        return True
    raise ValueError(
        f"{output} holds something else, or a world of other settings or of another version of this program; "
        "delete it or choose another --output_dir"
    )


def write_lists(output, made, name):
    """Writes train.txt, val.txt, the dictionary and labels.csv of the world `name` into `output`."""
    dictionary.write(output / "dictionary_and_semantic_hierarchy.txt", world.read(name).classes)
    write_csv(output / "labels.csv", made["train"] + made["val"], name)
    for kind in ("train", "val"):
        rows = []
        for one in made[kind]:
            labels = scenes.labels(one.objects, one.ground, name)
            rows.append(image_list.Row(one.job.path, tuple(labels), tuple(labels.values())))
        image_list.write(output / f"{kind}.txt", rows)


def write_csv(path, made, name):
    """Writes the things and labelled ground of each scene by name, things mostly hidden with a confidence."""
    things, grounds = world.read(name).things, world.read(name).grounds
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "labels"])
        for one in made:
            labels = scenes.labels(one.objects, one.ground, name)
            seen = {things[item.thing].name: labels[things[item.thing].label] for item in one.objects}
            seen |= {one.ground: 1} if one.ground in grounds else {}
            table.writerow([one.job.path, "|".join(k if value == 1 else f"{k}:{value}" for k, value in seen.items())])


def _voc_rows(made):
    return [(Path(one.job.path).stem, one.voc_classes) for one in made]


def _shown(made, name):
    """Returns (path, names of the things and of a labelled ground) of the scenes for the contact sheet."""
    things, grounds = world.read(name).things, world.read(name).grounds
    shown = []
    for one in made["train"][:SHOWN] + made["val"][:SHOWN]:
        names = [things[item.thing].name for item in one.objects]
        shown.append((one.job.path, names + [one.ground] * (one.ground in grounds)))
    return shown


def _description(settings):
    """Returns the text of settings.json: the settings, and a digest of this program and its tables."""
    digest = hashlib.sha256()
    for name in PROGRAM:
        digest.update((Path(__file__).parent / name).read_bytes())
    return json.dumps({**settings._asdict(), "program": digest.hexdigest()}, indent=2) + "\n"


if __name__ == "__main__":
    run(main)
