"""Makes small sources of a database in the real formats: ImageNet's archives, and Open Images' tables and images.

    python demo/make_sources.py --output_dir=out/database --url=http://127.0.0.1:8000

Writes into --output_dir, with --class_images of each class of ImageNet:
    sources/imagenet/n02084071.tar …, sources/imagenet_ids.txt       images of one class each
    sources/open_images/images.csv, annotations-human.csv, annotations-machine.csv, class-descriptions.csv
    sources/chosen.tsv                                               senses of Open Images' words, chosen by hand
    server/                                                          the images that the URLs in images.csv name
Every image of the archive of PLANTED[0] shows a PLANTED[1], too, with no label for it, as ImageNet's sea snakes
show the sea; no other class has such company. `example/build_database.sh` makes a database of this.
"""

import csv
from pathlib import Path
import sys
import tarfile

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_string("url", "http://127.0.0.1:8000", "Where server/ is served.")
flags.DEFINE_integer("open_images_count", 1500, "Images of Open Images.", lower_bound=10)
script(
    __name__,
    __doc__,
    first="output_dir url class_images open_images_count seed",
    defaults={"output_dir": "out/database", "class_images": 60, "seed": 1},
)

import numpy as np
from PIL import Image
from tqdm import tqdm

from demo import grounds, scenes, world

# About the short side, in pixels.
IMAGE_SIZE = 60
NAMES = ("dog", "pizza", "bicycle", "sunflower", "whale", "rocket")
PLANTED = ("sunflower", "dog")
# Ancestors that are classes, too, with an abstract one that will be dropped.
ABOVE = {"n00015388": "animal", "n00021939": "artifact", "n00029378": "event"}


def main(argv):
    del argv
    things = {thing.name: k for k, thing in enumerate(world.read().things)}
    wnids = {name: world.read().classes[world.read().things[things[name]].label].wnid for name in NAMES}
    output = Path(FLAGS.output_dir)
    for folder in ("sources/imagenet", "sources/open_images", "server"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(FLAGS.seed)
    for name in tqdm(NAMES, "imagenet", unit=" archives"):
        shown = [things[name], *([things[PLANTED[1]]] if name == PLANTED[0] else [])]
        with tarfile.open(output / f"sources/imagenet/{wnids[name]}.tar", "w") as archive:
            for k in range(FLAGS.class_images):
                path = output / "image.jpg"
                draw(rng, shown, path)
                archive.add(path, f"{wnids[name]}_{k}.JPEG")
                path.unlink()
    (output / "sources/imagenet_ids.txt").write_text("".join(f"{one}\n" for one in (*wnids.values(), *ABOVE)))
    write_open_images(rng, output, things, wnids)
    print(f"written into {output}")


def draw(rng, shown, path):
    """Draws a scene with all of the things `shown`, and no other."""
    while len((scene := scenes.compose(rng, shown, IMAGE_SIZE, grounds.TRAIN)).objects) < len(shown):
        pass
    Image.fromarray(scene.image).save(path, quality=90)


def write_open_images(rng, output, things, wnids):
    """Writes tables and images: one to three things an image, labelled by people or a machine."""
    mids = {name: f"/m/0{name}" for name in NAMES}
    folder = output / "sources/open_images"
    tables = {
        name: open(folder / f"{name}.csv", "w", newline="")
        for name in ("images", "annotations-human", "annotations-machine")
    }
    writers = {name: csv.writer(file) for name, file in tables.items()}
    writers["images"].writerow(["ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License"])
    for name in ("annotations-human", "annotations-machine"):
        writers[name].writerow(["ImageID", "Source", "LabelName", "Confidence"])
    for k in tqdm(range(FLAGS.open_images_count), "open images", unit=" images"):
        shown = rng.choice(NAMES, int(rng.integers(1, 4)), replace=False).tolist()
        draw(rng, [things[name] for name in shown], output / f"server/{k}.jpg")
        image_id = f"{k:016x}"
        writers["images"].writerow([image_id, "train", f"{FLAGS.url}/{k}.jpg", "", "CC BY-SA 4.0"])
        for name in shown:
            if rng.random() < 0.5:
                writers["annotations-human"].writerow([image_id, "verification", mids[name], 1])
            else:
                writers["annotations-machine"].writerow([image_id, "machine", mids[name], rng.integers(8, 11) / 10])
        absent = next(name for name in NAMES if name not in shown)
        # What a machine claims and people deny.
        writers["annotations-machine"].writerow([image_id, "machine", mids[absent], 0.6])
        writers["annotations-human"].writerow([image_id, "verification", mids[absent], 0])
    for file in tables.values():
        file.close()
    descriptions = "".join(f"{mids[name]},{name.capitalize()}\n" for name in NAMES)
    (folder / "class-descriptions.csv").write_text(descriptions + "/m/0party,Birthday party\n")
    chosen = "".join(f"{mids[name]}\t{wnids[name]}\n" for name in NAMES)
    (output / "sources/chosen.tsv").write_text(chosen)


if __name__ == "__main__":
    run(main)
