"""How many classes are present in nearly every batch, seen in a run's first steps; what that does to its loss.

The weighted loss lets a class count less, the longer it has been present without a gap. That is meant for thousands of
classes, of which a batch shows few.
"""

import numpy as np

import distributed
from losses.multi_label import LossConfig
from losses.weighted import WeightedSigmoidLoss
from training import plan

BATCHES = 100
# Up to this share of the classes may be present that often before a run says what it does to them.
MANY = 0.05


class Presence:
    """Notes in which of the first batches each class is present: BATCHES of them since this start of the run.

    Every process notes its own. They are put together once, when the last one is there.
    """

    def __init__(self, loss, parts, ranks):
        """Args:
        loss: the task's; of those that are no multi-label losses nothing is noted.
        parts: --accumulate_steps.
        ranks: the `distributed.Ranks`.
        """
        self.loss = loss
        self.config = getattr(loss, "config", None)
        self.ranks = ranks
        self.parts = parts if self.config and self.config.presence == "part" else 1
        self.noted = [] if isinstance(self.config, LossConfig) else None
        self.images = 0

    def add(self, batch):
        """Notes a batch of this process by its "label"; prints what was seen, once, after the last of the first.

        All ranks must call it, each between the same steps.
        """
        if self.noted is None:
            return
        labels = np.asarray(batch["label"])
        parts = (labels >= self.config.mask_thres).reshape(self.parts, -1, labels.shape[-1])
        self.images = parts.shape[1]
        self.noted.append(np.packbits(parts.any(axis=1), axis=-1))
        if len(self.noted) == BATCHES:
            of_ranks = np.unpackbits(distributed.gather(np.array(self.noted)), axis=-1, count=labels.shape[-1])
            self.noted = None
            if self.ranks.rank == 0:
                self._print(of_ranks.astype(bool))

    def _print(self, present):
        """`present`: bool [ranks, steps, parts, class_num]."""
        batches = "batches"
        if self.config.presence == "global":
            present, self.images = present.any(axis=0), self.images * self.ranks.size
        elif self.ranks.size > 1 or self.parts > 1:
            batches = f"batches of each {'part' if self.parts > 1 else 'process'}"
        shares = present.reshape(-1, present.shape[-1]).mean(axis=0)
        often, class_num = int(np.sum(shares > plan.OFTEN)), len(shares)
        print(
            f"{often:,} of {class_num:,} classes ({often / class_num:.0%}) were present in more than {plan.OFTEN:.0%} "
            f"of the first {BATCHES} {batches}, of {self.images:,} images",
            flush=True,
        )
        _advise(self.loss, often / class_num, self.ranks.size)


def print_estimate(loss, run, processes, counts):
    """Prints in how many classes nearly every batch will have images, and what that does to the loss.

    Args:
      loss: the task's, of several labels.
      run: the `RunConfig`.
      processes: how many train together.
      counts: the `LabelCounts` of the training records.
    """
    images = {"global": run.global_batch(processes), "rank": run.global_batch(1), "part": run.batch_size}
    batch = images[loss.config.presence]
    share = plan.present_share(counts.confidences / max(counts.records, 1), batch)
    print(
        f"about {share:.0%} of the classes are present in more than {plan.OFTEN:.0%} of the batches, of {batch:,} "
        f"images (--presence={loss.config.presence}), by the labels of {counts.records:,} records"
    )
    _advise(loss, share, processes)


def _advise(loss, share, processes):
    """Prints which flags to try, if a `share` of the classes that is in nearly every batch is more than MANY."""
    if not (isinstance(loss, WeightedSigmoidLoss) and loss.config.adaptive_weights and share > MANY):
        return
    counted = loss.config.presence
    fewer_images = ["--presence=rank, "] if counted == "global" and processes > 1 else []
    fewer_images += ["--presence=part with --accumulate_steps, "] if counted != "part" else []
    print(
        f"--loss=weighted: these weigh {loss.config.pos_floor:g} once present ten times in a row, so they are "
        f"hardly learnt. Try {''.join(fewer_images)}--adaptive_weights=false or --loss=sigmoid: docs/losses.md",
        flush=True,
    )
