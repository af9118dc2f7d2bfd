"""The images of a demo world: which there are, and how they are made on all cores."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
import multiprocessing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from demo import grounds, scenes, voc, world
from utils.processes import exit_with_parent


class Settings(NamedTuple):
    """What the bytes follow from, besides the program: numbers of images, their size in pixels, and the seed."""

    num_images: int
    image_size: int
    class_images: int
    voc_images: int
    seed: int


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

    Returns {kind: [(job, objects of the scene, {VOC class: all difficult}), …]}, in the order of the numbers.
    """
    jobs = list_jobs(settings)
    for folder in sorted({str(Path(job.path).parent) for job in jobs}):
        (output / folder).mkdir(parents=True)
    if settings.voc_images:
        for folder in ("Annotations", "SegmentationClass"):
            (output / "voc" / folder).mkdir()
    made = {kind: [] for kind in GROUNDS}
    # "spawn" behaves alike on all systems, and does not copy the parent's threads in the middle of what they do.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, exit_with_parent) as pool:
        results = pool.map(partial(make_image, output, settings), jobs, chunksize=16)
        for job, shown in zip(jobs, tqdm(results, total=len(jobs), unit=" images", mininterval=1), strict=True):
            made[job.kind].append((job, *shown))
    return made


def list_jobs(settings) -> list[Job]:
    """Returns all images of a world."""
    val = settings.num_images // 5
    jobs = []
    for kind, count in (("train", settings.num_images - val), ("val", val)):
        jobs += [Job(kind, k, f"images/{kind}_{k:06d}.jpg") for k in range(1, count + 1)]
    things = world.read().things
    by_name = sorted(range(len(things)), key=lambda thing: things[thing].name.lower())
    for number, thing in enumerate(by_name, start=1):
        folder = f"classes/{number:03d}.{things[thing].name.replace(' ', '-')}"
        for k in range(1, settings.class_images + 1):
            job_number = (number - 1) * settings.class_images + k
            jobs.append(Job("class", job_number, f"{folder}/{number:03d}_{k:04d}.jpg", thing))
    for k in range(1, settings.voc_images + 1):
        split = "train" if k % 2 else "val"
        jobs.append(Job(f"voc_{split}", k, f"voc/JPEGImages/{k:06d}.jpg"))
    return jobs


def make_image(output, settings, job):
    """Makes one image, and for VOC its boxes and mask. Returns (objects of the scene, {VOC class: all difficult})."""
    rng = np.random.default_rng([settings.seed, 1 + list(GROUNDS).index(job.kind), job.number])
    scene = scenes.compose(rng, _choose(rng, settings.seed, job), settings.image_size, GROUNDS[job.kind])
    path = output / job.path
    Image.fromarray(scene.image).save(path, quality=int(rng.integers(75, 96)))
    if job.kind.startswith("voc"):
        (output / "voc" / "Annotations" / f"{path.stem}.xml").write_bytes(voc.annotation(path.stem, scene))
        voc.mask(scene).save(output / "voc" / "SegmentationClass" / f"{path.stem}.png")
        return scene.objects, voc.classes_shown(scene)
    return scene.objects, {}


def _choose(rng, seed, job):
    """Returns the things to show."""
    things = world.read().things
    if job.thing is not None:
        return [job.thing]
    if job.kind.startswith("voc"):
        in_voc = np.array([thing.voc != "" for thing in things], np.float64)
        return scenes.choose_things(rng, in_voc / in_voc.sum())
    return scenes.choose_things(rng, scenes.frequencies(seed, len(things)))
