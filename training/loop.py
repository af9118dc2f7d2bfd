"""The training loop, of any task: feed, count, log, validate, save."""

from collections.abc import Callable
import itertools
import threading
import time
from typing import NamedTuple

import tensorflow as tf

from data_processing.input_pipeline.batches import InputConfig, training_batches
from data_processing.records.index import RecordIndex
import distributed
from models import checkpoint
from training import lock, progress, start
from training.presence import Presence
from training.profile import profiled
from training.schedule import ScheduleConfig, learning_rate, size_at
from training.state import TrainState
from training.train_step import StepConfig
from training.validation import ValidationConfig

LOG_INTERVAL, LOG_SECONDS = 100, 30
SAVE_SECONDS = 20 * 60
LOCK_SECONDS = 30


class RunConfig(NamedTuple):
    """How long a run is, where it writes, and what it does how often, in steps; see the flags of the same names.

    What is None `defaults.complete` fills in; but a `snapshot` of None is a checkpoint every SAVE_SECONDS, and 0 one at
    the end only. A `log_interval` of 0 is LOG_INTERVAL steps, or LOG_SECONDS where these take longer.
    """

    model_dir: str
    log_dir: str
    batch_size: int
    max_iter: int | None = None
    epochs: float | None = None
    accumulate_steps: int = 1
    snapshot: int | None = None
    max_to_keep: int = 5
    log_interval: int = 0
    test_interval: int | None = None
    max_skipped: float = 0.01
    profile: str = ""

    def global_batch(self, processes):
        """The number of images in a step of all processes."""
        return self.batch_size * self.accumulate_steps * processes


class Configs(NamedTuple):
    """How a run is made, part by part."""

    run: RunConfig
    schedule: ScheduleConfig
    step: StepConfig
    inputs: InputConfig
    validation: ValidationConfig


class Job(NamedTuple):
    """What is trained, on what, and how: all that stays the same while a run lasts.

    Attributes:
      task: a `tasks.base.Task`.
      state: its `TrainState`.
      step: see `make_train_step`.
      index: `RecordIndex` of the training records.
      names: of the classes, or None.
      sizes: of the images, see `schedule.parse_sizes`. When the size changes, the order of the records continues.
      configs: the `Configs`.
      stop: event that ends training after the current step.
    """

    task: object
    state: TrainState
    step: Callable
    index: RecordIndex
    names: list[str] | None
    sizes: list[tuple[float, int]]
    configs: Configs
    stop: threading.Event


def train(job, ranks, commit, validate=None):
    """Trains from the state's step on to the last, or until the job is asked to stop. The first process alone writes.

    Args:
      job: the `Job`.
      ranks, commit: see `distributed.run`.
      validate: function of `ranks` that validates the state and returns a `validation.Validation` (None but on the
        first).

    Returns whether the run is at its end, and whether what it ended with was validated.
    """
    state, run, first = job.state, job.configs.run, ranks.rank == 0
    _share(state, run.model_dir, first)
    if first:
        start.print_steps(job.index, state, run, ranks.size)
    writer = tf.summary.create_file_writer(run.log_dir) if first else tf.summary.create_noop_writer()
    meter = progress.Meter(len(job.index), run.max_skipped)
    first_step = int(state.step)
    saved, failed, validated = first_step, None, False
    log_due, save_due = Due(LOG_SECONDS), Due(SAVE_SECONDS)
    for k, batch in _numbered_batches(job, ranks, meter):
        if k == first_step and first:
            shown = {name: x[: progress.IMAGES_SHOWN] for name, x in batch.items()}
            progress.show_input(writer, job.task, shown, job.names, k)
        rate = learning_rate(k, job.configs.schedule, ranks.size)
        meter.add(k, rate, job.step(batch, tf.constant(rate, tf.float32)))
        state.records_seen.assign_add(run.global_batch(ranks.size))
        done = k + 1
        # What the clock says, the first process alone decides.
        due = [first and not run.log_interval and log_due(), first and run.snapshot is None and save_due()]
        stopping, logging, saving = distributed.any_rank(tf.constant([job.stop.is_set(), *due])).numpy()
        committing = done % (run.log_interval or LOG_INTERVAL) == 0 or done == run.max_iter
        if logging or committing:
            log_due.restart()
            _log(job, meter, writer, done, first)
        if committing:
            _average_moving(state)
            commit()
        validated = bool(validate and run.test_interval) and (done % run.test_interval == 0 or done == run.max_iter)
        # The best network is not kept without a checkpoint to go on from.
        by_step = done % run.snapshot == 0 if run.snapshot else validated and (run.snapshot is None or not saved)
        if saving or by_step:
            save_due.restart()
            saved, failed = done, _save(meter, state, run, ranks, by_clock=not by_step)
        if validated:
            _average_moving(state)
            validation = validate(ranks)
            if first:
                progress.log_validation(writer, validation, done)
            meter.restart()
        if stopping:
            if first:
                print(f"asked to stop after step {done:,}; the same command resumes from here")
            break
    writer.close()
    # Only the first process knows whether it could save, and all must take part in saving.
    unsaved = saved != int(state.step) or failed is not None or (first and not checkpoint.newest(run.model_dir))
    if distributed.any_rank(tf.constant([unsaved]))[0] and (failed := _save(meter, state, run, ranks)):
        raise failed
    return int(state.step) == run.max_iter, validated


