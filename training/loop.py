"""The training loop of train.py and finetune.py, and what stands around it: records, plan, start, validation."""

import collections
import itertools
import math
from pathlib import Path
import signal
import tempfile
import threading
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline import batches
from data_processing.records import tfrecord
import distributed
from evaluation import metrics
from models import checkpoint
from models.inference import images_at_once
from training import plan
from training.progress import Meter

LOG_INTERVAL = 100
IMAGES_SHOWN = 8


class Run(NamedTuple):
    """How long a run is, where it writes, and what it does how often, in steps; see the flags of the same names."""

    model_dir: str
    log_dir: str
    max_iter: int
    batch_size: int
    accumulate_steps: int
    snapshot: int
    max_to_keep: int
    log_interval: int
    test_interval: int
    max_skipped: float

    def global_batch(self, ranks):
        """The number of images in a step of all processes."""
        return self.batch_size * self.accumulate_steps * ranks.size


def index_records(data_dir, split, class_num):
    """Finds and indexes the records of "train" or "val" in a folder; prints what is wrong with its shards."""
    index = batches.index_records(tfrecord.shard_paths(data_dir, split), class_num)
    for problem in index.problems:
        print(f"warning: {problem}")
    return index


def batches(index, start, image_size, run, ranks, *, class_num, seed, augmentation, shuffle_buffer, threads):
    """Returns the endless batches of this process from the `start`-th record on, see `batches.training_batches`."""
    return batches.training_batches(
        index,
        class_num=class_num,
        batch_size=run.batch_size * run.accumulate_steps,
        image_size=image_size,
        seed=seed,
        augmentation=augmentation,
        start=start,
        rank=ranks.rank,
        size=ranks.size,
        shuffle_buffer=shuffle_buffer,
        threads=threads,
    )


def as_multi_label(batches, class_num):
    """Turns the single labels of batches into vectors of 0 and 1, or of -1 where a record has none."""

    def with_vectors(batch):
        unknown = batch["label"][:, None] < 0
        return batch | {"label": tf.where(unknown, -1.0, tf.one_hot(batch["label"], class_num))}

    return batches.map(with_vectors)


def print_network(model, precision):
    """Prints what is trained, and on what."""
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    print(
        f"ResNet-{model.name.removeprefix('resnet_')}, {model.output['logits'].shape[-1]:,} classes, "
        f"{model.count_params() / 1e6:.1f} million values, {precision}, on the {device}"
    )


def print_steps(index, done, seen, run, ranks):
    """Prints how many records, steps and epochs there are, and how many of them are done."""
    batch = run.global_batch(ranks)
    steps = len(index) / batch
    end = "without end" if run.max_iter < 0 else f"{run.max_iter:,} steps = {run.max_iter / steps:.1f} epochs"
    parts = [f"{ranks.size} processes"] if ranks.size > 1 else []
    parts += [f"{run.accumulate_steps} times"] if run.accumulate_steps > 1 else []
    made_of = f" = {' x '.join([*parts, str(run.batch_size)])}" if parts else ""
    before = f"; done: {done:,} steps, {seen:,} records" if done else ""
    print(
        f"{len(index):,} records ({index.kind} labels) in {len(index.paths)} shards; batch "
        f"{batch:,}{made_of}, {steps:,.1f} steps an epoch; {end}{before}",
        flush=True,
    )


def print_plan(model, index, run, ranks, *, image_size, learning_rate, compression):
    """Prints steps, rates, and what a process needs and sends, of a run of `ranks.size` processes.

    Args:
      index: the training records, or None.
      image_size: of the largest images, in pixels.
      learning_rate: function of the number of steps done before.
      compression: see `distributed.average`.
    """
    batch = run.global_batch(ranks)
    if index:
        print_steps(index, 0, 0, run, ranks)
    else:
        print(f"batch {batch:,} = {ranks.size} processes x {run.accumulate_steps} times x {run.batch_size}")
    print(f"{'from step':>12}{'epoch':>10}{'learning rate':>16}")
    for step, rate in plan.boundaries(learning_rate, max(run.max_iter, 1)):
        print(f"{step:12,} {f'{step * batch / len(index):.2f}' if index else '-':>9}{rate:16.6g}")
    needed = plan.memory(model, run.batch_size, image_size)
    print(
        f"memory of a process: {needed['state'] / 1e9:.2f} GB for weights, momenta and gradients, about "
        f"{needed['activations'] / 1e9:.2f} GB for the activations of {run.batch_size} images"
    )
    trainable = sum(math.prod(v.shape) for v in model.trainable_variables)
    gradients = trainable * (4 if compression == "none" else 2)
    classes = model.output["logits"].shape[-1]
    print(
        f"a process sends in a step: {plan.bytes_sent(gradients, ranks.size) / 1e6:.1f} MB of gradients, "
        f"{plan.bytes_sent(4 * classes, ranks.size) / 1e3:.1f} kB of class presence (ring of {ranks.size})"
    )


