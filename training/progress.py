"""What a training loop counts between two lines of progress."""

import math
import time

import numpy as np


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

    def wait(self, batches):
        """Takes the next batch, counts the time until it is there and the records that had to be replaced in it."""
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
        """Returns the metrics since the last call, by their names in TensorBoard."""
        self.check()
        seconds = time.perf_counter() - self.began
        metrics = {
            "loss": np.mean([float(result["loss"]) for _, _, result in self.results]),
            "weight_decay_loss": float(self.results[-1][2]["decay"]),
            "learning_rate": self.results[-1][1],
            **loss.shares(),
            "images_per_second": self.images / seconds,
            "data_stall": self.data_stall / seconds,
        }
        self.restart()
        return metrics
