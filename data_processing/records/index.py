"""Where each record of a set of shards is, and what the records hold."""

from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_processing.records import manifest, offset_file, schema, tfrecord
import distributed

# The kind of labels is that of the first record whose checksum is right, among so many.
PEEKED = 100


@dataclasses.dataclass(frozen=True)
class RecordIndex:
    """Where each record is: 12 bytes a record.

    Attributes:
      paths: of the shards.
      shard: int32 [records], index into `paths`.
      offset: int64 [records], where the record begins in its shard, in bytes.
      kind: of what the records hold besides the image, one of `schema.KINDS`.
      problems: what is wrong with shards of which a part had to be left out.
      portrait: bool [records], whether the image is higher than wide, of records of boxes; of others None.
    """

    paths: tuple[str, ...]
    shard: np.ndarray
    offset: np.ndarray
    kind: str
    problems: tuple[str, ...]
    portrait: np.ndarray | None = None

    def __len__(self):
        return len(self.shard)

    @classmethod
    def of_count(cls, count, kind):
        """Returns the index of `count` records that are still to be made: to plan with, not to read."""
        return cls((), np.zeros(count, np.int32), np.zeros(count, np.int64), kind, ())


def index_records(paths, class_num, threads=16, quiet=False):
    """Returns the `RecordIndex` of the shards `paths`, all of which hold labels of one kind, for `class_num` classes.

    Their records are where `offset_file` says. A shard without it is gone through from header to header, with the
    progress shown unless `quiet`, and gets it if its folder can be written.

    Raises `tfrecord.RecordError` if there are no records, or if the first is not as it must be.
    """
    with ThreadPoolExecutor(threads) as pool:
        shards, problems = _find_records(paths, pool, quiet)
        counts = [len(offsets) - 1 for offsets in shards]
        if not sum(counts):
            raise tfrecord.RecordError("; ".join(problems) or f"{paths[0]}: the shards are empty; build them again")
        shard = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
        offset = np.concatenate([offsets[:-1] for offsets in shards])
        kind = _first_kind(paths, shard, offset, class_num)
        portrait = np.concatenate([*pool.map(_portrait, paths, shards)]) if kind == "boxes" else None
    return RecordIndex(tuple(paths), shard, offset, kind, problems, portrait)


def _find_records(paths, pool, quiet):
    """Returns the offsets of each shard, as of `tfrecord.index_shard`, in a list, and what is wrong with some."""
    shards, problems = list(pool.map(offset_file.read, paths)), []
    walked = [k for k, offsets in enumerate(shards) if offsets is None]
    sizes = [os.path.getsize(paths[k]) for k in walked]
    with tqdm(
        total=sum(sizes), unit="B", unit_scale=True, desc="finding records", delay=1, disable=quiet or not walked
    ) as bar:
        found = pool.map(_walk, [paths[k] for k in walked])
        for k, size, (offsets, problem) in zip(walked, sizes, found, strict=True):
            shards[k] = offsets
            problems += [problem] if problem else []
            bar.update(size)
    return shards, tuple(problems)


def _walk(path):
    """Returns what `tfrecord.index_shard` finds, and notes it beside the shard for the next time."""
    offsets, problem = tfrecord.index_shard(path)
    if not problem:
        with contextlib.suppress(OSError, ValueError):  # published records may be where nobody may write
            offset_file.write(path, np.diff(offsets))
    return offsets, problem


def _portrait(path, offsets):
    """Which images of a shard are higher than wide, bool [records]: by the .json beside it, else by its records."""
    beside, count = Path(path).with_suffix(".json"), len(offsets) - 1
    portrait = np.zeros(count, bool)
    noted = manifest.read(beside).get("portrait") if beside.exists() else None
    if not isinstance(noted, list) or not all(isinstance(number, int) for number in noted):
        noted = np.flatnonzero([schema.is_portrait(data) for data in tfrecord.unchecked_records(path, offsets)])
    # Of a shard that is truncated, records are missing at the end.
    portrait[[number for number in noted if 0 <= number < count]] = True
    return portrait


def _first_kind(paths, shard, offset, class_num):
    for k, begin in zip(shard[:PEEKED], offset[:PEEKED], strict=True):
        data = tfrecord.read_record(paths[k], begin)
        if data:
            return schema.label_kind(data, class_num, paths[k])
    raise tfrecord.RecordError(f"{paths[0]}: the first {min(len(shard), PEEKED)} records are damaged; build it again")


def index_split(data_dir, split, class_num):
    """Returns the `RecordIndex` of "train" or "val" in a folder; prints what is wrong with it.

    All ranks must call it: rank 0 indexes, and the others have it from there (see `distributed.from_first`). One whose
    shards have other paths, as on a machine with a copy of its own, indexes these; `tfrecord.RecordError` if they hold
    another number of records.
    """
    is_first = distributed.this_process().rank == 0

    def index_own():
        return index_records(tfrecord.shard_paths(data_dir, split), class_num, quiet=not is_first)

    index = distributed.from_first(index_own)
    if not is_first and tuple(tfrecord.shard_paths(data_dir, split)) != index.paths:
        records, index = len(index), index_own()
        if len(index) != records:
            raise tfrecord.RecordError(
                f"{data_dir}: {len(index):,} records here, and {records:,} where process 0 runs; give all the same ones"
            )
    for problem in index.problems if is_first else ():
        print(f"warning: {problem}")
    return index
