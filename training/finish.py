"""The end of a run that fine-tunes: the best checkpoint, with the names of its classes, evaluated in all views."""

from pathlib import Path

from data_processing.lists import dictionary
import distributed
from models import checkpoint
from training import best_checkpoint
from utils.files import write_json, write_text


def write_names(folder, text):
    """Puts the dictionary of the classes beside the checkpoints in `folder` and in its best/, for people to look at.

    `text` is that of the dictionary, or None if nobody knows the names. The checkpoints hold it, too.
    """
    for path in (Path(folder), Path(folder, best_checkpoint.FOLDER)) if text else ():
        path.mkdir(exist_ok=True)
        write_text(path / dictionary.BESIDE, text)


def evaluate_best(job, validators, index, sizes, ranks):
    """Evaluates the best checkpoint of a run in several views, and writes and prints a table of the metrics.

    Args:
      job: the `loop.Job`; its network has the weights of the best checkpoint then.
      validators: by their titles, what `make_validate` returned for views of the task, with one crop or ten, say.
      index: `RecordIndex` of the validation records.
      sizes: of the images, in pixels; each is combined with each view.
      ranks: which process this is.
    """
    folder = Path(job.configs.run.model_dir, best_checkpoint.FOLDER)
    if ranks.rank == 0:
        checkpoint.restore(checkpoint.resolve(folder), job.state.weights)
    distributed.broadcast(job.state.weights.values())
    found = {f"{size}, {title}": validate(size, ranks) for size in sizes for title, validate in validators.items()}
    if ranks.rank == 0:
        table = {title: validation.metrics for title, validation in found.items()}
        validation = job.configs.validation
        images = validation.test_iter * validation.batch_size * ranks.size
        some = 0 < images < len(index)
        _report(folder, table, f"; on {images:,} of {len(index):,} images" if some else "")


def _report(folder, table, note):
    """Writes and prints metrics by name, by size and view; a `note` says of which images, if not of all."""
    prefix = checkpoint.resolve(folder)
    step = checkpoint.describe(prefix).step
    metrics = {title: best_checkpoint.defined(row) for title, row in table.items()}
    content = {"checkpoint": prefix, "step": step, "metrics": metrics}
    write_json(folder.parent / best_checkpoint.FILE, content)
    columns = list(next(iter(table.values())))
    print(f"best checkpoint: step {step:,}, in {folder}{note}")
    width = max(12, *(len(column) + 2 for column in columns))
    print(f"{'pixels, crop':16}{''.join(f'{c:>{width}}' for c in columns)}")
    for title, row in table.items():
        print(f"{title:16}{''.join(f'{row[c]:{width}.4f}' for c in columns)}")
