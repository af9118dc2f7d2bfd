"""The checkpoint with the best validation so far, in a folder of its own."""

import json
import math
from pathlib import Path

from data_processing.files import write_json
from models import checkpoint

FILE = "validation.json"


class BestCheckpoint:
    """Keeps one checkpoint in `folder`, and beside it validation.json: its step and measures."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def offer(self, step, measures, weights):
        """Keeps the weights, name to variable, if they are better than what is there; returns the measures.

        The first of the measures decides, and more is better. Where the weights cannot be saved it says so, and the
        next better ones are tried: training goes on.
        """
        of = next(iter(measures))
        there = self.described()
        if there and not _is_better(measures[of], there["measures"].get(of)):
            return measures
        try:
            checkpoint.save(self.folder, step, weights, 1)
        except checkpoint.CheckpointError as error:
            print(f"warning: {error}", flush=True)
            return measures
        write_json(self.folder / FILE, {"step": step, "measures": defined(measures)})
        return measures

    def described(self):
        """Returns {"step": …, "measures": …} of the checkpoint that is kept, or None."""
        path = self.folder / FILE
        return json.loads(path.read_text()) if path.exists() else None


def _is_better(value, than):
    return not math.isnan(value) and (than is None or value > than)


def defined(measures):
    """Returns measures by name with None, JSON's null, in the place of those that are not defined."""
    return {name: None if math.isnan(value) else value for name, value in measures.items()}
