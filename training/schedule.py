"""The learning rate: a staircase up, then a staircase (released code; paper section 4.3) or half a cosine down; and
what it is multiplied with, layer by layer."""

import math

DECAYS = 4
# Scopes of layers, from the last to the first: the rate decays once more from each to the next.
STAGES = (("logits", "global_pool"), ("stages_3",), ("stages_2",), ("stages_1",), ("stages_0",), ("init",))


def learning_rate(
    step,
    *,
    lr,
    lr_decay_step,
    lr_decay_factor,
    warmup,
    lr_warmup,
    lr_warmup_decay_step,
    lr_warmup_decay_factor,
    lr_schedule="step",
    max_iter=0,
):
    """Returns the learning rate, a float, of `step`, the number of steps done before it.

    While step < `warmup`: lr_warmup * lr_warmup_decay_factor ** (step // lr_warmup_decay_step). From then on `lr`,
    times `lr_decay_factor` once the step is *past* 1, 2, 3 and 4 times `lr_decay_step` (counted from step 0, and the
    boundary itself still has the old value, as in the released code). A stair of 0 steps never comes. With
    `lr_schedule` "cosine" it is `lr` (1 + cos(pi x)) / 2 from then on, where x goes from 0 to 1 at step `max_iter`
    (Loshchilov and Hutter 2017, without restarts). Raises ValueError for a cosine without an end.
    """
    if lr_schedule == "cosine" and max_iter <= warmup:
        raise ValueError(f"--lr_schedule=cosine needs to know the end: set --max_iter above --warmup={warmup}")
    if step < warmup:
        boundaries = step // lr_warmup_decay_step if lr_warmup_decay_step else 0
        return lr_warmup * lr_warmup_decay_factor**boundaries
    if lr_schedule == "cosine":
        return lr * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (max_iter - warmup)))) / 2
    decays = min((step - 1) // lr_decay_step, DECAYS) if lr_decay_step and step > 0 else 0
    return lr * lr_decay_factor**decays


def layer_factor(name, decay):
    """Returns what the learning rate of the variable `name` is multiplied with: `decay` ** (stages above its own)."""
    return next(decay**k for k, scopes in enumerate(STAGES) if name.startswith(scopes))