def _share(state, folder, first):
    """Gives the first process the lock and what any knows of the run: in elastic training another was the first."""
    state.metadata = max(distributed.gather(state.metadata), key=lambda metadata: bool(metadata.dictionary))
    if first:
        lock.hold(folder, patience=LOCK_SECONDS)
    else:
        lock.release(folder)


def _log(job, meter, writer, done, first):
    """Prints and writes what all processes have counted since the last line."""
    reports = distributed.gather(meter.report(job.task.loss))
    if first:
        epoch = int(job.state.records_seen) / len(job.index)
        progress.log_progress(writer, reports, job.task.loss, (done, epoch), job.configs.run)


class Due:
    """Whether so many seconds have passed since the last restart."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.restart()

    def restart(self):
        self.began = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.began >= self.seconds


def _numbered_batches(job, ranks, meter):
    """Yields each step's number, which is how many were done before, and its batch of this process."""
    state, run, batches, size = job.state, job.configs.run, None, None
    first_step, first_record = int(state.step), int(state.records_seen)
    presence = Presence(job.task.loss, run.accumulate_steps, ranks)
    numbers = range(first_step, run.max_iter) if run.max_iter >= 0 else itertools.count(first_step)
    for k in profiled(numbers, run.profile if ranks.rank == 0 else "", run.log_dir):
        seen = first_record + (k - first_step) * run.global_batch(ranks.size)
        if size != (size := size_at(job.sizes, seen / len(job.index))):
            if ranks.rank == 0 and batches:
                print(f"step {k:,}: images are {size} x {size} from here on", flush=True)
            inputs = job.configs.inputs._replace(image_size=size)
            batches = iter(training_batches(job.index, job.task, inputs, seen, ranks))
        batch = meter.next(batches)
        presence.add(batch)
        yield k, batch


def _average_moving(state):
    """Gives the moving averages of batch normalisation, which each process moves by its own batches, their means."""
    moving = state.moving_statistics()
    for variable, mean in zip(moving, distributed.average([tf.convert_to_tensor(v) for v in moving]), strict=True):
        variable.assign(mean)


def _save(meter, state, run, ranks, by_clock=False):
    """Saves a checkpoint; returns the error if that failed: a run of weeks continues, and tries again at the next.

    What the clock asks for leaves the state as it is to the bit, so that the run repeats.
    """
    meter.check()  # a checkpoint with a loss that is not finite would only be a trap
    moving = state.moving_statistics()
    own = [tf.identity(variable) for variable in moving]
    _average_moving(state)
    error = _write(state, run) if ranks.rank == 0 else None
    for variable, value in zip(moving, own, strict=True) if by_clock else ():
        variable.assign(value)
    return error


def _write(state, run):
    try:
        print(f"step {int(state.step):,}: saved {state.save(run.model_dir, run.max_to_keep)}", flush=True)
    except checkpoint.CheckpointError as error:
        print(f"warning: {error}", flush=True)
        return error
    return None
