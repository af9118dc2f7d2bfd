"""Makes a small world of drawn scenes with labels, boxes and masks, so that everything can be tried without a download.

    python demo/make_scenes.py --output_dir=out/world --num_images=5000 --image_size=96 --seed=1

Writes into --output_dir:
    images/train_000001.jpg …, images/val_000001.jpg …          scenes with one to five things; a fifth are for val
    train.txt, val.txt                                          image lists, with paths relative to --output_dir
    labels.csv                                                  the same images, with the names of what is in them
    dictionary_and_semantic_hierarchy.txt                       the classes and their parents
    classes/001.name/001_0001.jpg …                             one thing an image, in the layout of Caltech-256
    voc/                                                        scenes with boxes and masks, in the layout of PASCAL VOC
    contact_sheet.png                                           a look at some of it
    settings.json                                               what it was made from

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
from flags import FLAGS, config, run, script

script(
    __name__,
    __doc__,
    first="num_images class_images voc_images image_size seed",
    required="output_dir",
    defaults={"num_images": 5000},
)

from data_processing.lists import dictionary, image_list
from demo import contact_sheet, jobs, scenes, voc, world

# What the images and labels follow from, besides the settings.
PROGRAM = ("emoji.tsv", "grounds.py", "hierarchy.tsv", "jobs.py", "make_scenes.py", "scenes.py", "voc.py", "world.py")
# Scenes of train and of val on the contact sheet.
SHOWN = 20


def main(argv):
    del argv
    output = Path(FLAGS.output_dir)
    settings = config(jobs.Settings)
    if is_there(output, settings):
        print(f"{output} is there already, made by the same command")
        return
    # What a run that was stopped left behind is here too; it is made anew.
    temp_path = output.absolute().with_name(output.absolute().name + ".part")
    shutil.rmtree(temp_path, ignore_errors=True)
    made = jobs.make_images(temp_path, settings, min(os.cpu_count() or 1, 32))
    write_lists(temp_path, made)
    if settings.voc_images:
        voc.write_image_sets(temp_path / "voc", _voc_rows(made["voc_train"]), _voc_rows(made["voc_val"]))
    contact_sheet.write(temp_path / "contact_sheet.png", temp_path, _shown(made))
    (temp_path / "settings.json").write_text(_description(settings))
    temp_path.replace(output)
    count = sum(len(images) for images in made.values())
    print(f"{output}: {count:,} images, {len(world.read().classes)} classes; have a look at contact_sheet.png")


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


def write_lists(output, made):
    """Writes train.txt, val.txt, the dictionary and labels.csv into `output`."""
    dictionary.write(output / "dictionary_and_semantic_hierarchy.txt", world.read().classes)
    write_csv(output / "labels.csv", made["train"] + made["val"])
    for kind in ("train", "val"):
        rows = []
        for job, objects, _ in made[kind]:
            labels = scenes.labels(objects)
            rows.append(image_list.Row(job.path, tuple(labels), tuple(labels.values())))
        image_list.write(output / f"{kind}.txt", rows)


def write_csv(path, made):
    """Writes the things in each scene by their names, those that are mostly hidden with a confidence."""
    things = world.read().things
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "labels"])
        for job, objects, _ in made:
            labels = scenes.labels(objects)
            seen = {things[item.thing].name: labels[things[item.thing].label] for item in objects}
            table.writerow([job.path, "|".join(k if value == 1 else f"{k}:{value}" for k, value in seen.items())])


def _voc_rows(made):
    return [(Path(job.path).stem, classes) for job, _, classes in made]


def _shown(made):
    """Returns (path, names of the things) of the scenes for the contact sheet."""
    things = world.read().things
    chosen = made["train"][:SHOWN] + made["val"][:SHOWN]
    return [(job.path, [things[item.thing].name for item in objects]) for job, objects, _ in chosen]


def _description(settings):
    """Returns the text of settings.json: the settings, and a digest of this program and its tables."""
    digest = hashlib.sha256()
    for name in PROGRAM:
        digest.update((Path(__file__).parent / name).read_bytes())
    return json.dumps({**settings._asdict(), "program": digest.hexdigest()}, indent=2) + "\n"


if __name__ == "__main__":
    run(main)