def resume(run, state):
    """Restores the newest checkpoint of the run; returns whether there is one. OSError if nothing can be written."""
    for folder in (run.model_dir, run.log_dir):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    newest, damaged = checkpoint.restore_newest(run.model_dir, state)
    for error in damaged:
        print(f"warning: {error}")
    if newest:
        print(f"resuming after step {checkpoint.describe(newest).step:,}, from {newest}")
    return newest is not None


def stop_on_signals():
    """Returns an event that SIGTERM (a cluster's farewell), SIGUSR1 or Ctrl-C sets; a second one kills as usual.

    Of these mpirun hands only SIGUSR1 on to its processes: SIGTERM and Ctrl-C make it kill them at once.
    """
    stop = threading.Event()

    def on_signal(number, frame):
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, on_signal)
    return stop


def train(
    step, loss, index, state, run, ranks, commit, stop, *, batches, size_at, learning_rate, validate=None, names=None,
    after_step=None,
):  # fmt: skip
    """The loop: feed, count, log, save. The first process alone prints and writes.

    Args:
      step: function of images, labels and learning rate, see `make_train_step`.
      loss: one of `losses`; its `step` says how many steps were done before.
      index: the training records.
      state: dictionary of the variables of a checkpoint; its "records_seen" says at which record to begin.
      run: the `Run`.
      ranks, commit: see `distributed.run`.
      stop: event that ends training after the current step.
      batches: function of the first record and the size of images to batches of this process.
      size_at: function of the epoch, a float, to the size of images. When it changes, the records go on.
      learning_rate: function of the number of steps done before.
      validate: function of the number of steps done that returns metrics by name (None but on the first), or None.
      names: names of the classes, or None.
      after_step: function of nothing that is called after each step, or None.
    """
    log_interval = run.log_interval or LOG_INTERVAL
    first = ranks.rank == 0
    if first:
        print_steps(index, int(loss.step), int(state["records_seen"]), run, ranks)
    writer = tf.summary.create_file_writer(run.log_dir) if first else tf.summary.create_noop_writer()
    meter = Meter(len(index), run.max_skipped)
    first_step, first_record = int(loss.step), int(state["records_seen"])
    feed = size = None
    failed = None
    saved = done = first_step
    for k in range(first_step, run.max_iter) if run.max_iter >= 0 else itertools.count(first_step):
        seen = first_record + (k - first_step) * run.global_batch(ranks)
        if size != (size := size_at(seen / len(index))):
            if first and feed:
                print(f"step {k:,}: images are {size} x {size} from here on", flush=True)
            feed = iter(batches(seen, size))
        batch = meter.wait(feed)
        if k == first_step and first:
            _show_input(writer, batch, names, k)
        rate = learning_rate(k)
        meter.add(k, rate, step(batch["image"], batch["label"], tf.constant(rate, tf.float32)))
        if after_step:
            after_step()
        done = k + 1
        state["records_seen"].assign(seen + run.global_batch(ranks))
        if done % log_interval == 0 or done == run.max_iter:
            everywhere = distributed.gather(meter.report(loss))
            if first:
                _log(writer, everywhere, done, int(state["records_seen"]) / len(index), run, ranks)
            _average_moving(state)
            commit()
        if run.snapshot and done % run.snapshot == 0:
            saved, failed = done, _save(meter, done, state, run, ranks)
        if validate and done % run.test_interval == 0:
            _average_moving(state)
            metrics = validate(done)
            if first:
                _log_validation(writer, metrics, done)
            meter.restart()
        if distributed.any_rank(tf.constant([stop.is_set()]))[0]:
            if first:
                print(f"asked to stop after step {done:,}; the same command resumes from here")
            break
    # Only the first process knows whether it could save, and all must take part in saving.
    unsaved = saved != done or failed is not None or (first and not checkpoint.newest(run.model_dir))
    if distributed.any_rank(tf.constant([unsaved]))[0]:
        failed = _save(meter, done, state, run, ranks)
    writer.close()
    if failed:
        raise failed
    return done


