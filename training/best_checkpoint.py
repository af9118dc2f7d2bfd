"""The checkpoint with the best validation so far, in a folder of its own."""

import json
import math
from pathlib import Path

from models import checkpoint
from utils.files import write_json

FILE = "validation.json"


class BestCheckpoint:
    """Keeps one checkpoint in `folder`, and beside it validation.json: its step and metrics."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def save_if_better(self, step, metrics, weights):
        """Keeps the weights, name to variable, if they are better than what is there; returns the metrics.

        The first of the metrics decides, and more is better. Where the weights cannot be saved it says so, and the
        next better ones are tried: training goes on.
        """
        of = next(iter(metrics))
        there = self.described()
        if there and not _is_better(metrics[of], there["metrics"].get(of)):
            return metrics
        try:
            checkpoint.save(self.folder, step, weights, 1)
        except checkpoint.CheckpointError as error:
            print(f"warning: {error}", flush=True)
            return metrics
        write_json(self.folder / FILE, {"step": step, "metrics": defined(metrics)})
        return metrics

    def described(self):
        """Returns {"step": …, "metrics": …} of the checkpoint that is kept, or None."""
        path = self.folder / FILE
        return json.loads(path.read_text()) if path.exists() else None


def _is_better(value, than):
    return not math.isnan(value) and (than is None or value > than)


def defined(metrics):
    """Returns metrics by name with None, JSON's null, in the place of those that are not defined."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}
