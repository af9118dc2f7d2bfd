"""Writes shards of records from a list: in many processes, each shard whole or not at all, always the same.

A shard is complete when the .json of its counts stands beside it; that is written last. Both get their names when their
content is on the disk.
"""

from collections import Counter, deque
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
import hashlib
import multiprocessing
import os
from pathlib import Path
import re
import threading
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_processing.images import image_files, mask_files
from data_processing.lists import box_list, image_list, list_check, mask_list
from data_processing.records import image_record, label_counts, manifest, offset_file, schema, tfrecord
from utils.files import sha256, sync, temporary_name, write_json, write_text
from utils.processes import exit_with_parent

# Enough to share among the processes of a large run.
SHARDS = 64
# Images after which a worker reports its progress.
REPORT_EVERY = 16
# What takes seconds to import. (Modules of ours the fork server finds only where it runs in their folder.)
PRELOADED = ["tensorflow", "numpy", "PIL.Image", "google_crc32c", "tqdm", "absl.flags"]

# Part of file names.
SPLIT = re.compile(r"\w[\w.+-]*")


def shard_path(folder, split, number, count):
    """The path of a shard: <split>-00000-of-00064.tfrecords."""
    return Path(folder) / f"{split}-{number:05d}-of-{count:05d}.tfrecords"


class ShardConfig(NamedTuple):
    """What shards are made.

    Attributes:
      split: what their names begin with.
      label_format: one of `schema.KINDS`.
      class_num: number of classes.
      num_shards: number of shards; None: SHARDS, or one for each of fewer images.
      random_seed: of the order in which images are mixed over the shards.
      max_rejected: share of the images that may be left out before it is an error; one of 20 may, unless it is 0.
      max_pixels: of the largest image.
      keep_unlabeled: whether images without labels become records, of no class, or are left out.
      class_num_given: whether a user said how many classes there are; else it is a default, and a manifest with it
        says nothing.
      void_index: of masks, the index in their files of pixels that have no class.
      resize_short: pixels that a longer short side of an image is reduced to, with its boxes or mask; 0: no image is.
      jpeg_quality: of the JPEGs that are encoded anew, 1 to 100.
    """

    split: str
    label_format: str
    class_num: int
    num_shards: int | None
    random_seed: int
    max_rejected: float
    max_pixels: int = image_files.MAX_PIXELS
    keep_unlabeled: bool = False
    class_num_given: bool = True
    void_index: int = mask_files.VOID
    resize_short: int = 0
    jpeg_quality: int = image_files.JPEG_QUALITY


def build(list_path, images, output, config, rank=0, size=1):
    """Makes the shards of a list that are not there yet; of several processes each makes its share.

    When all are there, writes a manifest (settings, counts per shard and per class, SHA-256), a list of the images
    that were left out, each with the reason, and the label counts, beside them; see `manifest` for their names.

    Args:
      list_path: the image list or, where `config.label_format` is "boxes" or "masks", the box or mask list.
      images: folder that its paths are relative to.
      output: folder of the shards, which is made.
      config: `ShardConfig`.
      rank, size: which process this is.

    Raises ValueError if the folder holds shards of the split with other settings, if there are fewer images than
    shards, if too many were rejected, or lines of the list are wrong.
    """
    if not SPLIT.fullmatch(config.split):
        raise ValueError(f"--split={config.split!r} is no name of a split; write letters and digits, as in train")
    offsets, unlabeled, num_shards = _lines(list_path, config)
    config = config._replace(num_shards=num_shards)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    settings = {"image_list_sha256": sha256(list_path), **config._asdict()}
    # How many may be left out changes no shard.
    del settings["max_rejected"]
    if config.label_format != "masks":
        del settings["void_index"]
    if (places := manifest.begun(output, settings)) is None:
        _check_list(list_path, config)
        places = manifest.claim(output, settings)
    order = np.random.default_rng(config.random_seed).permutation(offsets)
    parts = np.array_split(order, config.num_shards)
    shards = [shard_path(output, config.split, k, config.num_shards) for k in range(config.num_shards)]
    own = range(rank, config.num_shards, size)
    missing = [(shards[k], parts[k]) for k in own if not is_complete(shards[k])]
    process = f"process {rank} of {size}: " if size > 1 else ""
    print(f"{process}{len(offsets):,} images; of {len(own)} shards {len(own) - len(missing)} are there already")
    build_shards(missing, list_path, images, config)
    if all(is_complete(shard) for shard in shards):
        _finish(places, shards, settings, unlabeled, config.max_rejected)
    else:
        print(f"{process}done; the last process to end writes {places.manifest}")


