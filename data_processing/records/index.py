"""Where each record of a set of shards is, and what the records hold."""

from concurrent.futures import ThreadPoolExecutor
import dataclasses
from pathlib import Path

import numpy as np

from data_processing.records import manifest, schema, tfrecord

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


def index_records(paths, class_num, threads=16):
    """Returns the `RecordIndex` of the shards `paths`, all of which hold labels of one kind, for `class_num` classes.

    Raises `tfrecord.RecordError` if there are no records, or if the first is not as it must be.
    """
    with ThreadPoolExecutor(threads) as pool:
        shards = list(pool.map(tfrecord.index_shard, paths))
    counts = [len(offsets) - 1 for offsets, _ in shards]
    problems = tuple(problem for _, problem in shards if problem)
    if not sum(counts):
        raise tfrecord.RecordError("; ".join(problems) or f"{paths[0]}: the shards are empty; build them again")
    shard = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
    offset = np.concatenate([offsets[:-1] for offsets, _ in shards])
    kind = _first_kind(paths, shard, offset, class_num)
    portrait = None
    if kind == "boxes":
        parts = [_portrait(path, offsets) for path, (offsets, _) in zip(paths, shards, strict=True)]
        portrait = np.concatenate(parts)
    return RecordIndex(tuple(paths), shard, offset, kind, problems, portrait)


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


def index_split(data_dir, split, class_num, quiet=False):
    """Returns the `RecordIndex` of "train" or "val" in a folder; prints what is wrong with it unless `quiet`."""
    index = index_records(tfrecord.shard_paths(data_dir, split), class_num)
    for problem in index.problems if not quiet else ():
        print(f"warning: {problem}")
    return index
