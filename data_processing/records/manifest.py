"""What stands beside the shards in a folder: what each split was made with and, when it is complete, what it holds.

    settings.json          manifest.json          rejected.tsv            of the split that was begun first
    settings-SPLIT.json    manifest-SPLIT.json    rejected-SPLIT.tsv      of every other one
    label_counts-SPLIT.json                                               of each, see `label_counts`

The first of each appear when a split is begun; the others when all of its shards are there.
"""

from pathlib import Path
import re
from typing import NamedTuple

from utils.files import create_json, read_json, write_json

# Settings that came later: what they were before.
BEFORE = {"keep_unlabeled": False, "class_num_given": True, "resize_short": 0, "jpeg_quality": 95}


class Places(NamedTuple):
    """Where the settings of a split stand, its manifest, and the list of the images that were left out."""

    settings: Path
    manifest: Path
    rejected: Path


def begun(folder, settings) -> Places | None:
    """Returns the `Places` of a split if it was begun in a folder with these `settings`, of which "split" is one.

    Raises ValueError if the folder has shards of the split that were made with others.
    """
    places = _places(folder, settings["split"])
    if not places.settings.exists():
        return None
    shards = re.compile(re.escape(settings["split"]) + r"-\d+-of-\d+\.tfrecords")
    has_records = any(shards.fullmatch(path.name) for path in folder.glob("*.tfrecords"))
    before = BEFORE | read(places.settings)
    delete = f"its {settings['split']}-*"
    return places if are_same_settings(folder, before, settings, has_records, delete) else None


def claim(folder, settings) -> Places:
    """Notes the `settings` of a split that is begun; returns its `Places`, which are those of no other split.

    Raises ValueError as `begun` does.
    """
    first = _places(folder, settings["split"])
    # Of two splits that are begun at the same time, one gets the names of the first.
    if not first.settings.exists() and create_json(first.settings, settings):
        return first
    if (places := begun(folder, settings)) is None:
        places = _places(folder, settings["split"])
        write_json(places.settings, settings)
    return places


def _places(folder, split):
    """The `Places` that a split has, or would have if it were begun now."""
    first = Places(folder / "settings.json", folder / "manifest.json", folder / "rejected.tsv")
    own = Places(*(path.with_name(f"{path.stem}-{split}{path.suffix}") for path in first))
    if own.settings.exists() or first.settings.exists() and read(first.settings).get("split") != split:
        return own
    return first


def are_same_settings(folder, before, now, has_records, delete="that one") -> bool:
    """Whether the settings `before`, which a folder was begun with, are those of `now`, two dictionaries.

    Raises ValueError if they are not and the folder has records: these bind whoever writes into it. `delete` says what
    of it would have to go.
    """
    other = [f"{name} {before.get(name)}, now {value}" for name, value in now.items() if before.get(name) != value]
    if other and has_records:
        raise ValueError(
            f"{folder} holds records made with other settings ({'; '.join(other)}); give another folder, or delete "
            f"{delete}"
        )
    return not other


def class_num(*folders) -> int | None:
    """Returns the number of classes of the records in folders, or None if no manifest in them says it.

    Raises ValueError if two manifests differ in it.
    """
    paths = [path for folder in folders for path in sorted(Path(folder).glob("manifest*.json"))]
    counts = {path: count for path in paths if (count := _class_num(path)) is not None}
    first = next(iter(counts), None)
    for path, count in counts.items():
        if count != counts[first]:
            raise ValueError(
                f"{first} is of records of {counts[first]} classes, {path} of {count}; keep the two in folders of "
                "their own, or build one of them anew"
            )
    return counts.get(first)


def _class_num(path):
    """Returns the number of classes in a manifest, or None if it is but the default."""
    settings = read(path).get("settings")
    count = settings.get("class_num") if isinstance(settings, dict) else None
    if not isinstance(count, int):
        raise ValueError(f"{path} does not say the number of classes; build the records anew with build_tfrecords.py")
    return count if settings.get("class_num_given", True) else None


def read(path) -> dict:
    """Returns what a file of JSON beside the shards holds. Raises ValueError if it is damaged."""
    content = read_json(path, "delete it, and build the records anew")
    return content if isinstance(content, dict) else {}
