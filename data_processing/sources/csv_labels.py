"""A CSV of images and the names of their classes.

The first line names the columns. One has the paths. Another has the names, between `|`, each perhaps with a confidence
(`dog|pizza:0.8`); or (`one_hot`) every other column is a class, with 0, 1 or a confidence, or -1 for unknown. Columns
stand between commas, semicolons or tabs, whichever the first line has.
"""

from collections import Counter
import csv
import itertools
import re
from typing import NamedTuple

from data_processing.lists import image_list
from data_processing.sources.labeled_images import SourceError
from data_processing.sources.table import Collector, Table

# What columns are called where no flag says it; case, blanks, "_" and "-" do not count.
PATH_NAMES = "path file filename filepath image img images imagename imagepath imagefile imagefilename imgpath imgfile"
LABEL_NAMES = "label labels tag tags class classes category categories classname classnames labelname labelnames"
SPLIT_NAMES = "split subset partition fold"
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev", "eval"), "val"
)
# Of a name that ends in :NUMBER, the two.
CONFIDENCE = re.compile(r"(.*\S.*):\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.DOTALL | re.ASCII)
ONE_HOT = {"": 0.0, "true": 1.0, "false": 0.0}
# A field with all of 10,000 labels is longer than Python's own limit, 131,072; one whose quote has no end is not read
# to the end of a large file.
MAX_FIELD = 2**24
# What else may stand between names, unless a user says so.
SEPARATORS = (",", ";", "/")


class CsvConfig(NamedTuple):
    """How a CSV is read; the fields are flags, too.

    Attributes:
      path_column, label_column: names of the columns; "": to be guessed.
      separator: what stands between the names in a field.
      one_hot: one column a class instead.
      split_column: name of a column that says train, val or test; "": none.
      class_order: of the indices, that of the first "appearance" or by "frequency".
    """

    path_column: str = ""
    label_column: str = ""
    separator: str = "|"
    one_hot: bool = False
    split_column: str = ""
    class_order: str = "appearance"


class _Columns(NamedTuple):
    names: list[str]
    path: int
    label: int | None
    split: int | None


def read(path, config) -> Table:
    """Returns the images of a CSV, in its order.

    Args:
      path: of the CSV, in UTF-8.
      config: `CsvConfig`; `class_order` does not matter here.

    Raises SourceError if columns are not there, and for all rows that are not as they must be at once.
    """
    if not config.separator:
        raise SourceError("--separator is empty; give what stands between two names")
    found = Collector(path)
    records = _records(path, config)
    where, header = next(records, (f"{path}:1", []))
    columns = _columns(header, where, config)
    if config.one_hot:
        classes = [(k, found.name(name)) for k, name in enumerate(header) if k not in (columns.path, columns.split)]
    otherwise = {}
    for where, fields in records:
        if len(fields) < len(header):
            found.error(f"rows with fewer fields than the {len(header)} columns, or a name with a line end", where)
            continue
        if any(fields[len(header) :]):
            found.error(f"rows with more fields than the {len(header)} columns; quote what holds a separator", where)
            continue
        image = fields[columns.path]
        split = "" if columns.split is None else _split(fields[columns.split], where, found)
        if config.one_hot:
            labels = _one_hot(fields, classes, where, found)
        else:
            labels = _names(fields[columns.label], config.separator, where, found)
            if fields[columns.label].strip():
                separator = next((c for c in (config.separator, *SEPARATORS) if c in fields[columns.label]), "")
                otherwise.setdefault(separator, []).append(where)
        if not image_list.can_hold(image):
            found.note("images left out, whose path is empty or holds a tab or line end", f"{where}: {image!r}")
            continue
        found.add(image, labels, where, split)
    if config.separator not in otherwise:
        _note_others(otherwise, config.separator, found)
    return found.table()


def _note_others(otherwise, expected, found):
    """Notes what stands in most fields where the `expected` separator stands in none; a few names may hold it.

    `otherwise` is {separator or "": places of the fields with it}.
    """
    for separator in SEPARATORS:
        if len(places := otherwise.get(separator, ())) > max(1, len(otherwise.get("", ()))):
            what = f"fields without '{expected}' between names but with '{separator}'; if that separates them, give "
            for where in places:
                found.note(f"{what}--separator='{separator}'", where)


def _lines(path):
    """Yields the lines of a file, with their ends; SourceError for what is no text."""
    number = 0
    with open(path, "rb") as file:
        for data in file:
            where = f"{path}:{number + 1}"
            try:
                text = data.decode("utf-8-sig" if not number else "utf-8")
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{where}: not UTF-8 at byte {error.start + 1}; save it as CSV in UTF-8, or convert it with iconv"
                ) from error
            if "\0" in text:
                raise SourceError(f"{where}: a null byte; is this a CSV in UTF-8?")
            # Carriage returns alone end lines, too.
            for line in re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text):
                number += 1
                yield line


