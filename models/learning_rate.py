"""The learning rate: a staircase up, then a staircase down (released code; paper section 4.3)."""

DECAYS = 4


def learning_rate(
    step, *, lr, lr_decay_step, lr_decay_factor, warmup, lr_warmup, lr_warmup_decay_step, lr_warmup_decay_factor
):
    """Returns the learning rate, a float, of `step`, the number of steps done before it.

    While step < `warmup`: lr_warmup * lr_warmup_decay_factor ** (step // lr_warmup_decay_step). From then on `lr`,
    times `lr_decay_factor` once the step is *past* 1, 2, 3 and 4 times `lr_decay_step` (counted from step 0, and the
    boundary itself still has the old value, as in the released code). A stair of 0 steps never comes.
    """
    if step < warmup:
        stairs = step // lr_warmup_decay_step if lr_warmup_decay_step else 0
        return lr_warmup * lr_warmup_decay_factor**stairs
    decays = min((step - 1) // lr_decay_step, DECAYS) if lr_decay_step and step > 0 else 0
    return lr * lr_decay_factor**decays
