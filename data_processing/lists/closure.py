"""What the labels of an image imply: the ancestors of its classes, and the classes that occur with them.

A class implies its parent, and every class that it is known to occur with (paper, section 3.3). What is implied implies
on, so that the labels of an image, closed, stay what they are when they are closed again.
"""

from typing import NamedTuple

from data_processing.lists import dictionary, image_list
from utils import files

COUNTED = (
    "rows",
    "labels",
    "labels added",
    "rows not closed",
    "rows with a confidence below a descendant's",
    "rows with a class that comes twice",
)
# Below every confidence, and below -1, unknown.
NEVER = -2.0
PAIR_COLUMNS = "wnid\tco-occurring wnid\tCO\timages\tpredicted\tnames\tco-occurring names"


class Pair(NamedTuple):
    """Images of class `label` show `other`, too: `predicted` of their `images` do, a share of `co`."""

    label: int
    other: int
    images: int
    predicted: int

    @property
    def co(self):
        return self.predicted / self.images


def write_pairs(path, pairs, entries):
    """Writes co-occurring classes by their WordNet ids, with names for people."""
    rows = (
        (entries[p.label].wnid, entries[p.other].wnid, f"{p.co:.4f}", p.images, p.predicted)
        + (entries[p.label].names, entries[p.other].names)
        for p in pairs
    )
    files.write_tsv(path, PAIR_COLUMNS, rows)


def read_pairs(path, entries) -> list[tuple[int, int]]:
    """Returns (class, co-occurring class) of each line of a file of `write_pairs`, or of just two columns.

    Raises ImageListError for a line that is not UTF-8; DictionaryError for a class that the dictionary does not have,
    and for a pair of which one is an ancestor of the other: the child implies its ancestor anyhow, and an ancestor that
    implied a child would imply it everywhere.
    """
    index = {entry.wnid: entry.index for entry in entries}
    ancestors = dictionary.ancestors(entries)
    pairs = []
    with open(path, "rb") as file:
        for number, data in enumerate(file, start=1):
            line = image_list.decode_line(data, f"{path}:{number}")
            fields = line.split("\t")
            if not line or line.startswith("#") or number == 1 and fields[0] == "wnid":
                continue
            if len(fields) < 2 or any(wnid not in index for wnid in fields[:2]):
                raise dictionary.DictionaryError(
                    f"{path}:{number}: not two WordNet ids of the dictionary between tabs: {line.strip()[:60]!r}"
                )
            label, other = (index[wnid] for wnid in fields[:2])
            if label == other or label in ancestors[other] or other in ancestors[label]:
                raise dictionary.DictionaryError(
                    f"{path}:{number}: {fields[0]} and {fields[1]} are one class, or ancestor and descendant; "
                    "delete the line"
                )
            pairs.append((label, other))
    return pairs


def implied(entries, pairs=()) -> list[tuple[int, ...]]:
    """Returns for each class all classes that it implies, itself not among them.

    Args:
      entries: of a dictionary; a parent may stand after its child.
      pairs: (class, co-occurring class).
    """
    follows = [[entry.parent] if entry.parent != -1 else [] for entry in entries]
    for label, other in pairs:
        follows[label].append(other)
    implied_by = []
    for label in range(len(entries)):
        seen, ahead = {label}, [label]
        for one in ahead:
            new = [other for other in follows[one] if other not in seen]
            seen.update(new)
            ahead.extend(new)
        implied_by.append(tuple(ahead[1:]))
    return implied_by


def close(labels, implied_by) -> dict[int, float]:
    """Returns the labels of an image with all that they imply: {class: confidence}, in the order of the classes.

    Args:
      labels: (class, confidence) in (0, 1], or -1 for unknown. A class may come twice: the highest confidence holds.
      implied_by: of `implied`.

    A class that is implied has the highest confidence of those that imply it, or its own if that is higher. What is
    unknown implies nothing, and is no longer unknown if something implies it.
    """
    closed = {}
    for label, confidence in labels:
        if confidence > closed.get(label, NEVER):
            closed[label] = confidence
    for label, confidence in list(closed.items()):
        if confidence > 0:
            for other in implied_by[label]:
                if confidence > closed.get(other, NEVER):
                    closed[other] = confidence
    return dict(sorted(closed.items()))


def compare(labels, closed) -> tuple[int, ...]:
    """Returns what `close` has changed in one image: a number for each name of COUNTED, to be added up over rows."""
    before = dict(labels)
    raised = any(closed[label] > value for label, value in before.items())
    added = len(closed) - len(before)
    return 1, len(before), added, added > 0, raised, len(labels) > len(before)
