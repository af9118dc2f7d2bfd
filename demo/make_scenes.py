"""Makes the demo world: pictures, image lists, a class dictionary, class folders, boxes and masks.

    python demo/make_scenes.py --output_dir=out/demo/world --num_images=4000 --image_size=96 --seed=1

Writes into --output_dir, which appears when it is complete:
    images/{train,val}_000001.jpg …              scenes of one to five objects; a fifth of them are for validation
    train.txt, val.txt                           image lists: path<TAB>index:confidence…, objects and their ancestors
    dictionary_and_semantic_hierarchy.txt        the classes, with WordNet ids and parents
    classes/001.dog/001_0001.jpg …               one object a picture, in a folder a class (as Caltech-256)
    voc/{JPEGImages,Annotations,SegmentationClass,ImageSets}      boxes and masks of 20 classes (as VOC)
    contact_sheet.png                            some pictures with their labels
The same command makes the same bytes.
"""

from concurrent.futures import ProcessPoolExecutor
import functools
import io
import multiprocessing
import os
from pathlib import Path
import shutil
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, checked
from absl import app, flags
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from data_processing import dictionary, image_list
from demo import grounds, scenes, voc

flags.DEFINE_string("output_dir", None, "Folder to make; it must not exist.")
flags.DEFINE_integer("num_images", 4000, "Pictures of training and validation together.", lower_bound=10)
flags.DEFINE_integer("seed", 1, "Seed of all that is drawn.", lower_bound=0)

VALIDATION_SHARE = 0.2
# One picture of each class for so many scenes.
SCENES_PER_CLASS_PICTURE = 400
MOST_VOC_SCENES = 1000
SHEET = (6, 4)
DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
# Parts of the world whose pictures must differ; together with the seed and a number they seed a picture.
TRAIN, VAL, CLASSES = range(3)


def main(argv):
    del argv
    make_world(FLAGS.output_dir, FLAGS.num_images, FLAGS.image_size, FLAGS.seed)


def make_world(output_dir, num_images, image_size, seed, workers=None):
    """Makes the world described above in a new folder.

    Args:
      output_dir: the folder.
      num_images: scenes, of which a fifth is for validation.
      image_size: smaller side of the pictures in pixels, at least 32.
      seed: of all that is drawn.
      workers: processes, by default one a core; the result does not depend on it.

    Raises ValueError if the folder exists.
    """
    output = Path(output_dir)
    if output.exists():
        raise ValueError(f"{output} exists already; delete it, or give another --output_dir")
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    for folder in ("images", "classes", *voc.FOLDERS):
        (aside / folder).mkdir(parents=True)
    entries, emoji = scenes.load_classes()
    dictionary.write(aside / DICTIONARY, entries)
    validation = int(num_images * VALIDATION_SHARE)
    with ProcessPoolExecutor(
        workers or len(os.sched_getaffinity(0)), multiprocessing.get_context("forkserver")
    ) as pool:
        for split, part, count in (("train", TRAIN, num_images - validation), ("val", VAL, validation)):
            make = functools.partial(_make_scene, aside, split, part, image_size, seed)
            things = list(_progress(pool.map(make, range(count), chunksize=16), count, f"{split} scenes"))
            rows = [_row(f"images/{split}_{k + 1:06d}.jpg", one, entries) for k, one in enumerate(things)]
            image_list.write(aside / f"{split}.txt", [row for row in rows if row.labels])
            voc.write_image_sets(aside, split, things[:MOST_VOC_SCENES])
        each = max(2, num_images // SCENES_PER_CLASS_PICTURE)
        make = functools.partial(_make_class, aside, each, image_size, seed)
        list(_progress(pool.map(make, range(len(emoji))), len(emoji), "class folders"))
    _contact_sheet(aside, entries).save(aside / "contact_sheet.png")
    aside.replace(output)
    print(
        f"{output}: {num_images - validation:,} training and {validation:,} validation scenes; {len(entries)} classes, "
        f"of which {len(emoji)} are drawn and the others their ancestors; {each} pictures in each class folder"
    )


def _progress(results, count, what):
    return tqdm(results, what, count, unit=" pictures")


def _make_scene(folder, split, part, image_size, seed, k):
    """Draws scene k of a split, writes its files, and returns its things."""
    rng = np.random.default_rng([seed, part, k])
    scene = scenes.draw_scene(rng, image_size, grounds.TRAINING if part == TRAIN else grounds.VALIDATION)
    jpeg = _jpeg(scene.image, rng)
    (folder / f"images/{split}_{k + 1:06d}.jpg").write_bytes(jpeg)
    if k < MOST_VOC_SCENES:
        voc.write_scene(folder, f"{split}_{k + 1:06d}", jpeg, scene)
    return scene.things


def _make_class(folder, count, image_size, seed, k):
    """Draws the pictures of the folder of class k."""
    _, emoji = scenes.load_classes()
    name = f"{k + 1:03d}.{emoji[k].name.replace(' ', '-')}"
    (folder / "classes" / name).mkdir()
    for number in range(count):
        rng = np.random.default_rng([seed, CLASSES, k, number])
        scene = scenes.draw_scene(rng, image_size, grounds.TRAINING + grounds.VALIDATION, emoji[k])
        (folder / f"classes/{name}/{k + 1:03d}_{number + 1:04d}.jpg").write_bytes(_jpeg(scene.image, rng))


def _jpeg(image, rng):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(80, 96)))
    return buffer.getvalue()


def _row(path, things, entries):
    labels = scenes.labels_of(things, entries)
    return image_list.Row(path, tuple(labels), tuple(labels.values()))


def _contact_sheet(folder, entries, cell=170):
    """Training scenes and, in the last row, validation scenes, each with the names of its objects."""
    columns, rows = SHEET
    drawn = {one.index for one in scenes.load_classes()[1]}
    sheet = Image.new("RGB", (columns * cell, rows * (cell + 24)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    train, val = (list(image_list.read(folder / f"{split}.txt")) for split in ("train", "val"))
    shown = train[: columns * (rows - 1)]
    for k, row in enumerate(shown + val[:columns]):
        left, top = k % columns * cell, k // columns * (cell + 24)
        image = Image.open(folder / row.path)
        scale = (cell - 6) / max(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        sheet.paste(image, (left + 3, top + 3))
        names = ", ".join(entries[label].names.split(",")[0] for label in row.labels if label in drawn)
        draw.text((left + 3, top + cell), names if len(names) < 31 else names[:29] + "…", "black", font)
    return sheet


if __name__ == "__main__":
    flags.mark_flags_as_required(["output_dir"])
    app.run(checked(main))
