"""Evaluation of predictions on records, whatever their task: an evaluator takes in all that is not corrupt.

An evaluator is an object, made by a task, with
    add(batch, outputs)                 takes in some images: dictionaries of arrays, those of valid records only
    result()                            ends it, and returns the metrics by name
    shown                               names of the metrics that are worth a line of progress
    table(skipped)                      then: the metrics as text
    write_report(folder, title)         then: tables and figures, as files
    settings(), disk_space(images)      what the metrics depend on; what it needs while it runs
It knows nothing of networks, records or flags.
"""

from typing import NamedTuple

import numpy as np


class Evaluation(NamedTuple):
    """What `evaluate` returns.

    Attributes:
      metrics: scalars by name, NaN where undefined; see the evaluator's `result`.
      skipped: names of the corrupt records, which were left out.
    """

    metrics: dict
    skipped: list


def predictions(predict, batches):
    """Yields each of `batches` without its "image", and what `predict` makes of it, as dictionaries of arrays.

    Args:
      predict: function of a batch to a dictionary of outputs, arrays or tensors [batch, …].
      batches: of `data_processing.input_pipeline.batches.evaluation_batches`.
    """
    for batch in batches:
        outputs = predict(batch)
        kept = {name: np.asarray(value) for name, value in batch.items() if name != "image"}
        yield kept, {name: np.asarray(value) for name, value in outputs.items()}


def evaluate(evaluator, predictions, max_skipped=0.01):
    """Gives predictions to an evaluator.

    Args:
      evaluator: see above.
      predictions: iterable of (batch, outputs), dictionaries of arrays [batch, …]. A batch has a "name", bytes, and
        "valid", bool, False where the record is corrupt.
      max_skipped: largest share, in [0, 1], of records that may be corrupt.

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: no record at all, too many corrupt ones, an output that is not finite, a label out of range.
      OSError: the disk is full.
    """
    skipped, seen = [], 0
    for batch, outputs in predictions:
        valid = np.asarray(batch["valid"])
        names = [name.decode(errors="replace") for name in np.asarray(batch["name"]).tolist()]
        seen += len(valid)
        skipped += [name for name, good in zip(names, valid, strict=True) if not good]
        for output, values in outputs.items():
            _check_finite(output, np.asarray(values), valid, names)
        evaluator.add(_rows(batch, valid), _rows(outputs, valid))
    if len(skipped) > max_skipped * seen:
        raise ValueError(
            f"{len(skipped):,} of {seen:,} records are corrupt, more than --max_skipped={max_skipped:g} "
            f"({', '.join(skipped[:5])}{', …' if len(skipped) > 5 else ''}); build the shards again, or allow more"
        )
    if len(skipped) == seen:
        raise ValueError(f"there is no image to evaluate among {seen:,} records")
    return Evaluation(evaluator.result(), skipped)


def _rows(arrays, chosen):
    return {name: np.asarray(array)[chosen] for name, array in arrays.items()}


def _check_finite(output, values, valid, names):
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not finite[valid].all():
        name = names[np.flatnonzero(valid & ~finite)[0]]
        raise ValueError(f"{name}: its {output} are not finite; take an older checkpoint, or --precision=float32")
