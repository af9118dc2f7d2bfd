"""The image list: one image a line, its path or URL and its labels.

    path<TAB>index[:confidence]<TAB>index[:confidence]…

Published lists also separate with spaces; a line without a tab is read so, and its path then holds no white space. A
confidence is 1 if not given, lies in [MIN_CONFIDENCE, 1], or is -1: "unknown, leave this class out of the loss". Of a
class that comes twice the higher one holds. Lists may be long (17.6 million lines in ML-Images), so everything here
streams.
"""

from array import array
from collections.abc import Iterator
import re
from typing import NamedTuple

import numpy as np

from utils.files import atomic_write

# The least that is no mistake: what is smaller may become 0 in a float32, which says that the class is not there.
MIN_CONFIDENCE = 1e-6


class ImageListError(ValueError):
    """A line is not as it must be; the message names file, line and field, and what to do."""


class Row(NamedTuple):
    """One image: its path or URL, the indices of its classes, each once, and for each a confidence, or -1."""

    path: str
    labels: tuple[int, ...]
    confidences: tuple[float, ...]


def parse_line(line, class_num, where, require_labels=True) -> Row:
    """Returns the `Row` of a line.

    Args:
      line: text without its line end.
      class_num: number of classes, or None to accept any index that is not negative.
      where: "FILE:LINE", for the message.
      require_labels: whether a line without labels is an error.

    Raises ImageListError for an empty path, a label that is no index below `class_num`, a confidence outside the rules,
    or missing labels.
    """
    path, fields = split_line(line, where)
    labels = merge(parse_labels(fields, class_num, where))
    if require_labels and not labels:
        raise ImageListError(f"{where}: no labels after the path '{path[:80]}'; add index:confidence, or drop the line")
    return Row(path, tuple(labels), tuple(labels.values()))


def merge(pairs) -> dict[int, float]:
    """Returns {class: confidence} of pairs of them: of a class that comes twice the higher one, -1 if all are."""
    merged = {}
    for label, confidence in pairs:
        merged[label] = max(confidence, merged.get(label, -1.0))
    return merged


def split_line(line, where) -> tuple[str, str]:
    """Returns a line's path and the text of its labels. Raises ImageListError for an empty path."""
    path, tab, fields = line.partition("\t")
    if not tab:
        path, *rest = line.split(None, 1)
        fields = "\t".join(rest[0].split()) if rest else ""
    if not path.strip():
        raise ImageListError(f"{where}: field 1 is empty; a line begins with the path of an image")
    return path, fields


def parse_labels(text, class_num, where) -> list[tuple[int, float]]:
    """Returns (class, confidence) of each field of `text`, between tabs; see `parse_line`."""
    fields = text.removesuffix("\t").split("\t") if text else []  # a tab at the end of a line
    labels = []
    for field in fields:
        try:
            labels.append(_parse_label(field, class_num))
        except ImageListError as error:
            raise ImageListError(f"{where}: field {len(labels) + 2} ('{field[:40]}'): {error}") from None
    return labels


def _parse_label(field, class_num):
    index, colon, confidence = field.partition(":")
    if not (index.isascii() and index.isdigit()):
        raise ImageListError("not a class index; write index or index:confidence")
    label = int(index) if len(index) < 19 else 10**18
    if class_num is not None and label >= class_num:
        raise ImageListError(f"the class is not below class_num {class_num}; correct it or set --class_num")
    if not colon:
        return label, 1.0
    try:
        value = float(confidence)
    except ValueError:
        value = float("nan")
    if not is_confidence(value):
        raise ImageListError(f"the confidence must be a number from {MIN_CONFIDENCE:g} to 1, or -1 for unknown")
    return label, value


def is_confidence(value) -> bool:
    """Whether a number may stand in a list: from MIN_CONFIDENCE to 1, or -1."""
    return MIN_CONFIDENCE <= value <= 1 or value == -1


def read(path, class_num=None, require_labels=True) -> Iterator[Row]:
    """Yields the `Row` of each line that is not empty; see `parse_line`."""
    for _, row in read_with_lines(path, class_num, require_labels):
        yield row


def read_with_lines(path, class_num=None, require_labels=True) -> Iterator[tuple[str, Row]]:
    """Yields "FILE:LINE" and the `Row` of each line that is not empty; see `parse_line`."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            text = decode_line(line, where)
            if text:
                yield where, parse_line(text, class_num, where, require_labels)


def decode_line(line, where) -> str:
    """Returns the text of a line's bytes without its end; "" if there is only white space. Raises ImageListError."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImageListError(f"{where}: not UTF-8 at byte {error.start + 1}; convert the file, with iconv") from error
    return text.rstrip("\r\n") if text.strip() else ""


def write(path, rows):
    """Writes `rows` as a list, under a temporary name first. A confidence of 1 is left out.

    Raises ImageListError for a row that could not be read again.
    """
    with atomic_write(path) as temp_path, open(temp_path, "w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows, start=1):
            file.write(format_row(row, f"{path}:{number}"))


def format_row(row, where) -> str:
    """Returns a line, with its end, for a `Row`. Raises ImageListError for one that could not be read again."""
    if not can_hold(row.path):
        raise ImageListError(f"{where}: a path is empty, holds a tab or line end, or is not UTF-8: {row.path!r}")
    if not all(map(is_confidence, row.confidences)):
        raise ImageListError(
            f"{where}: '{row.path[:80]}' has a confidence that is neither from {MIN_CONFIDENCE:g} to 1 nor -1: "
            f"{', '.join(map(str, row.confidences))[:80]}"
        )
    # The tab stands even where no label follows: without one, spaces in a path would separate.
    return f"{row.path}\t{format_labels(row.labels, row.confidences)}\n"


def can_hold(path) -> bool:
    """Whether a path or URL, once written, can be read again."""
    # Bytes of a file's name that are not UTF-8 are surrogates in Python; and a line may begin with a byte order mark.
    return bool(path.strip()) and not re.search("^\ufeff|[\t\r\n\ud800-\udfff]", path)


def format_labels(labels, confidences) -> str:
    """Returns the fields of classes and their confidences, between tabs."""
    pairs = zip(labels, confidences, strict=True)
    return "\t".join(str(label) if value == 1 else f"{label}:{float(value)!r}" for label, value in pairs)


def line_offsets(path) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each line that is not empty begins, and which of them have labels.

    Bytes from the start of the file, int64 [lines], and bool [lines]: nine bytes a line, so that 17.6 million lines can
    be read in any order without being held.
    """
    offsets, labeled, offset = array("q"), bytearray(), 0
    with open(path, "rb") as file:
        for line in file:
            # As text: some white space is more than one byte.
            text = line.decode("utf-8-sig", "replace")
            if text.strip():
                offsets.append(offset)
                labeled.append(_has_labels(text))
            offset += len(line)
    return np.array(offsets, np.int64), np.frombuffer(labeled, bool)


def _has_labels(text):
    """Whether labels, right or wrong ones, follow the path of a line, with its end, that is not empty."""
    _, tab, fields = text.rstrip("\r\n").partition("\t")
    return bool(fields) if tab else len(text.split(None, 1)) > 1
