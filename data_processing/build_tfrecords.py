"""Builds TFRecord shards from an image list and a folder of images.

    python data_processing/build_tfrecords.py --image_list=train.txt --images=images --output_dir=records/train \\
        --split=train --num_shards=64 --class_num=11166

Writes train-00000-of-00064.tfrecords … into --output_dir, each when it is complete, with its counts beside it in a
.json. What is complete is not made again, so the same command goes on after a crash. When all shards are there it
writes manifest.json (settings, counts per shard and per class, SHA-256) and rejected.tsv (the images that were left
out, each with the reason).

Started N times, by mpirun or as a Slurm array, each process makes its share of the shards. The images are mixed over
the shards by --random_seed; the same command makes the same bytes, however many processes there are.
"""

from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
import errno
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
import secrets
import stat
import sys
import threading
import warnings

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, checked
from absl import app, flags
import numpy as np
from tqdm import tqdm

from data_processing import dictionary, image_list, pictures, tfrecord

flags.DEFINE_string("image_list", None, "Image list: path<TAB>index:confidence…, with paths relative to --images.")
flags.DEFINE_string("output_dir", None, "Folder of the shards; one for each split.")
flags.DEFINE_string("split", "train", "What the shards' names begin with: train or val.")
flags.DEFINE_integer("num_shards", 64, "Number of shards.", lower_bound=1, upper_bound=99999)
flags.DEFINE_enum(
    "label_format",
    "sparse",
    tfrecord.KINDS,
    "sparse: indices and confidences; dense: one float32 a class, as published; single: one class an image.",
)
flags.DEFINE_float("max_rejected", 0.01, "Share of images that may be left out before it is an error.", 0.0, 1.0)
flags.DEFINE_integer("max_pixels", pictures.MAX_PIXELS, "Largest image, in pixels.", lower_bound=1)

# Where job starters say which of how many processes this one is.
RANK_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
# Images that a worker counts before it tells.
TELL = 16
# What the operating system says of one image alone. Any other error, of a full disk or a lost file server say, ends the
# run: images that are there must not be left out of a shard that then counts as complete.
UNUSABLE = ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "EINVAL", "EILSEQ")


def main(argv):
    del argv
    rank, size = rank_and_size(os.environ)
    if not Path(FLAGS.images).is_dir():
        raise ValueError(f"--images={FLAGS.images} is no folder; give the one that the list's paths are relative to")
    if FLAGS.dictionary and (count := len(dictionary.read_names(FLAGS.dictionary))) != FLAGS.class_num:
        raise ValueError(f"{FLAGS.dictionary} has {count} classes, not {FLAGS.class_num}: set --class_num={count}")
    offsets = image_list.line_offsets(FLAGS.image_list)
    if len(offsets) < FLAGS.num_shards:
        raise ValueError(f"{FLAGS.image_list} has {len(offsets):,} images, fewer than --num_shards={FLAGS.num_shards}")
    output = Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    settings = _settings()
    if not _settings_are_there(output, settings):
        _check_list(FLAGS.image_list, FLAGS.class_num, FLAGS.label_format)
        write_json(output / "settings.json", settings)
    parts = np.array_split(np.random.default_rng(FLAGS.random_seed).permutation(offsets), FLAGS.num_shards)
    shards = [shard_path(output, FLAGS.split, k, FLAGS.num_shards) for k in range(FLAGS.num_shards)]
    mine = range(rank, FLAGS.num_shards, size)
    missing = [(shards[k], parts[k]) for k in mine if not _is_complete(shards[k])]
    whose = f"process {rank} of {size}: " if size > 1 else ""
    print(f"{whose}{len(offsets):,} images; of {len(mine)} shards {len(mine) - len(missing)} are there already")
    build_shards(missing, settings, FLAGS.image_list, FLAGS.images)
    if all(_is_complete(shard) for shard in shards):
        _finish(output, shards, settings, FLAGS.max_rejected)
    else:
        print(f"{whose}done; the last process to end writes {output / 'manifest.json'}")


