"""What no flag may be, whichever script has it: an infinite number, or a place that cannot be reached."""

import math
import re

# gs://bucket/out, and folder:s3://bucket/images.
ADDRESS = re.compile(r"(?:^|[:,])\s*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Flags that are no places of files: an address of a server, and what a CSV's columns are called.
NO_PLACES = {"url", "path_column", "label_column", "separator"}


def check(flag_values):
    """Raises ValueError for the first flag of absl's `flag_values` that is such."""
    for name in flag_values:
        value = flag_values[name].value
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"--{name}={one}: give a finite number")
            if isinstance(one, str) and name not in NO_PLACES and (found := ADDRESS.search(one)):
                raise ValueError(
                    f"--{name}={one}: addresses like {found[1]}:// can be neither read nor written here; mount the "
                    "storage, or copy the files to a disk, and give that path"
                )


def is_number(text):
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def steps(text):
    """Returns the steps that FIRST:LAST names, a range of numbers from 1 on; none for "". ValueError for all else."""
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text, re.ASCII)
    first, last = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(f"{text} is not FIRST:LAST")
    return range(first, last + 1)


def are_steps(text):
    """Whether `steps` understands a text."""
    try:
        return steps(text) is not None
    except ValueError:
        return False


def positive(name, texts):
    """Returns the numbers in the list of texts of the flag `name`, a tuple; ValueError if one is not above 0."""
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"--{name}={','.join(texts)}: give numbers above 0 with commas between")
    return numbers
