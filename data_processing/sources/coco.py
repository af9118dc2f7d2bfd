"""COCO's instances_*.json as a multi-label source: an image's labels are the categories of its objects."""

import json
from pathlib import Path
import re

from data_processing.lists import image_list
from data_processing.sources.labeled_images import SourceError
from data_processing.sources.table import Collector, Table

# What is kept of an entry. Polygons, nine tenths of the file, would take gigabytes.
KEPT = {"images", "annotations", "categories", "id", "file_name", "name", "image_id", "category_id"}
# instances_train2017.json has 0.45 GB; all of it is in memory for a moment, and it is not ours.
MAX_BYTES = 2**32


def read(path) -> Table:
    """Returns the images of a file of annotations, in its order, and its categories, those without an object, too.

    Raises SourceError if it is not of this kind, with its entries that are not as they must be, all at once.
    """
    data = load(path, KEPT)
    found = Collector(path)
    images = by_id(data["images"], "images", "file_name", found)
    categories = by_id(data["categories"], "categories", "name", found)
    if not found.errors:
        categories = {key: found.name(name) for key, name in categories.items()}
    labels = {key: {} for key in images}
    for k, entry in enumerate(data["annotations"]):
        image, category = (entry.get(key) if isinstance(entry, dict) else None for key in ("image_id", "category_id"))
        if not (is_id(image) and image in images and is_id(category) and category in categories):
            found.error("annotations whose image_id or category_id is of no entry", f"{path}: annotations[{k}]")
        else:
            labels[image][categories[category]] = 1.0
    for k, (key, name) in enumerate(images.items()):
        where = f"{path}: images[{k}]"
        if image_list.can_hold(name):
            found.add(name, labels[key], where)
        else:
            found.note("images left out, whose path is empty or holds a tab or line end", f"{where}: {name!r}")
    return found.table()


def load(path, kept):
    """Returns the object of the file, with lists under its three keys; of each entry what is under the keys `kept`."""
    if (size := Path(path).stat().st_size) > MAX_BYTES:
        raise SourceError(f"{path}: {size:,} bytes, too many for annotations of COCO (at most {MAX_BYTES:,})")
    try:
        with open(path, encoding="utf-8-sig") as file:
            data = json.load(file, object_hook=lambda entry: {key: entry[key] for key in entry.keys() & kept})
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "too deep"
        raise SourceError(f"{path}: not JSON in UTF-8: {reason}; is it whole?") from error
    keys = ("images", "annotations", "categories")
    wrong = [key for key in keys if not isinstance(data, dict) or not isinstance(data.get(key), list)]
    if wrong:
        raise SourceError(f"{path}: no list of {', '.join(wrong)}; give one like instances_train2017.json of COCO")
    return data


def by_id(entries, group, key, found):
    """Returns {id: text under `key`} of entries, of those that have them."""
    texts = {}
    for k, entry in enumerate(entries):
        where = f"{found.path}: {group}[{k}]"
        number, text = (entry.get("id"), entry.get(key)) if isinstance(entry, dict) else (None, None)
        if not (is_id(number) and isinstance(text, str) and text.strip() and _is_text(text)):
            found.error(f"{group} without an id that is a number or text, or without '{key}'", where)
        elif number in texts:
            found.error(f"{group} whose id came before", f"{where}: {number!r}")
        else:
            texts[number] = text
    return texts


def _is_text(text):
    # JSON can hold halves of characters, which nothing can be named.
    return not re.search("[\0\ud800-\udfff]", text)


def is_id(value):
    """Whether a value can be an id: a number or text."""
    return isinstance(value, int | str) and not isinstance(value, bool)
