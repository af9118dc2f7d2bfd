"""A profile of some steps of training, as TensorBoard shows it: what ran when, on which device, and for how long."""

import tensorflow as tf

from utils import flag_values


def profiled(numbers, steps, folder):
    """Yields the `numbers` of steps, and profiles some: of each, all that is done until the next is asked for.

    Args:
      numbers: iterable of how many steps were done before each.
      steps: FIRST:LAST, see `flag_values.steps`, or "". A run that ends, stops or fails in between has a profile of
        what it did.
      folder: of TensorBoard's files, in which the profile becomes plugins/profile/TIME/HOST.xplane.pb.
    """
    asked, done = flag_values.steps(steps), []
    try:
        for k in numbers:
            if k + 1 not in asked:
                _stop(done, folder)
                yield k
                continue
            if not done:
                tf.profiler.experimental.start(folder)
            done.append(k + 1)
            # `_r` marks it as the root, by which TensorBoard finds the steps.
            with tf.profiler.experimental.Trace("train", step_num=k + 1, _r=1):
                yield k
    finally:
        _stop(done, folder)


def _stop(done, folder):
    """Ends the profile of the steps that were `done`, if there are any, and forgets them."""
    if not done:
        return
    tf.profiler.experimental.stop()
    print(
        f"profiled steps {done[0]:,} to {done[-1]:,}, in {folder}/plugins/profile; to see it, pip install "
        f"tensorboard-plugin-profile, and tensorboard --logdir={folder}",
        flush=True,
    )
    done.clear()
