"""The threshold that is best for F1, as evaluate.py leaves it beside a checkpoint for those who name classes.

`<prefix>.threshold.json`: {"threshold": a probability, "f1": the overall F1 with it, "data_dir": on which records}
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

from utils.files import write_json

ENDING = ".threshold.json"


class Threshold(NamedTuple):
    """A probability from which on a class is named, the overall F1 that it gave, and the records that it is of."""

    threshold: float
    f1: float
    data_dir: str


def path_of(prefix):
    """Returns where the threshold of the checkpoint with this prefix is."""
    return Path(f"{prefix}{ENDING}")


def write(prefix, found):
    """Writes a `Threshold` beside the checkpoint with this prefix; returns the path. Raises OSError if it cannot."""
    path = path_of(prefix)
    write_json(path, found._asdict())
    return path


def read(prefix):
    """Returns the `Threshold` of the checkpoint with this prefix, or None. Raises ValueError for a damaged file."""
    path = path_of(prefix)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Threshold(float(content["threshold"]), float(content["f1"]), str(content["data_dir"]))
        if not (0 <= found.threshold <= 1 and math.isfinite(found.f1)):
            raise ValueError(f"threshold {found.threshold}")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no threshold of evaluate.py ({error}); delete it, and run evaluate.py again, or give --threshold"
        ) from error
    return found
