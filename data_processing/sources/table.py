"""A user's own labels, as the readers of CSV and COCO give them: images by path, classes by name."""

from typing import NamedTuple

from data_processing.sources.labeled_images import Labeled, SourceError

# Places that are printed of each thing that was found.
SHOWN = 5


class Table(NamedTuple):
    """Attributes:
    rows: an image each, labels by the names of their classes; none comes twice.
    names: of all classes, in order of appearance.
    splits: {path: "train", "val" or "test"} where the user says it, else {}.
    notes: {what was found and what becomes of it: [places]}.
    """

    rows: list[Labeled]
    names: list[str]
    splits: dict[str, str]
    notes: dict[str, list[str]]


class Collector:
    """Merges what is read, an image at a time, into a `Table`; notes what is odd, and all errors, to raise at once."""

    def __init__(self, path):
        self.path = path
        self.notes, self.errors, self._images, self._names, self._splits = {}, {}, {}, {}, {}

    def note(self, what, where):
        self.notes.setdefault(what, []).append(where)

    def error(self, what, where):
        self.errors.setdefault(what, []).append(where)

    def name(self, name):
        """Makes `name` a class, and returns it as a dictionary can hold it: on a line, between tabs."""
        if name not in self._names:
            self._names[name] = name.replace("\r\n", " ").translate(dict.fromkeys(map(ord, "\t\r\n"), " "))
        return self._names[name]

    def add(self, path, labels, where, split=""):
        """Adds an image; of one that was there before, the labels are merged, the highest confidence holds.

        Args:
          path: of the image.
          labels: {name as of `name`: confidence in (0, 1], or -1}.
          where: its place.
          split: "train", "val", "test" or "".
        """
        if path in self._images:
            self.note("images that came before, whose labels are merged", f"{where}: {path!r}")
            before = self._images[path].labels
            before.update({name: max(value, before.get(name, -1.0)) for name, value in labels.items()})
        else:
            self._images[path] = Labeled(path, labels, where)
        if split and self._splits.setdefault(path, split) != split:
            self.error(f"images that are in several splits; keep one of {self._splits[path]} and {split}", where)

    def table(self) -> Table:
        """Returns all. Raises SourceError for the errors, or if there are no images or no classes."""
        if self.errors:
            raise SourceError("\n".join(report_lines(self.errors)))
        if not self._images:
            raise SourceError(f"{self.path}: no images in it")
        if not self._names:
            raise SourceError(f"{self.path}: no image has a label; is it the right file, or column?")
        for name, kept in self._names.items():
            if name != kept:
                self.note("class names with a tab or line end, which becomes a space", repr(name))
        return Table(list(self._images.values()), list(dict.fromkeys(self._names.values())), self._splits, self.notes)


def report_lines(found):
    """Yields a line for each thing of {what: places}: how often, what, and the first places."""
    for what, places in found.items():
        yield f"{len(places):,} {what}: {', '.join(places[:SHOWN])}{', …' if len(places) > SHOWN else ''}"
