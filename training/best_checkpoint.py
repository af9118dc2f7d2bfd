"""The checkpoint with the best validation so far, in a folder of its own."""

import math
from pathlib import Path

from models import checkpoint
from utils.files import read_json, write_json

FOLDER = "best"
FILE = "validation.json"


def save_if_better(folder, metrics, primary_metric, state):
    """Keeps one checkpoint in `folder`, the best, and beside it validation.json with its step and metrics.

    Args:
      folder: where; nothing else is to be there.
      metrics: of the validation after the last step, by name.
      primary_metric: name of the metric that decides; more is better, and NaN never is.
      state: the `TrainState`, whose weights are as they were validated.

    Where the weights cannot be saved it says so, and the next better ones are tried: training continues.
    """
    before = describe(folder)
    if before and not _is_better(metrics[primary_metric], before["metrics"].get(primary_metric)):
        return
    step = int(state.step)
    try:
        checkpoint.save(folder, step, state.weights, 1, state.metadata)
    except checkpoint.CheckpointError as error:
        print(f"warning: {error}", flush=True)
        return
    write_json(Path(folder, FILE), {"step": step, "metrics": defined(metrics)})


def describe(folder):
    """Returns {"step": …, "metrics": …} of the checkpoint that is kept in `folder`, or None."""
    path = Path(folder, FILE)
    if not path.exists():
        return None
    content = read_json(path)
    # Runs that began before the key had its present name.
    return {"step": content["step"], "metrics": content.get("metrics") or content["measures"]}


def _is_better(value, than):
    return not math.isnan(value) and (than is None or value > than)


def defined(metrics):
    """Returns metrics by name with None, JSON's null, in the place of those that are not defined."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}