def _average_moving(state):
    """Gives the moving averages of batch normalisation, which each process moves by its own batches, their means.

    Those of a frozen layer, which has no momentum, stay as they are to the bit.
    """
    scopes = {name: name.partition("/moving_")[0] for name in state if "/moving_" in name}
    moving = [state[name] for name, scope in scopes.items() if f"{scope}/gamma/Momentum" in state]
    for variable, mean in zip(moving, distributed.average([tf.convert_to_tensor(v) for v in moving]), strict=True):
        variable.assign(mean)


def _save(meter, done, state, run, ranks):
    """Saves a checkpoint; returns the error if that failed: a run of weeks goes on, and tries again at the next."""
    meter.check()  # a checkpoint with a loss that is not finite would only be a trap
    _average_moving(state)
    if ranks.rank:
        return None
    try:
        print(f"step {done:,}: saved {checkpoint.save(run.model_dir, done, state, run.max_to_keep)}", flush=True)
    except checkpoint.CheckpointError as error:
        print(f"warning: {error}", flush=True)
        return error
    return None


def _log(writer, everywhere, done, epoch, run, ranks):
    """Writes the metrics of all processes: of losses the mean, of speeds the sum, of waiting the longest."""
    metrics = {name: np.mean([one[name] for one in everywhere]) for name in everywhere[0]}
    metrics["images_per_second"] *= ranks.size
    stalls = [one["data_stall"] for one in everywhere]
    metrics["data_stall"] = max(stalls)
    with writer.as_default(done):
        for name, value in metrics.items():
            tf.summary.scalar(f"train/{name}", value)
    left = ""
    if run.max_iter >= 0:
        seconds = (run.max_iter - done) * run.global_batch(ranks) / metrics["images_per_second"]
        left = f"  {time.strftime('%H:%M:%S', time.gmtime(seconds % 86400))} left"
        left = f"  {seconds // 86400:.0f} days{left}" if seconds >= 86400 else left
    wait = f"{max(stalls):.0%}"
    if ranks.size > 1:
        wait = f"{min(stalls):.0%} to {wait} (process {np.argmax(stalls)})"
    shares = "".join(f"{name.removesuffix('_classes')} {metrics[name]:.1%}  " for name in metrics if "_cl" in name)
    print(
        f"step {done:,}  epoch {epoch:.2f}  loss {metrics['loss']:.4f}  "
        f"decay {metrics['weight_decay_loss']:.4f}  lr {metrics['learning_rate']:.4g}  {shares}"
        f"{metrics['images_per_second']:.1f} images/s  data stall {wait}{left}",
        flush=True,
    )


def _log_validation(writer, metrics, done):
    with writer.as_default(done):
        for name, value in metrics.items():
            tf.summary.scalar(f"val/{name}", value)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"step {done:,}  validation  {shown}", flush=True)


def _show_input(writer, batch, names, step):
    """Writes the first images of a batch, as the network sees them, with the names of their labels."""
    with writer.as_default(step):
        tf.summary.image("input", batch["image"][:IMAGES_SHOWN] / 2 + 0.5, max_outputs=IMAGES_SHOWN)
        rows = ["| image | labels |", "|---|---|"]
        for name, label in zip(batch["name"].numpy()[:IMAGES_SHOWN], batch["label"].numpy(), strict=False):
            classes = np.flatnonzero(label > 0) if label.ndim else [label]
            labels = ", ".join(names[i] if names and i >= 0 else str(i) for i in classes)
            rows.append(f"| {name.decode(errors='replace')} | {labels} |")
        tf.summary.text("input", "\n".join(rows))


def measure(
    predict, index, class_num, ranks, *, batch_size, image_size, max_skipped, crop="center", threads=4, batches=0,
    top_k=5,
):  # fmt: skip
    """Returns the metrics of `predict` on records, see `metrics.evaluate` (binned); None but on the first process.

    Args:
      predict: function of images to logits, see `models.inference`.
      batches: how many to take; 0: all.
    """
    found = batches.evaluation_batches(
        index,
        class_num=class_num,
        batch_size=images_at_once(batch_size, crop),
        image_size=image_size,
        rank=ranks.rank,
        size=ranks.size,
        crop=crop,
        threads=threads,
    )
    predictions = distributed.gathered(metrics.predictions(predict, found.take(batches or -1)))
    if ranks.rank:
        collections.deque(predictions, maxlen=0)
        return None
    return metrics.evaluate(predictions, class_num, top_k=top_k, ap_mode="binned", max_skipped=max_skipped).metrics
