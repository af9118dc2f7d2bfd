"""How a run begins: what it says of itself, and whether it resumes or starts from other weights."""

from collections.abc import Callable
import math
from pathlib import Path
import signal
import tempfile
import threading
from typing import NamedTuple

import tensorflow as tf

from data_processing.input_pipeline import order
from data_processing.lists import dictionary
from data_processing.records import tfrecord
from data_processing.records.index import index_split
import distributed
from models import checkpoint, inference
from training import best_checkpoint, lock, plan, presence, prior, settings
from training.schedule import STAGES, learning_rate

RATES_SHOWN = 40


def print_network(task, precision, chosen=""):
    """Prints what is trained, and on what; and what `defaults.complete` has `chosen` for it."""
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    print(
        f"{task.network_name}, {task.class_num:,} classes, "
        f"{task.model.count_params() / 1e6:.1f} million values, {precision}, on the {device}"
    )
    if chosen:
        print(chosen)


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
    held = index.kind if index.kind in inference.OTHER_HEADS else f"{index.kind} labels"
    shards = f"in {len(index.paths)} shards" if index.paths else "still to be made"
    print(
        f"{len(index):,} records ({held}) {shards}; batch {batch:,}{factors}, {steps:,.1f} steps an epoch; {end}{done}",
        flush=True,
    )


def print_plan(task, index, configs, sizes, processes, counted=lambda: None):
    """Prints steps, rates, and what a process needs and sends, of a run that is not made.

    Args:
      task: a `tasks.base.Task`.
      index: `RecordIndex` of the training records, or None.
      configs: the `loop.Configs`.
      sizes: of the images, [(epoch, size), …].
      processes: how many would train together.
      counted: function to the `LabelCounts` of the training records, or to None; called where classes are looked for.
    """
    run, schedule = configs.run, configs.schedule
    print_rates(configs, processes)
    batch = run.global_batch(processes)
    if index:
        print_steps(index, None, run, processes)
    else:
        print(f"batch {batch:,} = {processes} processes x {run.accumulate_steps} times x {run.batch_size}")
    print(f"{'from step':>12}{'epoch':>10}{'learning rate':>16}")
    rates = plan.boundaries(lambda step: learning_rate(step, schedule, processes), max(run.max_iter, 1))
    # Of a cosine, which changes with each step, a tenth each.
    shown = rates if len(rates) <= RATES_SHOWN else [*rates[:: math.ceil(len(rates) / 10)], rates[-1]]
    for step, rate in shown:
        print(f"{step:12,} {f'{step * batch / len(index):.2f}' if index else '-':>9}{rate:16.6g}")
    needed = task.memory(run.batch_size, max(size for _, size in sizes))
    test = f"; to evaluate one about {needed['test'] / 1e9:.2f} GB" if "test" in needed else ""
    print(
        f"memory of a process: {needed['state'] / 1e9:.2f} GB for weights, momenta and gradients, about "
        f"{needed['activations'] / 1e9:.2f} GB for the activations of {run.batch_size} images{test}"
    )
    trainable = sum(math.prod(v.shape) for v in task.model.trainable_variables)
    of_classes = f", {plan.bytes_sent(4 * task.class_num, processes) / 1e3:.1f} kB of class presence"
    of_classes = "" if task.head in inference.OTHER_HEADS else of_classes
    gradients = trainable * (4 if configs.step.compression == "none" else 2)
    print(
        f"a process sends in a step: {plan.bytes_sent(gradients, processes) / 1e6:.1f} MB of gradients"
        f"{of_classes} (ring of {processes})"
    )
    if task.head == "sigmoid" and (counts := counted()):
        presence.print_estimate(task.loss, run, processes, counts)


class Beginning(NamedTuple):
    """What a run that is new begins with.

    Attributes:
      pretrain_ckpt: a checkpoint, or "" for random weights.
      random_seed: of these.
      new_scopes: of the variables that the checkpoint need not hold, see `checkpoint.restore_pretrained`.
      new_logits: whether it is to have new logits although those of the checkpoint fit.
      head_bias: what a user asks the biases of new logits to begin with, see `prior.head_bias`, or None.
      default_bias: what they begin with if nobody asks.
      counted: function to the `LabelCounts` of the training records.
    """

    pretrain_ckpt: str
    random_seed: int
    new_scopes: tuple[str, ...] = ()
    new_logits: bool = False
    head_bias: str | None = None
    default_bias: str = "zero"
    counted: Callable = lambda: None


