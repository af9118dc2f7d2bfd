"""What evaluations leave: files of numbers, and lines on what they left out and wrote."""

from collections import Counter
import json
import math

from utils.files import write_text, write_tsv

# Names of what was left out that are printed.
SHOWN = 5


def class_names(names, class_num):
    """Returns a text for each class, its index where there is no name; args as of `DetectionEvaluator`."""
    return [text or str(k) for k, (_, text) in enumerate(names or [("", "")] * class_num)]


def unique_names(names):
    """Returns names of classes; where several have one name, their indices follow it."""
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({k})" for k, name in enumerate(names)]


def write_metrics(path, content):
    """Writes a dictionary of values, texts, lists and such dictionaries as JSON; NaN, which is not defined, is null."""
    write_text(path, json.dumps(_defined(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _defined(value):
    if isinstance(value, dict):
        return {name: _defined(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def write_table(path, columns, rows):
    """Writes rows as text with tabs, below the names of their columns.

    A row's integers and texts stand as they are, floats with six digits after the point; NaN is left empty.
    """
    fields = ([("" if math.isnan(v) else f"{v:.6f}") if isinstance(v, float) else v for v in row] for row in rows)
    write_tsv(path, "\t".join(columns), fields)


def print_left_out(names, what):
    """Prints the first of the names of what was left out, each after `what` it is, and how many more there are."""
    for name in names[:SHOWN]:
        print(f"{what}: {name}")
    if len(names) > SHOWN:
        print(f"… and {len(names) - SHOWN:,} more, see metrics.json")


def print_written(folder):
    """Prints which files are in a folder, a `Path`."""
    print(f"written: {', '.join(str(path) for path in sorted(folder.iterdir()) if path.is_file())}")
