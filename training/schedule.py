"""What changes in the course of a run, as functions of the step or the epoch.

The learning rate: a staircase up, then a staircase down (released code; paper section 4.3), half a cosine to 0 or a
power of what is left of the run; what it is multiplied with, layer by layer; and the size of the images.
"""

import math
from typing import NamedTuple

DECAYS = 4
# Scopes of layers, from the last to the first: the rate decays once more from each to the next.
STAGES = (("logits", "global_pool"), ("stages_3",), ("stages_2",), ("stages_1",), ("stages_0",), ("init",))
SMALLEST_IMAGE = 32
# Shares of the rate by the share of the run that is done.
FALLS = {"cosine": lambda done: (1 + math.cos(math.pi * done)) / 2, "poly": lambda done: (1 - done) ** 0.9}


class ScheduleConfig(NamedTuple):
    """See the flags of the same names.

    Attributes:
      lr: the rate after the warm-up; None until `defaults.complete` fills it in.
      lr_schedule: "step", "cosine" or "poly".
      lr_decay_step, lr_decay_factor: of "step": steps between two decays, and the factor of one.
      warmup: steps of warm-up.
      lr_warmup: the rate of its first step; lr_warmup_decay_step, lr_warmup_decay_factor: steps between two raises, 0
        for none, and the factor of one.
      max_iter: steps of the run, where "cosine" and "poly" end.
      lr_scaling: "none", or "linear": all rates times the number of batches in a step.
      accumulate_steps: batches of a process in a step.
    """

    lr: float | None
    lr_schedule: str = "step"
    lr_decay_step: int = 0
    lr_decay_factor: float = 0.1
    warmup: int = 0
    lr_warmup: float = 0.1
    lr_warmup_decay_step: int = 0
    lr_warmup_decay_factor: float = 1.414
    max_iter: int | None = 0
    lr_scaling: str = "none"
    accumulate_steps: int = 1

    def factor(self, processes):
        """Returns what all rates are multiplied with in a run of so many processes."""
        return processes * self.accumulate_steps if self.lr_scaling == "linear" else 1


def learning_rate(step, config, processes=1):
    """Returns the learning rate, a float, of `step`, the number of steps done before it.

    While step < `warmup`: lr_warmup * lr_warmup_decay_factor ** (step // lr_warmup_decay_step). From then on `lr`,
    times `lr_decay_factor` once the step is *past* 1, 2, 3 and 4 times `lr_decay_step` (counted from step 0, and the
    boundary itself still has the old value, as in the released code). With `lr_schedule` "cosine" it is `lr`
    (1 + cos(pi x)) / 2 from then on, where x goes from 0 to 1 at step `max_iter` (Loshchilov and Hutter 2017, without
    restarts), and with "poly" `lr` (1 - x) ** 0.9 (Chen et al. 2017, DeepLab, section 4.1). Raises ValueError for one
    of them without an end.
    """
    return config.factor(processes) * _unscaled(step, config)


def _unscaled(step, config):
    falling = config.lr_schedule
    if falling in FALLS and config.max_iter <= config.warmup:
        above = f"set --max_iter above --warmup={config.warmup}"
        raise ValueError(f"--lr_schedule={falling} needs to know the end: {above}")
    if step < config.warmup:
        raises = step // config.lr_warmup_decay_step if config.lr_warmup_decay_step else 0
        return config.lr_warmup * config.lr_warmup_decay_factor**raises
    if falling in FALLS:
        return config.lr * FALLS[falling](min(1.0, (step - config.warmup) / (config.max_iter - config.warmup)))
    decays = min((step - 1) // config.lr_decay_step, DECAYS) if config.lr_decay_step and step > 0 else 0
    return config.lr * config.lr_decay_factor**decays


def layer_factor(name, decay):
    """Returns what the learning rate of the variable `name` is multiplied with: `decay` ** (stages above its own).

    What belongs to no stage of the network, as a task's own layers, has the rate of the last ones: factor 1.
    """
    return next((decay**k for k, scopes in enumerate(STAGES) if name.startswith(scopes)), 1.0)


def parse_sizes(text):
    """Returns [(epoch, size), …] of a schedule like "0:224,30:299"; ValueError if it does not begin at 0 and rise."""
    boundaries = []
    for part in text.split(","):
        epoch, _, size = part.partition(":")
        try:
            boundaries.append((float(epoch), parse_size(size, part)))
        except ValueError as error:
            raise ValueError(
                f"--image_size_schedule={text}: '{part}' is not EPOCH:SIZE, size {SMALLEST_IMAGE} or more"
            ) from error
    epochs = [epoch for epoch, _ in boundaries]
    if (
        epochs[0] != 0
        or not all(map(math.isfinite, epochs))
        or any(a >= b for a, b in zip(epochs, epochs[1:], strict=False))
    ):
        raise ValueError(f"--image_size_schedule={text}: epochs must begin with 0 and rise")
    return boundaries


def parse_size(text, where, smallest=SMALLEST_IMAGE):
    """Returns a size in pixels; ValueError, which names `where` it stands, if `text` is none of `smallest` or more."""
    if not (text.strip().isdigit() and int(text) >= smallest):
        raise ValueError(f"{where}: '{text}' is no size in pixels, {smallest} or more")
    return int(text)


def size_at(boundaries, epoch):
    """Returns the size of images, in pixels, at an epoch, a float; `boundaries` as of `parse_sizes`."""
    return [size for begin, size in boundaries if begin <= epoch][-1]