def _settings():
    """What decides the bytes of the shards."""
    digest = hashlib.sha256()
    with open(FLAGS.image_list, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    names = ("split", "label_format", "class_num", "num_shards", "random_seed", "max_pixels")
    return {"image_list_sha256": digest.hexdigest()} | {name: FLAGS[name].value for name in names}


def _settings_are_there(output, settings):
    """Whether an earlier run left shards, or began to, with these settings; ValueError if it left shards of others."""
    if not (output / "settings.json").exists():
        return False
    there = json.loads((output / "settings.json").read_text())
    other = [f"{name} {there.get(name)}, now {value}" for name, value in settings.items() if there.get(name) != value]
    if other and any(output.glob("*.tfrecords")):
        raise ValueError(
            f"{output} holds shards made with other settings ({'; '.join(other)}); "
            "give another --output_dir, or delete that folder"
        )
    return not other


def _check_list(path, class_num, label_format):
    """Raises ImageListError at the first wrong line, before hours of work."""
    for row in tqdm(image_list.read(path, class_num), "checking the list", unit=" lines", unit_scale=True):
        if label_format == "single" and len(row.labels) != 1:
            raise image_list.ImageListError(
                f"{path}: '{row.path}' has {len(row.labels)} labels; --label_format=single needs one an image"
            )


def rank_and_size(environment):
    """Returns which process this is, from 0, and how many there are, by the variables of mpirun or Slurm.

    Raises ValueError if the numbers do not fit, as those of an array like 1,3,7 do not.
    """
    for names in RANK_VARIABLES:
        if all(name in environment for name in names):
            rank, size = (int(environment[name]) for name in names)
            if names[0] == "SLURM_ARRAY_TASK_ID":
                rank -= int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
                rank /= int(environment.get("SLURM_ARRAY_TASK_STEP", 1))
            if rank != int(rank) or not 0 <= rank < size:
                told = ", ".join(f"{name}={environment[name]}" for name in names)
                raise ValueError(f"{told}: no process of a whole set; start an array as --array=0-{size - 1}")
            return int(rank), size
    return 0, 1


def shard_path(folder, split, number, count):
    """The path of a shard: <split>-00000-of-00064.tfrecords."""
    return Path(folder) / f"{split}-{number:05d}-of-{count:05d}.tfrecords"


def build_shards(shards, settings, list_path, images, workers=None):
    """Makes shards, one in each process at a time, and shows the progress.

    Args:
      shards: pairs of a shard's path and the byte offsets of its lines in the list, int64 [images].
      settings: dictionary of at least `label_format`, `class_num` and `max_pixels`.
      list_path: the image list.
      images: folder that the paths in the list are relative to.
      workers: number of cores to use, by default all.
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
        finally:
            pool.shutdown(cancel_futures=True)
            told.put(None)
            counter.join()


def _start_worker(told):
    global _told
    _told = told
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what matters is an error
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
    aside = _aside(path)
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
        _sync(file)
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
        data = _read(pictures.safe_join(images, row.path), settings["max_pixels"])
        image, width, height = pictures.as_jpeg(data, settings["max_pixels"])
    except OSError as error:
        if errno.errorcode.get(error.errno) not in UNUSABLE:
            raise
        return row, None, error.strerror
    except (ValueError, RuntimeError) as error:  # a PictureError, or a path with a zero byte or a loop of links
        return row, None, " ".join(str(error).split())
    record = tfrecord.encode(
        image, width, height, row.path, row.labels, row.confidences, settings["label_format"], settings["class_num"]
    )
    return row, tfrecord.frame(record), None


def _read(path, max_pixels):
    """Returns a file's bytes; PictureError if it is a pipe, say, or too long for a picture of `max_pixels`."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise pictures.PictureError("not a file")
    # The longest, BMP, takes 4 bytes a pixel; and there is metadata.
    if status.st_size > 4 * max_pixels + 2**24:
        raise pictures.PictureError(f"{status.st_size} bytes, too many for {max_pixels} pixels")
    return path.read_bytes()


def _is_complete(shard):
    return shard.exists() and shard.with_suffix(".json").exists()


def _finish(output, shards, settings, max_rejected):
    """Writes manifest.json and rejected.tsv. If several processes come here, they write the same bytes."""
    parts = {shard.name: json.loads(shard.with_suffix(".json").read_text()) for shard in shards}
    rejected = sorted(row for part in parts.values() for row in part.pop("rejected"))
    classes = Counter()
    for part in parts.values():
        classes.update({int(label): count for label, count in part.pop("classes").items()})
    records = sum(part["records"] for part in parts.values())
    _write_text(output / "rejected.tsv", "".join(f"{name}\t{reason}\n" for name, reason in rejected))
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


def write_json(path, content):
    """Writes `content` as JSON, under a temporary name first."""
    _write_text(path, json.dumps(content, indent=1) + "\n")


def _write_text(path, text):
    aside = _aside(path)
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        _sync(file)
    os.replace(aside, path)


def _sync(file):
    # Or after a power cut a name may stand there without its content.
    file.flush()
    os.fsync(file.fileno())


def _aside(path):
    # Several processes may write the same file, with the same content, and have the same id on different machines.
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part")


if __name__ == "__main__":
    flags.mark_flags_as_required(["image_list", "output_dir"])
    app.run(checked(main))
