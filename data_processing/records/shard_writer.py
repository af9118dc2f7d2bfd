"""Writes shards of records from an image list: in many processes, each shard whole or not at all, always the same.

A shard is complete when the .json of its counts stands beside it; that is written last. Both get their names when their
content is on the disk.
"""

from collections import Counter, deque
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
import errno
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
import threading
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_processing.images import archives, image_files
from data_processing.lists import image_list
from data_processing.records import schema, tfrecord
from utils.files import sha256, sync, temporary_name, write_json, write_text
from utils.processes import exit_with_parent

# Images after which a worker reports its progress.
REPORT_EVERY = 16
# What the operating system says of one image alone. Any other error, of a full disk or a lost file server say, ends the
# run: images that are there must not be left out of a shard that then counts as complete.
UNUSABLE = ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "EINVAL", "EILSEQ")


def shard_path(folder, split, number, count):
    """The path of a shard: <split>-00000-of-00064.tfrecords."""
    return Path(folder) / f"{split}-{number:05d}-of-{count:05d}.tfrecords"


class ShardConfig(NamedTuple):
    """What shards are made.

    Attributes:
      split: what their names begin with.
      label_format: one of `schema.KINDS`.
      class_num: number of classes.
      num_shards: number of shards.
      random_seed: of the order in which images are mixed over the shards.
      max_rejected: share of the images that may be left out before it is an error.
      max_pixels: of the largest image.
    """

    split: str
    label_format: str
    class_num: int
    num_shards: int
    random_seed: int
    max_rejected: float
    max_pixels: int = image_files.MAX_PIXELS


def build(list_path, images, output, config, rank=0, size=1):
    """Makes the shards of an image list that are not there yet; of several processes each makes its share.

    When all are there, writes manifest.json (settings, counts per shard and per class, SHA-256) and rejected.tsv (the
    images that were left out, each with the reason) beside them.

    Args:
      list_path: the image list.
      images: folder that its paths are relative to.
      output: folder of the shards, which is made.
      config: `ShardConfig`.
      rank, size: which process this is.

    Raises ValueError if the folder holds shards of other settings, if there are fewer images than shards, if too many
    were rejected, or a line of the list is wrong.
    """
    offsets = image_list.line_offsets(list_path)
    if len(offsets) < config.num_shards:
        raise ValueError(f"{list_path} has {len(offsets):,} images, fewer than --num_shards={config.num_shards}")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    settings = {"image_list_sha256": sha256(list_path), **config._asdict()}
    # How many may be left out changes no shard.
    del settings["max_rejected"]
    if not _settings_are_there(output, settings):
        _check_list(list_path, config)
        write_json(output / "settings.json", settings)
    order = np.random.default_rng(config.random_seed).permutation(offsets)
    parts = np.array_split(order, config.num_shards)
    shards = [shard_path(output, config.split, k, config.num_shards) for k in range(config.num_shards)]
    own = range(rank, config.num_shards, size)
    missing = [(shards[k], parts[k]) for k in own if not is_complete(shards[k])]
    process = f"process {rank} of {size}: " if size > 1 else ""
    print(f"{process}{len(offsets):,} images; of {len(own)} shards {len(own) - len(missing)} are there already")
    build_shards(missing, list_path, images, config)
    if all(is_complete(shard) for shard in shards):
        _finish(output, shards, settings, config.max_rejected)
    else:
        print(f"{process}done; the last process to end writes {output / 'manifest.json'}")


def build_shards(shards, list_path, images, config, workers=None):
    """Makes shards, one in each process at a time, and shows the progress.

    Args:
      shards: pairs of a shard's path and the byte offsets of its lines in the list, int64 [images].
      list_path: the image list.
      images: folder that the paths in the list are relative to; see `archives.read_file` for tar archives in it.
      config: `ShardConfig`; of it, `label_format`, `class_num` and `max_pixels` count.
      workers: number of cores to use, by default all.

    Raises ImageListError if a line is wrong, OSError if the machine fails, not an image.
    """
    if not shards:
        return
    # The fork server imports TensorFlow once, for all; and unlike this process it has no threads when it forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_processing.records.schema", "data_processing.images.image_files"])
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
    """Writes a shard and, last, its .json, which makes it complete; both under temporary names first."""
    digest, classes, rejected, written = hashlib.sha256(), Counter(), [], 0
    for abandoned in path.parent.glob(f".{path.stem}.*.part"):
        abandoned.unlink(missing_ok=True)
    temp_path = temporary_name(path)
    rows = _rows(list_path, offsets, config.class_num)
    with open(temp_path, "wb") as file:
        for count, (row, record, reason) in enumerate(_records(rows, images, config, threads), start=1):
            if record is None:
                rejected.append([row.path, reason])
            else:
                file.write(record)
                digest.update(record)
                classes.update(row.labels)
                written += 1
            if count % REPORT_EVERY == 0 or count == len(offsets):
                _progress.put((count - 1) % REPORT_EVERY + 1)
        sync(file)
    os.replace(temp_path, path)
    summary = {"records": written, "sha256": digest.hexdigest(), "rejected": rejected}
    write_json(path.with_suffix(".json"), summary | {"classes": {str(k): classes[k] for k in sorted(classes)}})