def _lines(list_path, config):
    """Returns where the lines begin that become records, int64 [images], and how many images have no labels.

    The third is the number of shards that they are for.
    """
    offsets, labeled = image_list.line_offsets(list_path)
    unlabeled = len(offsets) - int(labeled.sum())
    # With --label_format=single they are wrong lines, which the check of the list tells.
    if not config.keep_unlabeled and config.label_format != "single":
        offsets = offsets[labeled]
    num_shards = config.num_shards or max(1, min(SHARDS, len(offsets)))
    if len(offsets) < num_shards:
        left_out = f" (without the {unlabeled:,} that have no labels)" if len(offsets) < len(labeled) else ""
        raise ValueError(f"{list_path} has {len(offsets):,} images{left_out}, fewer than --num_shards={num_shards}")
    return offsets, unlabeled, num_shards


def build_shards(shards, list_path, images, config, workers=None):
    """Makes shards, one in each process at a time, and shows the progress.

    Args:
      shards: pairs of a shard's path and the byte offsets of its lines in the list, int64 [images].
      list_path: the list.
      images: folder that the paths in the list are relative to; see `archives.read_file` for tar archives in it.
      config: `ShardConfig`; of it, what `image_record.make` says counts.
      workers: number of cores to use, by default all.

    Raises ImageListError if a line is wrong, OSError if the machine fails, not an image.
    """
    if not shards:
        return
    # The fork server imports TensorFlow once, for all; and unlike this process it has no threads when it forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    progress = context.Queue()
    workers = workers or len(os.sched_getaffinity(0))
    processes = min(workers, len(shards))
    threads = -(-workers // processes)
    with (
        tqdm(total=sum(len(offsets) for _, offsets in shards), unit=" images", smoothing=0.1) as bar,
        ProcessPoolExecutor(processes, context, _start_worker, (progress,)) as pool,
    ):
        counter = threading.Thread(target=lambda: [bar.update(count) for count in iter(progress.get, None)])
        counter.start()
        try:
            jobs = [
                pool.submit(_build_shard, path, offsets, list_path, images, config, threads) for path, offsets in shards
            ]
            for job in as_completed(jobs):
                job.result()
        except BrokenExecutor as error:
            raise OSError(
                "a worker was killed, for lack of memory perhaps; the same command resumes from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
            progress.put(None)
            counter.join()


def _start_worker(progress):
    global _progress
    _progress = progress
    # It would finish its shard beside the next run.
    exit_with_parent()


def _build_shard(path, offsets, list_path, images, config, threads):
    """Writes a shard, its offsets and, last, its .json, which makes it complete; all under temporary names first."""
    digest, classes, rejected, portrait, lengths = hashlib.sha256(), Counter(), [], [], []
    tally = label_counts.Tally()
    for abandoned in path.parent.glob(f".{path.stem}.*.part"):
        abandoned.unlink(missing_ok=True)
    temp_path = temporary_name(path)
    rows = _rows(list_path, offsets, config)
    with open(temp_path, "wb") as file:
        for count, made in enumerate(_records(rows, images, config, threads), start=1):
            row = made.row  # of a mask with the classes that were found in it
            if made.record is None:
                rejected.append([row.path, made.reason])
            else:
                framed = tfrecord.frame(made.record)
                file.write(framed)
                digest.update(framed)
                labels = list(zip(row.labels, row.confidences, strict=True))
                classes.update(k for k, value in labels if value > 0)
                tally.add(labels)
                portrait += [len(lengths)] if made.is_portrait else []
                lengths.append(len(framed))
            if count % REPORT_EVERY == 0 or count == len(offsets):
                _progress.put((count - 1) % REPORT_EVERY + 1)
        sync(file)
    os.replace(temp_path, path)
    offset_file.write(path, lengths)
    summary = {"records": len(lengths), "sha256": digest.hexdigest(), "rejected": rejected}
    summary |= {"portrait": portrait} if config.label_format == "boxes" else {}
    summary |= {"labels": tally.as_json()} if config.label_format in schema.LABEL_KINDS else {}
    write_json(path.with_suffix(".json"), summary | {"classes": {str(k): classes[k] for k in sorted(classes)}})


def _rows(list_path, offsets, config):
    """Yields the rows of a list that begin at `offsets`, in bytes."""
    of_lines = {"boxes": box_list, "masks": mask_list}.get(config.label_format, image_list)
    with open(list_path, "rb") as lines:
        for offset in offsets:
            lines.seek(offset)
            where = f"{list_path}, byte {offset}"
            line = image_list.decode_line(lines.readline(), where)
            yield of_lines.parse_line(line, config.class_num, where, require_labels=False)


def _records(rows, images, config, threads):
    """Yields in order, for each row, its `image_record.Made`.

    Pillow lets go of Python's lock while it decodes, so threads keep the cores busy that have no shard of their own.
    """
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque()
        for row in rows:
            ahead.append(pool.submit(image_record.make, row, images, config))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def is_complete(shard):
    """Whether a shard, by its path, was written to its end."""
    return shard.exists() and shard.with_suffix(".json").exists()


def _check_list(path, config):
    """Says what is odd in a list; ImageListError with all that is wrong in it, before hours of work."""
    if config.label_format == "boxes":
        list_check.check_boxes(path, config.class_num)
        return
    if config.label_format == "masks":
        list_check.check_masks(path)
        return
    found = list_check.check(path, config.class_num, config.label_format == "single")
    if found.unlabeled.count:
        kept = "kept, as images of no class" if config.keep_unlabeled else "left out; --keep_unlabeled keeps them"
        print(f"{found.unlabeled.count:,} images without labels, {kept}: {found.unlabeled}")
    if found.repeated.count:
        print(f"{found.repeated.count:,} lines with a class twice, the higher confidence holds: {found.repeated}")


def _finish(places, shards, settings, unlabeled, max_rejected):
    """Writes manifest and rejected images. If several processes come here, they write the same bytes."""
    parts = {shard.name: manifest.read(shard.with_suffix(".json")) for shard in shards}
    rejected = sorted(row for part in parts.values() for row in part.pop("rejected"))
    classes, tally, noted = Counter(), label_counts.Tally(), 0
    for part in parts.values():
        part.pop("portrait", None)
        classes.update({int(label): count for label, count in part.pop("classes").items()})
        if labels := part.pop("labels", None):  # in shards of earlier versions there are none
            tally.merge(label_counts.Tally.from_json(part["records"], labels))
            noted += 1
    if noted == len(parts):
        label_counts.note(shards, settings["split"], settings["class_num"], tally)
    records = sum(part["records"] for part in parts.values())
    write_text(places.rejected, "".join(f"{name}\t{reason}\n" for name, reason in rejected))
    content = {"settings": settings, "records": records, "rejected": len(rejected), "unlabeled": unlabeled}
    content |= {"shards": parts, "classes": {str(k): classes[k] for k in sorted(classes)}}
    write_json(places.manifest, content)
    kept = "kept" if settings["keep_unlabeled"] else "left out"
    print(
        f"{records:,} records in {len(shards)} shards; {len(classes):,} of {settings['class_num']:,} classes have "
        f"images; {len(rejected):,} images rejected{f', {unlabeled:,} without labels {kept}' if unlabeled else ''}"
    )
    images = records + len(rejected)
    if len(rejected) > image_files.most_rejected(images, max_rejected):
        reasons = Counter(reason for _, reason in rejected).most_common(3)
        raise ValueError(
            f"{len(rejected):,} of {records + len(rejected):,} images were rejected, more than --max_rejected="
            f"{max_rejected:g} ({'; '.join(f'{count:,} x {reason}' for reason, count in reasons)}): see "
            f"{places.rejected}. Mend the images and delete {shards[0].parent / settings['split']}-*, or allow more."
        )
