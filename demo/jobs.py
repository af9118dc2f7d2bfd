"""The images of a demo world: which there are, and how they are made on all cores."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
import multiprocessing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from demo import frequencies, grounds, scenes, voc, world
from utils.processes import exit_with_parent


class Settings(NamedTuple):
    """What the bytes follow from, besides the program: numbers of images, their size in pixels, seed and world."""

    num_images: int
    image_size: int
    class_images: int
    voc_images: int
    seed: int
    world: str = "small"


class Job(NamedTuple):
    """One image to make.

    Attributes:
      kind: "train", "val", "class", "voc_train" or "voc_val"; with `number` it picks the random numbers.
      number: of the image among its kind, from 1.
      path: of the JPEG, relative to the output folder.
      thing: index of the one thing to show, for kind "class"; else None.
    """

    kind: str
    number: int
    path: str
    thing: int | None = None


class Made(NamedTuple):
    """What an image shows: the `scenes.Object`s, the ground, and {VOC class: whether all are difficult}."""

    job: Job
    objects: tuple[scenes.Object, ...]
    ground: str
    voc_classes: dict[str, bool]


# The grounds of each kind. Validation shows textures that training never did; classes are split by whoever uses them.
GROUNDS = {
    "train": grounds.TRAIN,
    "val": grounds.VAL,
    "class": grounds.TRAIN + grounds.VAL,
    "voc_train": grounds.TRAIN,
    "voc_val": grounds.VAL,
}


def make_images(output, settings, processes) -> dict[str, list]:
    """Makes all images in the new folder `output`, on `processes` processes; the bytes do not depend on how many.

    Returns {kind: [Made, …]}, in the order of the numbers.
    """
    if settings.voc_images:
        for folder in ("Annotations", "SegmentationClass"):
            (output / "voc" / folder).mkdir(parents=True)
    made = {kind: [] for kind in GROUNDS}
    # "spawn" behaves alike on all systems, and does not copy the parent's threads in the middle of what they do.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, exit_with_parent) as pool:
        _make_all(pool, output, settings, list_scenes(settings), made)
        # Which things are shown alone may depend on what the scenes show.
        _make_all(pool, output, settings, list_single(settings, made["train"]), made)
    return made


def _make_all(pool, output, settings, jobs, made):
    """Makes images, and adds what they show to the lists of their kinds in `made`."""
    for folder in sorted({str(Path(job.path).parent) for job in jobs}):
        (output / folder).mkdir(parents=True)
    results = pool.map(partial(make_image, output, settings), jobs, chunksize=16)
    for one in tqdm(results, total=len(jobs), unit=" images", mininterval=1):
        made[one.job.kind].append(one)


def list_scenes(settings) -> list[Job]:
    """Returns all images of a world but those of single things."""
    val = settings.num_images // 5
    jobs = []
    for kind, count in (("train", settings.num_images - val), ("val", val)):
        jobs += [Job(kind, k, f"images/{kind}_{k:06d}.jpg") for k in range(1, count + 1)]
    for k in range(1, settings.voc_images + 1):
        split = "train" if k % 2 else "val"
        jobs.append(Job(f"voc_{split}", k, f"voc/JPEGImages/{k:06d}.jpg"))
    return jobs


def list_single(settings, train) -> list[Job]:
    """Returns the images of single things; of the large world those that the scenes `train` show apart from novel ones.

    Args:
      settings: `Settings`.
      train: list of `Made`.
    """
    things = world.read(settings.world).things
    folders = {"classes": range(len(things))}
    if settings.world == "large":
        novel = [k for k, thing in enumerate(things) if thing.label is None]
        folders = {"classes/seen": frequencies.spread(train), "classes/novel": novel}
    jobs = []
    for parent, shown in folders.items():
        by_name = sorted(shown, key=lambda thing: things[thing].name.lower())
        for number, thing in enumerate(by_name, start=1):
            folder = f"{parent}/{number:03d}.{things[thing].name.replace(' ', '-')}"
            for k in range(1, settings.class_images + 1):
                path = f"{folder}/{number:03d}_{k:04d}.jpg"
                jobs.append(Job("class", len(jobs) + 1, path, thing))
    return jobs


def make_image(output, settings, job) -> Made:
    """Makes one image, and for VOC its boxes and mask."""
    rng = np.random.default_rng([settings.seed, 1 + list(GROUNDS).index(job.kind), job.number])
    textures = GROUNDS[job.kind] + (grounds.LABELLED if settings.world == "large" else ())
    shown = _choose(rng, settings, job)
    scene = scenes.compose(rng, shown, settings.image_size, textures, settings.world)
    # Where there was no room for a second thing, another try: scenes of the large world show at least two.
    while settings.world == "large" and len(scene.objects) < min(2, len(shown)):
        scene = scenes.compose(rng, shown, settings.image_size, textures, settings.world)
    path = output / job.path
    Image.fromarray(scene.image).save(path, quality=int(rng.integers(75, 96)))
    if job.kind.startswith("voc"):
        (output / "voc" / "Annotations" / f"{path.stem}.xml").write_bytes(voc.annotation(path.stem, scene))
        voc.mask(scene).save(output / "voc" / "SegmentationClass" / f"{path.stem}.png")
        return Made(job, scene.objects, scene.ground, voc.classes_shown(scene))
    return Made(job, scene.objects, scene.ground, {})


def _choose(rng, settings, job):
    """Returns the things to show."""
    things = world.read(settings.world).things
    if job.thing is not None:
        return [job.thing]
    if job.kind.startswith("voc"):
        in_voc = np.array([thing.voc != "" for thing in things], np.float64)
        return scenes.choose_things(rng, in_voc / in_voc.sum())
    return scenes.choose_things(rng, scenes.frequencies(settings.seed, settings.world), settings.world)