def _records(path, config):
    """Yields "FILE:LINE" of where a record begins, and its fields, of those that are not blank."""
    lines = _lines(path)
    first = []
    for line in lines:
        first.append(line)
        # A header may go on after a line end inside of quotes.
        if "".join(first).strip() and (sum(text.count('"') for text in first) % 2 == 0 or len(first) > 99):
            break
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(itertools.chain(first, lines), delimiter=_delimiter(first, config), strict=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise SourceError(
                f"{where}: here or soon after it is not CSV: {error}; is a quote without its other one? Inside of "
                'quotes, write "" for one'
            ) from error
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield where, fields


def _delimiter(header, config):
    """Which of comma, semicolon and tab is between the columns that the first lines name."""
    unquoted = re.sub(r'"[^"]*"', "", "".join(header))
    texts = [line for line in header if line.strip()]

    def rank(delimiter):
        try:
            fields = next(csv.reader(texts, delimiter=delimiter), [])
        except csv.Error:
            fields = []
        return bool(_find(fields, config.path_column, PATH_NAMES)), unquoted.count(delimiter)

    return max(",;\t", key=rank)


def _columns(header, where, config):
    """Returns where the columns are; SourceError, with the columns that there are, if it is not clear."""
    names = ", ".join(repr(name[:40]) for name in header[:20]) + (", …" if len(header) > 20 else "")
    there_are = f"its first line names the columns: {names or 'none'}"

    def one(flag, asked, usual, otherwise):
        found = _find(header, asked, usual)
        if len(found) == 1:
            return found[0]
        if asked:
            problem = f"--{flag}={asked}: {'no' if not found else 'more than one'} such column"
        else:
            problem = f"{'no' if not found else 'more than one'} column that must be the one of {otherwise}"
        raise SourceError(
            f"{where}: {problem}; {there_are}. Name them with --path_column and --label_column, or give --one_hot if "
            "each of the others is a class"
        )

    path = one("path_column", config.path_column, PATH_NAMES, "paths")
    split = one("split_column", config.split_column, "", "splits") if config.split_column else None
    label = None if config.one_hot else one("label_column", config.label_column, LABEL_NAMES, "labels")
    if len({path, split, label}) < 3 and not (split is label is None):
        raise SourceError(f"{where}: one column for two things; {there_are}")
    if config.one_hot:
        classes = [name for k, name in enumerate(header) if k not in (path, split)]
        twice = [repr(name) for name, count in Counter(classes).items() if count > 1 or not name.strip()]
        if twice:
            raise SourceError(f"{where}: columns without a name, or of one name: {', '.join(twice[:5])}; {there_are}")
    elif split is None and (unused := [header[k] for k in _find(header, "", SPLIT_NAMES)]):
        print(f"{where}: column '{unused[0]}' is not used; --split_column={unused[0]} keeps that split")
    return _Columns(header, path, label, split)


def _find(header, asked, usual):
    """Returns the numbers of the columns that are called as `asked` or, if that is "", as one of the `usual`."""
    if asked:
        exact = [k for k, name in enumerate(header) if name == asked]
        return exact or [k for k, name in enumerate(header) if name.strip() == asked.strip()]
    return [k for k, name in enumerate(header) if re.sub(r"[\s_-]", "", name).casefold() in usual.split()]


def _split(text, where, found):
    split = SPLITS.get(text.strip().casefold())
    if split is None:
        found.error("rows whose split is not one of train, val and test", f"{where}: {text[:40]!r}")
    return split or ""


def _names(field, separator, where, found):
    """Returns {name: confidence} of a field of names."""
    labels = {}
    parts = field.split(separator) if field.strip() else []
    for part in parts:
        if not part.strip():
            found.note("empty names between two separators, left out", where)
            continue
        name, confidence = _confidence(part, where, found)
        if confidence == 0:
            found.note("labels with confidence 0, left out", f"{where}: {part!r}")
            continue
        name = found.name(name)
        if name in labels:
            found.note("labels that come twice in a row, merged", f"{where}: {name!r}")
        labels[name] = max(confidence, labels.get(name, -1.0))
    return labels


def _confidence(part, where, found):
    """Returns the name and the confidence of `name`, or of `name:0.8`."""
    match = CONFIDENCE.fullmatch(part)
    if not match:
        return part, 1.0
    value = float(match[2])
    if part.endswith(f":{match[2]}") and _is_confidence(value):
        return match[1], value
    found.note("names that end in a number that is no confidence (0 to 1, or -1), and keep it", f"{where}: {part!r}")
    return part, 1.0


def _one_hot(fields, classes, where, found):
    """Returns {name: confidence} of a row with a column for each of `classes`, pairs of column and name."""
    labels = {}
    for k, name in classes:
        text = fields[k]
        # What most fields hold.
        if text == "0":
            continue
        text = text.strip().casefold()
        try:
            value = ONE_HOT[text] if text in ONE_HOT else float(text)
        except ValueError:
            value = float("nan")
        if not _is_confidence(value):
            found.error("fields that are not 0, 1, a confidence between, or -1", f"{where}: {name!r}: {text[:40]!r}")
        elif value:
            labels[name] = max(value, labels.get(name, -1.0))
    return labels


def _is_confidence(value):
    return value in (0, -1) or image_list.is_confidence(value)
