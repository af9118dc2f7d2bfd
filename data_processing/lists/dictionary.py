"""Class dictionaries: which class has which index, WordNet id, parent and names.

The multi-label dictionary begins with a header line; then one class a line, in the order of the indices from 0:

    category_index<TAB>category_id<TAB>index_of_parent_category<TAB>category name

The parent of a root is -1. A class has one parent, which may stand after it. The single-label dictionary of
ImageNet-2012 has no header, and separates the words of one name by tabs: index<TAB>word<TAB>word….
"""

from pathlib import Path
from typing import NamedTuple

from utils.files import atomic_write

BESIDE = "dictionary.txt"
HEADER = "category_index\tcategory_id\tindex_of_parent_category\tcategory name"


class DictionaryError(ValueError):
    """A line is not as it must be; the message names file and line, and what to do."""


class Entry(NamedTuple):
    """One class: its index, its WordNet id (n + 8 digits), its parent's index or -1, its names joined by ", "."""

    index: int
    wnid: str
    parent: int
    names: str


class Classes(NamedTuple):
    """The classes of a dictionary of either kind.

    Attributes:
      names: by index; several names of one class are joined by ", ".
      ids: WordNet id, or what else tells a class, by index; "" in a single-label dictionary.
      ancestors: of each class, see `ancestors`; None for a single-label dictionary.
      text: the dictionary as it stands in its file.
    """

    names: list[str]
    ids: list[str]
    ancestors: list[tuple[int, ...]] | None
    text: str

    def difference(self, other) -> str:
        """Returns how the names of `other`, `Classes`, differ from these, in a few words; "" if they do not."""
        if len(self.names) != len(other.names):
            return f"{len(other.names):,} classes instead of {len(self.names):,}"
        for k, (own, others) in enumerate(zip(self.names, other.names, strict=True)):
            if own.split() != others.split():
                return f"class {k} is '{others}' instead of '{own}'"
        return ""


def load(path) -> Classes:
    """Returns the classes of a dictionary of either kind."""
    return parse(_text(path), path)


def parse(text, where) -> Classes:
    """Returns the classes of a dictionary's `text`, of either kind; messages name `where` it comes from."""
    lines = _lines(text)
    if lines and _is_header(lines[0]):
        if not (entries := _entries(lines, where)):
            raise DictionaryError(f"{where}: no classes behind the header line; give a dictionary of classes")
        return Classes([e.names for e in entries], [e.wnid for e in entries], ancestors(entries), text)
    names = _names(lines, where)
    return Classes(names, [""] * len(names), None, text)


def read(path) -> list[Entry]:
    """Returns the classes of a multi-label dictionary; checks indices, parents and that there is no cycle."""
    return _entries(_lines(_text(path)), path)


def _entries(lines, path):
    if not lines or not _is_header(lines[0]):
        single = "; this is a single-label dictionary, without parents" if lines else ""
        raise DictionaryError(f"{path}:1: no header line{single}; a multi-label dictionary begins with '{HEADER}'")
    if not any("\t" in line for line in lines):
        raise DictionaryError(
            f"{path}:1: names without indices; number the lines from 0 as index<TAB>name, for a single-label "
            f"dictionary, or write the columns of a multi-label one, '{HEADER}'"
        )
    entries = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != 4:
            raise DictionaryError(
                f"{path}:{number}: {len(fields)} fields instead of the 4 of '{HEADER}' between tabs: {line[:80]!r}"
            )
        index, parent = (_integer(text, f"{path}:{number}") for text in (fields[0], fields[2]))
        _check_next(index, entries, f"{path}:{number}")
        entries.append(Entry(index, fields[1], parent, fields[3]))
    for number, entry in enumerate(entries, start=2):
        if not -1 <= entry.parent < len(entries):
            raise DictionaryError(
                f"{path}:{number}: parent {entry.parent} is no class of 0 to {len(entries) - 1}; write -1 for a root"
            )
    try:
        ancestors(entries)
    except DictionaryError as error:
        raise DictionaryError(f"{path}: {error}") from error
    return entries


def write(path, entries):
    """Writes a multi-label dictionary, under a temporary name first."""
    rows = (f"{entry.index}\t{entry.wnid}\t{entry.parent}\t{entry.names}" for entry in entries)
    with atomic_write(path) as temp_path:
        temp_path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def ancestors(entries) -> list[tuple[int, ...]]:
    """Returns for each class the indices of its parent, its parent's parent and so on. Raises DictionaryError."""
    ancestors = []
    for entry in entries:
        above, parent = [], entry.parent
        while parent != -1:
            above.append(parent)
            if len(above) > len(entries):
                raise DictionaryError(f"class {entry.index} ({entry.names}) is its own ancestor; correct the parents")
            parent = entries[parent].parent
        ancestors.append(tuple(above))
    return ancestors


def read_names(path) -> list[str]:
    """Returns the names by index of a dictionary of either kind."""
    return load(path).names


def _names(lines, path):
    names = []
    for number, line in enumerate(lines, start=1):
        index, *words = line.split("\t")
        _check_next(_integer(index, f"{path}:{number}"), names, f"{path}:{number}")
        names.append(", ".join(word for word in words if word))
    if not names:
        raise DictionaryError(f"{path}: empty; give a dictionary of classes")
    return names


def is_multi_label(path) -> bool:
    """Whether a dictionary is of the multi-label kind, with a hierarchy."""
    return load(path).ancestors is not None


def beside(checkpoint):
    """Returns the path of the dictionary.txt that finetune.py left beside a checkpoint, a folder or prefix, or None."""
    checkpoint = Path(checkpoint)
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / BESIDE
    return str(path) if path.is_file() else None


def _text(path):
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DictionaryError(f"{path}: not UTF-8; convert the file, with iconv say") from error


def _lines(text):
    # Not `splitlines`, which also ends a line at characters that a name may hold.
    return text.removesuffix("\n").split("\n") if text else []


def _is_header(line):
    return not line.split("\t")[0].strip().lstrip("-").isdigit()


def _check_next(index, before, where):
    if index != len(before):
        raise DictionaryError(f"{where}: index {index}, but {len(before)} comes next; indices have no gaps")


def _integer(text, where):
    try:
        return int(text)
    except ValueError as error:
        raise DictionaryError(f"{where}: '{text[:40]}' is no index") from error
