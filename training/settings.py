"""What a run was made with, in settings.json beside its checkpoints: so that who goes on with it sees what differs."""

import json
from pathlib import Path

from data_processing.lists import dictionary
from utils.files import read_json, write_json

FILE = "settings.json"
# No flag: `order.VERSION` of the input pipeline. Runs from before it have none.
ORDER = "order_version"


def flat(config):
    """Returns the fields of a named tuple, and of those in it, by name."""
    settings = {}
    for name, value in config._asdict().items():
        settings |= flat(value) if hasattr(value, "_fields") else {name: value}
    return settings


def check_meaning(prefix, held, metadata):
    """Raises ValueError if a run cannot go on from a checkpoint of its own, since it would mean something else.

    Args:
      prefix: of the checkpoint.
      held: its `checkpoint.Description`.
      metadata: the `checkpoint.Metadata` of the run.
    """
    for name, flag in (("head", "head"), ("loss", "loss"), ("anchors", "anchor_sizes"), ("decoder", "decoder")):
        before, now = getattr(held, name), getattr(metadata, name)
        if before not in ("", None) and now not in ("", None) and before != now:
            raise ValueError(
                f"{prefix} was trained with --{flag}={before}, and this run has {name} {now}: give --{flag}={before} "
                "to go on, or a new --model_dir to begin anew"
            )
    if held.dictionary and metadata.dictionary:
        before, now = (dictionary.parse(one.dictionary, prefix) for one in (held, metadata))
        if difference := before.difference(now):
            raise ValueError(
                f"{prefix} was trained on other classes ({difference}): give the dictionary and records of that run to "
                "go on, or a new --model_dir to begin anew"
            )


def read(folder):
    """Returns the settings of the run in `folder` by the names of the flags; {} if it left none."""
    path = Path(folder, FILE)
    return read_json(path)["settings"] if path.exists() else {}


def record(folder, settings, step):
    """Writes settings.json; returns what differs from what is there, a line each.

    Args:
      folder: of the checkpoints.
      settings: by the names of the flags, and ORDER.
      step: steps done; 0 begins a new run.
    """
    path = Path(folder, FILE)
    settings = json.loads(json.dumps(settings))  # (tuples are lists in JSON)
    before = read_json(path) if step and path.exists() else {"settings": settings, "changes": []}
    differing = {
        name: [before["settings"].get(name), value]
        for name, value in settings.items()
        if before["settings"].get(name) != value
    }
    changes = before["changes"] + [{"step": step, "changed": differing}] if differing else before["changes"]
    write_json(path, {"settings": settings, "changes": changes})
    return [_line(name, old, new) for name, (old, new) in differing.items()]


def _line(name, before, now):
    if name == ORDER:
        return (
            "this run began with another order of the records, and goes on at the same place of the present one: in "
            "this epoch some records come twice, others not at all"
        )
    return f"--{name} was {_text(before)}, and is {_text(now)} from here on"


def _text(value):
    return "not set" if value is None else value
