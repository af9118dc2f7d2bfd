"""The mask list: one image a line, and where its mask lies.

    path<TAB>folder<TAB>path of its mask, relative to that folder
    path<TAB>!why no record can be made of it

Lines are read where an offset says, as those of an `image_list`.
"""

from typing import NamedTuple

from data_processing.lists import image_list
from data_processing.lists.image_list import ImageListError
from utils.files import atomic_write

BAD = "!"


class Row(NamedTuple):
    """One image.

    Attributes:
      path: of the image.
      folder: what holds its mask, or the tar that does; as `archives.read_file` takes it.
      mask: path of its mask in that folder.
      problem: why no record can be made of it, or "".
      labels: the classes in its mask, each once; a list does not hold them.
    """

    path: str
    folder: str
    mask: str
    problem: str = ""
    labels: tuple[int, ...] = ()

    @property
    def confidences(self) -> tuple[float, ...]:
        return (1.0,) * len(self.labels)


def parse_line(line, class_num, where, require_labels=False) -> Row:
    """Returns the `Row` of a line without its end; ImageListError, which names `where`, if it is not as above.

    `class_num` and `require_labels` are those of other lists, and change nothing.
    """
    path, *fields = line.split("\t")
    if not path.strip() or not fields:
        raise ImageListError(f"{where}: no path, folder and path of a mask between tabs")
    if fields[0].startswith(BAD):
        return Row(path, "", "", "\t".join(fields).removeprefix(BAD))
    if len(fields) != 2 or not all(fields):
        raise ImageListError(f"{where}: {1 + len(fields)} fields; write path, folder and path of a mask between tabs")
    return Row(path, *fields)


def write(path, rows):
    """Writes `rows` as a list, under a temporary name first. Raises ImageListError for a path that it cannot hold."""
    with atomic_write(path) as temp_path, open(temp_path, "w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows, start=1):
            fields = [row.path] if row.problem else row[:3]
            if odd := [field for field in fields if not image_list.can_hold(str(field))]:
                raise ImageListError(
                    f"{path}:{number}: a path is empty, holds a tab or line end, or is not UTF-8: {odd[0]!r}"
                )
            words = " ".join(row.problem.encode("utf-8", "replace").decode().split())
            file.write(f"{row.path}\t{BAD}{words}\n" if row.problem else "\t".join(map(str, fields)) + "\n")