def begin(task, state, run, beginning, of_run):
    """Resumes from the newest checkpoint of the run or, if there is none, begins with the weights of another.

    From here on the folder is locked, and its settings.json says what the run is made with.

    Args:
      task: a `tasks.base.Task`.
      state: its `TrainState`.
      run: the `RunConfig`.
      beginning: a `Beginning`.
      of_run: the settings of the run by the names of their flags.

    Raises ValueError for checkpoints that do not fit, OSError if nothing can be written.
    """
    for folder in (run.model_dir, run.log_dir):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    lock.hold(run.model_dir)
    best = Path(run.model_dir, best_checkpoint.FOLDER)
    for folder in (run.model_dir, best):
        checkpoint.sweep(folder)
    resumed = _resume(state, run.model_dir)
    if not state.metadata.dictionary:
        print("the classes have no names, and so no prediction will: give them with --dictionary")
    for change in settings.record(run.model_dir, of_run | {settings.ORDER: order.VERSION}, int(state.step)):
        print(change)
    if resumed:
        if beginning.pretrain_ckpt:
            print("--pretrain_ckpt is for the beginning of a run, and not read again")
        if beginning.head_bias not in (None, "zero"):
            print("--head_bias is for the beginning of a run, and not set again")
        return
    if checkpoint.newest(best):
        raise ValueError(
            f"{best} is of a run whose checkpoints are gone; give a new --model_dir, or delete that folder"
        )
    if beginning.pretrain_ckpt:
        new = _start_from(checkpoint.resolve(beginning.pretrain_ckpt), task, state, beginning)
    else:
        new = beginning.new_scopes
        print(f"starting from random weights, seed {beginning.random_seed}")
    _set_head_bias(task, state, beginning, "logits/" in new)
    if state.average:
        state.average.reset()


def _set_head_bias(task, state, beginning, is_new):
    asked = beginning.head_bias or beginning.default_bias
    if is_new and asked != "zero":
        biases = prior.head_bias(asked, task.head, task.class_num, beginning.counted)
        state.weights["logits/dense/bias"].assign(biases)
        print(f"biases of the logits begin at {biases.min():.2f} to {biases.max():.2f} (--head_bias={asked})")
    elif beginning.head_bias not in (None, "zero"):
        print(f"--head_bias={asked} is for new logits: those of the checkpoint keep their biases")


def _resume(state, folder):
    newest, held = checkpoint.describe_newest(folder)
    if newest:
        settings.check_meaning(newest, held, state.metadata)
        # Names are not lost where records come without them.
        state.metadata = state.metadata._replace(dictionary=state.metadata.dictionary or held.dictionary)
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


def _start_from(prefix, task, state, beginning):
    """Takes the weights of a checkpoint, and says which layers are new; returns their scopes."""
    other, held = _other_classes(prefix, state, beginning), checkpoint.describe(prefix)
    # What classifies pixels behind a decoder is not what does so without one.
    other_decoder = held.head == task.head == "masks" and bool(held.decoder) != bool(state.metadata.decoder)
    anew = task.class_scopes if other or other_decoder else ()
    if held.anchors != state.metadata.anchors:
        anew += tuple(scope for scope in beginning.new_scopes if scope not in task.class_scopes)
    new = state.restore_pretrained(prefix, beginning.new_scopes, anew)
    print(f"starting from the weights of {prefix}")
    for scope in new:
        if task.head in inference.OTHER_HEADS and held.head != task.head:
            why = "the checkpoint has none"
        elif other_decoder:
            why = f"--decoder={str(bool(state.metadata.decoder)).lower()} here, and not so in the checkpoint"
        elif scope in task.class_scopes:
            why = (
                f"{task.class_num:,} classes here, {held.class_num:,} in the checkpoint{f' ({other})' if other else ''}"
            )
        else:
            why = f"anchors of {state.metadata.anchors} here, {held.anchors} in the checkpoint"
        print(f"new {scope.rstrip('/')} layer: {why}")
    if other is None and not new:
        print("its classes are kept: they are as many, which not both name (--new_logits begins them anew)")
    return new


def _other_classes(prefix, state, beginning):
    """Returns why the logits of a checkpoint mean other classes than those of the state; "" if not, None if unknown."""
    if beginning.new_logits:
        return "--new_logits"
    held = inference.classes_of(prefix)
    if not (held and state.metadata.dictionary):
        return None
    return held.difference(dictionary.parse(state.metadata.dictionary, "the dictionary"))


def validation_index(data_dir, class_num, asked, ranks):
    """Returns the `RecordIndex` of the records for validation; None if there are none, and nobody `asked` for them."""
    if not asked and (missing := distributed.from_first(lambda: _missing(data_dir, "val"))):
        if ranks.rank == 0:
            print(f"no validation: {missing}")
        return None
    return index_split(data_dir, "val", class_num)


def _missing(data_dir, split):
    """Returns what the error says where there are no shards of a split; else ""."""
    try:
        tfrecord.shard_paths(data_dir, split)
    except tfrecord.RecordError as error:
        return str(error)
    return ""


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
