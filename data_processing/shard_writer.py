"""Writes shards of records from an image list: in many processes, each shard whole or not at all, always the same.

A shard is complete when the .json of its counts stands beside it; that is written last. Both get their names when their
content is on the disk.
"""

from collections import Counter, deque
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
import errno
import hashlib
import multiprocessing
import os
from pathlib import Path
import threading

from tqdm import tqdm

from data_processing import archives, image_list, pictures, tfrecord
from data_processing.files import sync, temporary_name, write_json

# Images that a worker counts before it tells.
TELL = 16
# What the operating system says of one image alone. Any other error, of a full disk or a lost file server say, ends the
# run: images that are there must not be left out of a shard that then counts as complete.
UNUSABLE = ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "EINVAL", "EILSEQ")


def shard_path(folder, split, number, count):
    """The path of a shard: <split>-00000-of-00064.tfrecords."""
    return Path(folder) / f"{split}-{number:05d}-of-{count:05d}.tfrecords"


def build_shards(shards, settings, list_path, images, workers=None):
    """Makes shards, one in each process at a time, and shows the progress.

    Args:
      shards: pairs of a shard's path and the byte offsets of its lines in the list, int64 [images].
      settings: dictionary of at least `label_format`, `class_num` and `max_pixels`.
      list_path: the image list.
      images: folder that the paths in the list are relative to; see `archives.read_file` for tar archives in it.
      workers: number of cores to use, by default all.

    Raises ImageListError if a line is wrong, OSError if the machine fails, not an image.
    """
    if not shards:
        return
    # The fork server imports TensorFlow once, for all; and unlike this process it has no threads when it forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_processing.tfrecord", "data_processing.pictures"])
    told = context.Queue()
    workers = workers or len(os.sched_getaffinity(0))
    processes = min(workers, len(shards))
    threads = -(-workers // processes)
    with (
        tqdm(total=sum(len(offsets) for _, offsets in shards), unit=" images", smoothing=0.1) as bar,
        ProcessPoolExecutor(processes, context, _start_worker, (told,)) as pool,
    ):
        counter = threading.Thread(target=lambda: [bar.update(count) for count in iter(told.get, None)])
        counter.start()
        try:
            jobs = [
                pool.submit(_build_shard, path, offsets, settings, list_path, images, threads)
                for path, offsets in shards
            ]
            for job in as_completed(jobs):
                job.result()
        except BrokenExecutor as error:
            raise OSError(
                "a worker was killed, for lack of memory perhaps; the same command goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
            told.put(None)
            counter.join()


def _start_worker(told):
    global _told
    _told = told
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process():
    # A worker whose main process was killed would finish its shard beside the next run, then wait for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _build_shard(path, offsets, settings, list_path, images, threads):
    """Writes a shard and, last, its .json, which makes it complete; both under temporary names first."""
    digest, classes, rejected, written = hashlib.sha256(), Counter(), [], 0
    for left in path.parent.glob(f".{path.stem}.*.part"):
        left.unlink(missing_ok=True)
    aside = temporary_name(path)
    rows = _rows(list_path, offsets, settings["class_num"])
    with open(aside, "wb") as file:
        for count, (row, record, reason) in enumerate(_records(rows, images, settings, threads), start=1):
            if record is None:
                rejected.append([row.path, reason])
            else:
                file.write(record)
                digest.update(record)
                classes.update(row.labels)
                written += 1
            if count % TELL == 0 or count == len(offsets):
                _told.put((count - 1) % TELL + 1)
        sync(file)
    os.replace(aside, path)
    summary = {"records": written, "sha256": digest.hexdigest(), "rejected": rejected}
    write_json(path.with_suffix(".json"), summary | {"classes": {str(k): classes[k] for k in sorted(classes)}})


def _rows(list_path, offsets, class_num):
    """Yields the rows of an image list that begin at `offsets`, in bytes."""
    with open(list_path, "rb") as lines:
        for offset in offsets:
            lines.seek(offset)
            where = f"{list_path}, byte {offset}"
            yield image_list.parse_line(image_list.decode_line(lines.readline(), where), class_num, where)


def _records(rows, images, settings, threads):
    """Yields in order, for each row: the row, its framed record or None, and why there is none or None.

    Pillow lets go of Python's lock while it decodes, so threads keep the cores busy that have no shard of their own.
    """
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque()
        for row in rows:
            ahead.append(pool.submit(_record, row, images, settings))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _record(row, images, settings):
    """Returns the row, its framed record or None, and the reason if the image cannot be used or None."""
    try:
        data = archives.read_file(images, row.path, settings["max_pixels"])
        image, width, height = pictures.as_jpeg(data, settings["max_pixels"])
    except OSError as error:
        if errno.errorcode.get(error.errno) not in UNUSABLE:
            raise
        return row, None, error.strerror
    except pictures.PictureError as error:
        return row, None, str(error)
    record = tfrecord.encode(
        image, width, height, row.path, row.labels, row.confidences, settings["label_format"], settings["class_num"]
    )
    return row, tfrecord.frame(record), None


def is_complete(shard):
    """Whether a shard, by its path, was written to its end."""
    return shard.exists() and shard.with_suffix(".json").exists()
