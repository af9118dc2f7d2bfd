"""How a run begins: what it says of itself, and whether it resumes or starts from other weights."""

import math
from pathlib import Path
import signal
import tempfile
import threading

import tensorflow as tf

from models import checkpoint
from training import best_checkpoint, plan
from training.schedule import STAGES, learning_rate


def print_network(task, precision):
    """Prints what is trained, and on what."""
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    print(
        f"ResNet-{task.model.name.removeprefix('resnet_')}, {task.class_num:,} classes, "
        f"{task.model.count_params() / 1e6:.1f} million values, {precision}, on the {device}"
    )


def print_rates(configs, processes):
    """Prints what the learning rates of the flags are multiplied with, in all layers and in some, if so."""
    if configs.schedule.lr_scaling == "linear":
        factor = configs.schedule.factor(processes)
        print(f"learning rates are those of the flags times {factor} (--lr_scaling=linear)")
    decay = configs.step.lr_layer_decay
    if decay != 1:
        rates = (f"{scopes[0]} {decay**k:.3g}" for k, scopes in enumerate(STAGES))
        print(f"learning rates by layer: times {', '.join(rates)}")


def print_steps(index, state, run, processes):
    """Prints how many records, steps and epochs there are, and how many of them are done.

    Args:
      index: `RecordIndex` of the training records.
      state: the `TrainState`, or None before there is one.
      run: the `RunConfig`.
      processes: how many train together.
    """
    batch = run.global_batch(processes)
    steps = len(index) / batch
    end = "without end" if run.max_iter < 0 else f"{run.max_iter:,} steps = {run.max_iter / steps:.1f} epochs"
    parts = [f"{processes} processes"] if processes > 1 else []
    parts += [f"{run.accumulate_steps} times"] if run.accumulate_steps > 1 else []
    factors = f" = {' x '.join([*parts, str(run.batch_size)])}" if parts else ""
    done = f"; done: {int(state.step):,} steps, {int(state.records_seen):,} records" if state and state.step > 0 else ""
    print(
        f"{len(index):,} records ({index.kind} labels) in {len(index.paths)} shards; batch "
        f"{batch:,}{factors}, {steps:,.1f} steps an epoch; {end}{done}",
        flush=True,
    )


def print_plan(task, index, configs, sizes, processes):
    """Prints steps, rates, and what a process needs and sends, of a run that is not made.

    Args:
      task: a `tasks.base.Task`.
      index: `RecordIndex` of the training records, or None.
      configs: the `loop.Configs`.
      sizes: of the images, [(epoch, size), …].
      processes: how many would train together.
    """
    run, schedule = configs.run, configs.schedule
    print_rates(configs, processes)
    batch = run.global_batch(processes)
    if index:
        print_steps(index, None, run, processes)
    else:
        print(f"batch {batch:,} = {processes} processes x {run.accumulate_steps} times x {run.batch_size}")
    print(f"{'from step':>12}{'epoch':>10}{'learning rate':>16}")
    for step, rate in plan.boundaries(lambda step: learning_rate(step, schedule, processes), max(run.max_iter, 1)):
        print(f"{step:12,} {f'{step * batch / len(index):.2f}' if index else '-':>9}{rate:16.6g}")
    needed = plan.memory(task.model, run.batch_size, max(size for _, size in sizes))
    print(
        f"memory of a process: {needed['state'] / 1e9:.2f} GB for weights, momenta and gradients, about "
        f"{needed['activations'] / 1e9:.2f} GB for the activations of {run.batch_size} images"
    )
    trainable = sum(math.prod(v.shape) for v in task.model.trainable_variables)
    gradients = trainable * (4 if configs.step.compression == "none" else 2)
    print(
        f"a process sends in a step: {plan.bytes_sent(gradients, processes) / 1e6:.1f} MB of gradients, "
        f"{plan.bytes_sent(4 * task.class_num, processes) / 1e3:.1f} kB of class presence (ring of {processes})"
    )


def begin(task, state, run, pretrain_ckpt, new_scopes=(), seed=1234):
    """Resumes from the newest checkpoint of the run or, if there is none, begins with the weights of another.

    Args:
      task: a `tasks.base.Task`.
      state: its `TrainState`.
      run: the `RunConfig`.
      pretrain_ckpt: checkpoint to begin with, or "" for the random weights of `seed`.
      new_scopes: of the variables that it need not hold, see `checkpoint.restore_pretrained`.

    Raises ValueError for checkpoints that do not fit, OSError if nothing can be written.
    """
    for folder in (run.model_dir, run.log_dir):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    if _resume(state, run.model_dir):
        if pretrain_ckpt:
            print("--pretrain_ckpt is for the beginning of a run, and not read again")
        return
    best = Path(run.model_dir, best_checkpoint.FOLDER)
    if checkpoint.newest(best):
        raise ValueError(
            f"{best} is of a run whose checkpoints are gone; give a new --model_dir, or delete that folder"
        )
    if pretrain_ckpt:
        _start_from(checkpoint.resolve(pretrain_ckpt), task, state, new_scopes)
    else:
        hint = "; give a pre-trained network with --pretrain_ckpt" if new_scopes else ""
        print(f"starting from random weights, seed {seed}{hint}")
    if state.average:
        state.average.reset()


def _resume(state, folder):
    try:
        newest, damaged = state.restore_newest(folder)
    except checkpoint.DamagedError:
        raise
    except checkpoint.CheckpointError as error:
        raise ValueError(
            f"--model_dir={folder} holds another run, or one with other settings; give a new folder\n{error}"
        ) from error
    for error in damaged:
        print(f"warning: {error}")
    if newest:
        print(f"resuming after step {int(state.step):,}, from {newest}")
    return newest is not None


def _start_from(prefix, task, state, new_scopes):
    new = state.restore_pretrained(prefix, new_scopes)
    held = checkpoint.describe(prefix).class_num
    print(f"starting from the weights of {prefix}")
    for scope in new:
        print(f"new {scope.rstrip('/')} layer: {task.class_num:,} classes here, {held:,} in the checkpoint")


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