def _rows(list_path, offsets, class_num):
    """Yields the rows of an image list that begin at `offsets`, in bytes."""
    with open(list_path, "rb") as lines:
        for offset in offsets:
            lines.seek(offset)
            where = f"{list_path}, byte {offset}"
            yield image_list.parse_line(image_list.decode_line(lines.readline(), where), class_num, where)


def _records(rows, images, config, threads):
    """Yields in order, for each row: the row, its framed record or None, and why there is none or None.

    Pillow lets go of Python's lock while it decodes, so threads keep the cores busy that have no shard of their own.
    """
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque()
        for row in rows:
            ahead.append(pool.submit(_record, row, images, config))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _record(row, images, config):
    """Returns the row, its framed record or None, and the reason if the image cannot be used or None."""
    try:
        data = archives.read_file(images, row.path, config.max_pixels)
        encoded, width, height = image_files.as_jpeg(data, config.max_pixels)
    except OSError as error:
        if errno.errorcode.get(error.errno) not in UNUSABLE:
            raise
        return row, None, error.strerror
    except image_files.ImageError as error:
        return row, None, str(error)
    image = schema.Image(encoded, width, height, row.path)
    record = schema.encode(image, row.labels, row.confidences, config.label_format, config.class_num)
    return row, tfrecord.frame(record), None


def is_complete(shard):
    """Whether a shard, by its path, was written to its end."""
    return shard.exists() and shard.with_suffix(".json").exists()


def _settings_are_there(output, settings):
    """Whether an earlier run left shards, or began to, with these settings; ValueError if it left shards of others."""
    path = output / "settings.json"
    if not path.exists():
        return False
    has_records = any(output.glob("*.tfrecords"))
    return are_same_settings(output, json.loads(path.read_text()), settings, has_records)


def are_same_settings(folder, before, now, has_records) -> bool:
    """Whether the settings `before`, which a folder was begun with, are those of `now`, two dictionaries.

    Raises ValueError if they are not and the folder has records: these bind whoever writes into it.
    """
    other = [f"{name} {before.get(name)}, now {value}" for name, value in now.items() if before.get(name) != value]
    if other and has_records:
        raise ValueError(
            f"{folder} holds records made with other settings ({'; '.join(other)}); give another folder, or delete "
            "that one"
        )
    return not other


def _check_list(path, config):
    """Raises ImageListError at the first wrong line, before hours of work."""
    for row in tqdm(image_list.read(path, config.class_num), "checking the list", unit=" lines", unit_scale=True):
        if config.label_format == "single" and len(row.labels) != 1:
            raise image_list.ImageListError(
                f"{path}: '{row.path}' has {len(row.labels)} labels; --label_format=single needs one an image"
            )


def _finish(output, shards, settings, max_rejected):
    """Writes manifest.json and rejected.tsv. If several processes come here, they write the same bytes."""
    parts = {shard.name: json.loads(shard.with_suffix(".json").read_text()) for shard in shards}
    rejected = sorted(row for part in parts.values() for row in part.pop("rejected"))
    classes = Counter()
    for part in parts.values():
        classes.update({int(label): count for label, count in part.pop("classes").items()})
    records = sum(part["records"] for part in parts.values())
    write_text(output / "rejected.tsv", "".join(f"{name}\t{reason}\n" for name, reason in rejected))
    manifest = {"settings": settings, "records": records, "rejected": len(rejected), "shards": parts}
    write_json(output / "manifest.json", manifest | {"classes": {str(k): classes[k] for k in sorted(classes)}})
    print(f"{records:,} records of {len(classes):,} classes in {len(shards)} shards; {len(rejected):,} images rejected")
    if len(rejected) > max_rejected * (records + len(rejected)):
        reasons = Counter(reason for _, reason in rejected).most_common(3)
        raise ValueError(
            f"{len(rejected):,} of {records + len(rejected):,} images were rejected, more than --max_rejected="
            f"{max_rejected:g} ({'; '.join(f'{count:,} x {reason}' for reason, count in reasons)}): see "
            f"{output / 'rejected.tsv'}. Mend the images and delete {output}, or allow more."
        )
