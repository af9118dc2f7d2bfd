"""A whole image list before hours of work with it: all lines that are wrong, and what is odd, at once."""

from typing import NamedTuple

from tqdm import tqdm

from data_processing.lists import box_list, image_list, mask_list
from data_processing.lists.image_list import ImageListError

# Lines that are shown of those that are wrong, and of those that are odd.
SHOWN_WRONG, SHOWN = 20, 5


class Noted(NamedTuple):
    """What was found often: how often, and the first of it as text."""

    count: int = 0
    first: tuple[str, ...] = ()

    def add(self, text, most=SHOWN):
        return Noted(self.count + 1, (*self.first, text) if len(self.first) < most else self.first)

    def __str__(self):
        return ", ".join(self.first) + (", …" if self.count > len(self.first) else "")


class Found(NamedTuple):
    """What is odd in a list that is right: images without labels, and classes that come twice in a line."""

    unlabeled: Noted
    repeated: Noted


def check(path, class_num, single=False) -> Found:
    """Reads a list to its end.

    Args:
      path: of the list.
      class_num: number of classes.
      single: whether each image must have one label.

    Raises ImageListError if lines are wrong: their number, and each of the first SHOWN_WRONG with what is wrong.
    """
    unlabeled, repeated = Noted(), Noted()
    for where, pairs in _parsed(path, lambda text, where: _pairs(text, class_num, where, single)):
        if not pairs:
            unlabeled = unlabeled.add(where)
        elif len({label for label, _ in pairs}) < len(pairs):
            repeated = repeated.add(where)
    return Found(unlabeled, repeated)


def check_boxes(path, class_num):
    """Reads a box list to its end. Raises ImageListError as `check` does."""
    for _ in _parsed(path, lambda text, where: box_list.parse_line(text, class_num, where)):
        pass


def check_masks(path):
    """Reads a mask list to its end. Raises ImageListError as `check` does."""
    for _ in _parsed(path, lambda text, where: mask_list.parse_line(text, None, where)):
        pass


def _parsed(path, parse):
    """Yields "FILE:LINE" and what `parse`, of text and that, makes of each line; raises ImageListError at the end."""
    wrong = Noted()
    with open(path, "rb") as file:
        lines = tqdm(file, "checking the list", unit=" lines", unit_scale=True)
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            try:
                text = image_list.decode_line(line, where)
                parsed = parse(text, where) if text else None
            except ImageListError as error:
                wrong = wrong.add(str(error), SHOWN_WRONG)
                continue
            if text:
                yield where, parsed
    if wrong.count == 1:
        raise ImageListError(wrong.first[0])
    if wrong.count:
        more = [f"and {wrong.count - SHOWN_WRONG:,} more"] if wrong.count > SHOWN_WRONG else []
        raise ImageListError("\n  ".join([f"{path}: {wrong.count:,} lines are wrong:", *wrong.first, *more]))


def _pairs(text, class_num, where, single):
    """Returns (class, confidence) of each label of a line. Raises ImageListError."""
    path, fields = image_list.split_line(text, where)
    pairs = image_list.parse_labels(fields, class_num, where)
    if single and (count := len({label for label, _ in pairs})) != 1:
        raise ImageListError(f"{where}: '{path[:80]}' has {count} labels; --label_format=single needs one an image")
    return pairs
