"""Validation on records: of a task, of the state of a run, and of the best checkpoint at the end of one."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from data_processing.input_pipeline.batches import InputConfig, evaluation_batches
import distributed
from evaluation.evaluate import evaluate, predictions
from training import best_checkpoint

# Images of a validation that are shown.
PICTURES = 8


class ValidationConfig(NamedTuple):
    """See the flags of the same names.

    Attributes:
      batch_size: images that a process computes at once.
      test_iter: batches of a process of `batch_size` images; 0: all. Where more crops of an image make batches smaller,
        there are as many more of them.
      max_skipped: share of the records that may be corrupt.
      num_preprocess_threads: records that are decoded at the same time.
    """

    batch_size: int
    test_iter: int = 0
    max_skipped: float = 0.01
    num_preprocess_threads: int = 4


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
      metrics: those of the evaluator that are in its `shown`, by name.
      pictures: some of the images with what the network says of them, each float32 [height, width, 3] in [0, 1]; none,
        if the task draws none.
    """

    metrics: dict[str, float]
    pictures: list


def make_validate(task, index, config, names=None):
    """Returns `validate(image_size, ranks)`, which returns a `Validation`; None but on the first process.

    The network is compiled once for all calls.

    Args:
      task: a `tasks.base.Task`.
      index: `RecordIndex` of the validation records, which may be of another kind than those of training.
      config: a `ValidationConfig`.
      names: of the classes, for the pictures, or None.
    """
    task = task.of_records(index.kind)
    batch_size = task.eval_batch_size(config.batch_size)
    count = -(-config.test_iter * config.batch_size // batch_size) or -1
    forward = tf.function(task.forward, autograph=False, reduce_retracing=True)

    def validate(image_size, ranks):
        pictures = []

        def predict(batch):
            outputs = forward({name: x for name, x in batch.items() if x.dtype != tf.string})
            if ranks.rank == 0 and len(pictures) < PICTURES:
                pictures.extend(task.pictures_of_outputs(batch, outputs, names)[: PICTURES - len(pictures)])
            return outputs

        inputs = InputConfig(image_size, batch_size, num_preprocess_threads=config.num_preprocess_threads)
        batches = evaluation_batches(index, task, inputs, ranks).take(count)
        evaluator = task.evaluator()
        joined = predictions(predict, batches)
        evaluation = distributed.on_first(joined, lambda batches: evaluate(evaluator, batches, config.max_skipped))
        return evaluation and Validation({name: evaluation.metrics[name] for name in evaluator.shown}, pictures)

    return validate


def make_validate_state(job, validate, index, image_size):
    """Returns `validate(ranks)`, which validates the state of a run as it is, or its average if it has one.

    It keeps what it validated in MODEL_DIR/best if that is better than what is there, and returns the `Validation`;
    None but on the first process.

    Args:
      job: the `loop.Job`.
      validate: what `make_validate` returned for its task.
      index: `RecordIndex` of the validation records.
      image_size: of the images, in pixels.
    """
    primary_metric = job.task.of_records(index.kind).primary_metric
    folder = Path(job.configs.run.model_dir, best_checkpoint.FOLDER)

    def validate_state(ranks):
        with job.state.average.in_place() if job.state.average else contextlib.nullcontext():
            validation = validate(image_size, ranks)
            if validation:
                best_checkpoint.save_if_better(folder, validation.metrics, primary_metric, job.state)
        return validation

    return validate_state
