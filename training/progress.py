"""What a training loop counts between two lines of progress, and how it reports: lines, and TensorBoard's files."""

import math
import time

import numpy as np
import tensorflow as tf

IMAGES_SHOWN = 8


class Meter:
    """What happened since the last line of progress. Losses stay on the device until a line is due."""

    def __init__(self, records, max_skipped):
        """Args: number of records in an epoch, and the share of them, in [0, 1], that may be corrupt."""
        self.records = records
        self.max_skipped = max_skipped
        self.seen = self.skipped = 0
        self.restart()

    def restart(self):
        self.results = []
        self.data_stall = 0.0
        self.images = 0
        self.began = time.perf_counter()

    def next(self, batches):
        """Returns the next batch; counts the time until it is there and the records that had to be replaced in it."""
        began = time.perf_counter()
        batch = next(batches)
        self.data_stall += time.perf_counter() - began
        valid = batch["valid"].numpy()
        self.images += len(valid)
        self.seen += len(valid)
        self.skipped += int(np.sum(~valid))
        for name in batch["name"].numpy()[~valid]:
            print(f"skipped a corrupt record: {name.decode(errors='replace') or 'unreadable'}")
        if self.skipped > self.max_skipped * max(self.seen, self.records):
            raise ValueError(
                f"{self.skipped:,} of {self.seen:,} records were corrupt, more than --max_skipped "
                f"({self.max_skipped:g}). If they hold classes from --class_num on, set that; else build the shards "
                "again, or allow more"
            )
        return batch

    def add(self, step, rate, result):
        self.results.append((step, rate, result))

    def check(self):
        """Raises ValueError, naming the step, if a loss since the last line was not finite."""
        for step, rate, result in self.results:
            if not all(math.isfinite(float(value)) for value in result.values()):
                raise ValueError(
                    f"the loss is not finite in step {step:,} (learning rate {rate:.3g}). Try a lower --lr, a longer "
                    "--warmup, or --precision=float32. The checkpoints that are there are from before."
                )

    def report(self, loss):
        """Returns the metrics of this process since the last call, by their names in TensorBoard."""
        self.check()
        seconds = time.perf_counter() - self.began
        metrics = {
            **{name: np.mean([float(result[name]) for _, _, result in self.results]) for name in ("loss", *loss.terms)},
            "weight_decay_loss": float(self.results[-1][2]["decay"]),
            "learning_rate": self.results[-1][1],
            **loss.shares(),
            "images_per_second": self.images / seconds,
            "data_stall": self.data_stall / seconds,
        }
        self.restart()
        return metrics


def log_progress(writer, reports, loss, done, run):
    """Prints a line of progress and writes it for TensorBoard.

    Args:
      writer: TensorFlow's summary writer.
      reports: of all processes, see `Meter.report`. Of losses the mean counts, of speeds the sum, of data stalls the
        longest.
      loss: whose `shares` are in the reports.
      done: steps, and epochs, a float.
      run: the `RunConfig`.
    """
    step, epoch = done
    stalls = [report["data_stall"] for report in reports]
    metrics = {name: np.mean([report[name] for report in reports]) for name in reports[0]}
    metrics["images_per_second"] *= len(reports)
    metrics["data_stall"] = max(stalls)
    with writer.as_default(step):
        for name, value in metrics.items():
            tf.summary.scalar(f"train/{name}", value)
    left = ""
    if run.max_iter >= 0:
        images = (run.max_iter - step) * run.global_batch(len(reports))
        left = f"  {_as_time(images / metrics['images_per_second'])} left"
    stall = f"{max(stalls):.0%}"
    if len(reports) > 1:
        stall = f"{min(stalls):.0%} to {stall} (process {np.argmax(stalls)})"
    terms = ", ".join(f"{name} {metrics[name]:.3f}" for name in loss.terms)
    shares = "".join(f"{name.removesuffix('_classes')} {metrics[name]:.1%}  " for name in loss.shares())
    print(
        f"step {step:,}  epoch {epoch:.2f}  loss {metrics['loss']:.4f}{f' ({terms})' if terms else ''}  "
        f"decay {metrics['weight_decay_loss']:.4f}  lr {metrics['learning_rate']:.4g}  {shares}"
        f"{metrics['images_per_second']:.1f} images/s  data stall {stall}{left}",
        flush=True,
    )


def _as_time(seconds):
    text = time.strftime("%H:%M:%S", time.gmtime(seconds % 86400))
    return f"{seconds // 86400:.0f} days  {text}" if seconds >= 86400 else text


def log_validation(writer, validation, step):
    """Prints the metrics of a `validation.Validation` and writes them for TensorBoard, with its pictures."""
    with writer.as_default(step):
        for name, value in validation.metrics.items():
            tf.summary.scalar(f"val/{name}", value)
        for k, picture in enumerate(validation.pictures):
            tf.summary.image(f"val/{k}", picture[None])
    shown = "  ".join(f"{name} {value:.4f}" for name, value in validation.metrics.items())
    print(f"step {step:,}  validation  {shown}", flush=True)


def show_input(writer, task, batch, names, step):
    """Writes some images of a batch for TensorBoard, with what they are labelled with.

    Args:
      writer: TensorFlow's summary writer.
      task: a `tasks.base.Task`, which has `pictures` and `captions` of the batch.
      batch: the first rows of one.
      names: of the classes, or None.
      step: its number.
    """
    captions = task.captions(batch, names)
    with writer.as_default(step):
        tf.summary.image("input", task.pictures(batch, names), max_outputs=len(captions))
        rows = ["| image | labels |", "|---|---|"]
        for name, caption in zip(batch["name"].numpy(), captions, strict=True):
            rows.append(f"| {name.decode(errors='replace')} | {caption} |")
        tf.summary.text("input", "\n".join(rows))
