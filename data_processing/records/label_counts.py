"""How often each class is labelled in a split: noted beside its shards, else counted from all records once, and kept.

    label_counts-SPLIT.json    class_num, records, shards {name: bytes}, confidences {class: their sum}, unknown
                               {class: records that say -1}; classes without any are left out

`shard_writer` notes it of what it writes. A note counts as long as the same shards are there, each of its size and none
newer than the note.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_processing.records import schema, tfrecord
from utils.files import read_json, write_json

# Where nothing is noted, an estimate looks at so many records.
SAMPLE = 10_000
# Read one after the other by a thread.
CHUNK = 1024


class LabelCounts(NamedTuple):
    """Attributes:
    records: number of records.
    confidences: float64 [class_num], the sum of each class's confidences in them; unknown ones, -1, are left out.
    known: int64 [class_num], records whose label of the class is not unknown.
    """

    records: int
    confidences: np.ndarray
    known: np.ndarray


class Tally:
    """Adds up the labels of records, one record after the other.

    Attributes:
      records: how many there were.
      confidences: sum of confidences by class.
      unknown: number of records that say -1, by class.
    """

    def __init__(self):
        self.records, self.confidences, self.unknown = 0, Counter(), Counter()

    def add(self, labels):
        """Adds the labels of a record: pairs of a class and its confidence, in (0, 1], or -1."""
        self.records += 1
        for label, confidence in labels:
            if confidence < 0:
                self.unknown[label] += 1
            else:
                # As a record holds it. Sums of float32 are exact in float64, and so the same in any order.
                self.confidences[label] += float(np.float32(confidence))

    def merge(self, other):
        """Adds what another `Tally` has added up."""
        self.records += other.records
        self.confidences.update(other.confidences)
        self.unknown.update(other.unknown)

    def as_json(self) -> dict:
        """Returns it as JSON takes it; the same of the same labels in any order."""
        counts = {"confidences": self.confidences, "unknown": self.unknown}
        return {name: {str(k): of[k] for k in sorted(of)} for name, of in counts.items()}

    @classmethod
    def from_json(cls, records, content):
        """Returns the `Tally` of so many records whose `as_json` was `content`."""
        tally = cls()
        tally.records = records
        tally.confidences, tally.unknown = (
            Counter({int(k): value for k, value in content[name].items()}) for name in ("confidences", "unknown")
        )
        return tally

    def counts(self, class_num) -> LabelCounts:
        """Returns the `LabelCounts` of it. Raises IndexError for a class that is not below `class_num`."""
        confidences, unknown = np.zeros(class_num), np.zeros(class_num, np.int64)
        for array, of in ((confidences, self.confidences), (unknown, self.unknown)):
            array[list(of)] = list(of.values())
        return LabelCounts(self.records, confidences, self.records - unknown)


def note(paths, split, class_num, tally):
    """Writes the `Tally` of all the records of a split, whose shards are `paths`, beside them.

    Raises OSError where nothing can be written. Several processes may write the same.
    """
    content = {"class_num": class_num, "records": tally.records, "shards": _sizes(paths)}
    write_json(_place(paths, split), content | tally.as_json())


def noted(paths, split, class_num) -> LabelCounts | None:
    """Returns what is noted of a split, whose shards are `paths`; None without a note, or one of other shards."""
    place = _place(paths, split)
    try:
        content, written = read_json(place), place.stat().st_mtime_ns
        is_same = content["class_num"] == class_num and content["shards"] == _sizes(paths)
        if not is_same or any(Path(path).stat().st_mtime_ns > written for path in paths):
            return None
        return Tally.from_json(content["records"], content).counts(class_num)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or one that is damaged
        return None


def of_split(index, split, class_num) -> LabelCounts:
    """Returns the `LabelCounts` of a split: as noted, else of all its records, which is noted then, if it can be.

    Args:
      index: `RecordIndex` of the split, of labels.
      split: "train" or "val".
      class_num: number of classes.

    Nothing is decoded but the labels. Records that are damaged are left out, as in training. Shows the progress.
    """
    if counts := noted(index.paths, split, class_num):
        return counts
    tally = count(index, class_num, np.arange(len(index)), progress=True)
    try:
        note(index.paths, split, class_num, tally)
        kept = f"kept in {_place(index.paths, split)}"
    except (OSError, ValueError) as error:
        kept = f"not kept, so the next run counts again: {error}"
    print(f"counted the labels of {tally.records:,} records; {kept}", flush=True)
    return tally.counts(class_num)


def estimate(index, split, class_num) -> LabelCounts:
    """Returns the `LabelCounts` of a split as noted, else of SAMPLE of its records; args as of `of_split`."""
    if counts := noted(index.paths, split, class_num):
        return counts
    drawn = np.random.default_rng(0).choice(len(index), min(SAMPLE, len(index)), replace=False)
    return count(index, class_num, np.sort(drawn)).counts(class_num)


def count(index, class_num, positions, progress=False, threads=16) -> Tally:
    """Counts the labels of records.

    Args:
      index: `RecordIndex`.
      class_num: number of classes; a record with another one is damaged.
      positions: of the records in the index, int64 [records], sorted.
      progress: whether to show it.
      threads: which read at the same time.
    """
    shards, offsets = index.shard[positions], index.offset[positions]
    # Each part is of one shard.
    bounds = np.unique(np.concatenate([np.arange(0, len(shards), CHUNK), np.flatnonzero(np.diff(shards)) + 1]))
    pairs = zip(np.split(shards, bounds), np.split(offsets, bounds), strict=True)
    parts = [(index.paths[of[0]], at) for of, at in pairs if len(of)]
    tally = Tally()
    with (
        tqdm(total=len(positions), unit=" records", desc="labels", delay=1, disable=not progress) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        counted = pool.map(lambda part: _count_part(*part, index.kind, class_num), parts)
        for (_, at), one in zip(parts, counted, strict=True):
            tally.merge(one)
            bar.update(len(at))
    return tally


def _count_part(path, offsets, kind, class_num):
    """The `Tally` of the records that begin at `offsets` of a shard."""
    tally = Tally()
    for record in tfrecord.records_at(path, offsets):
        try:
            labels = schema.decode(record, kind, path, labels_only=True)
        except tfrecord.RecordError:
            continue
        if all(label < class_num for label, _ in labels):
            tally.add(labels)
    return tally


def _sizes(paths):
    """The sizes of shards in bytes, by their names."""
    return {Path(path).name: Path(path).stat().st_size for path in paths}


def _place(paths, split):
    return Path(paths[0]).with_name(f"label_counts-{split}.json")
