"""Trains a ResNet on multi-label (or single-label) records with the weighted sigmoid loss of ML-Images.

    python train.py --data_dir=records --class_num=11166 --model_dir=out/checkpoint --batch_size=64 --lr=0.01

`--data_dir` is a folder of shards `train-….tfrecords` (and `val-…`), or one with subfolders train/ and val/. The same
command goes on from the newest checkpoint in --model_dir with exactly the batches that would have come next. SIGTERM
and Ctrl-C stop it after the current step, with a checkpoint.

    mpirun -np 4 python train.py …

trains on four processes as on one with a batch four times as large: --batch_size is that of a process. SIGTERM to any
of them stops all with a checkpoint; to mpirun itself send SIGUSR1.
"""

import collections
import functools
import itertools
import math
from pathlib import Path
import signal
import tempfile
import textwrap
import threading
import time

from flags import FLAGS, OBSOLETE, checked
from absl import app
import numpy as np
import tensorflow as tf

from data_processing import dataset, dictionary, tfrecord
from data_processing.image_preprocessing import Augmentation
import distributed
from models import checkpoint, metrics, plan
from models.learning_rate import learning_rate
from models.losses import WeightedSigmoidLoss
from models.meter import Meter
from models.resnet import build_resnet, resolve_data_format
from models.train_step import make_train_step

LOG_INTERVAL = 100
PICTURES_SHOWN = 8
# What of `metrics.evaluate` is worth watching during training, of multi-label and of single-label records.
VALIDATED = ("macro_map", "micro_ap", "macro_auc", "f1_top_k", "top_1", "top_5")


def main(argv):
    del argv
    ranks = distributed.start()
    index = None if FLAGS.dry_run and not _has_shards() else _index("train")
    names = dictionary.read_names(FLAGS.dictionary) if FLAGS.dictionary else None
    model = build_resnet(
        int(FLAGS.resnet_size),
        FLAGS.class_num,
        data_format=resolve_data_format(FLAGS.data_format),
        precision=FLAGS.precision,
        batch_norm_decay=FLAGS.batch_norm_decay,
        batch_norm_epsilon=FLAGS.batch_norm_epsilon,
        seed=FLAGS.random_seed,
    )
    if FLAGS.dry_run:
        if ranks.rank == 0:
            _describe(model)
            _print_plan(model, index, ranks._replace(size=FLAGS.num_gpus or ranks.size))
        return
    loss = WeightedSigmoidLoss(
        FLAGS.class_num, FLAGS.mask_thres, FLAGS.neg_select, seed=FLAGS.random_seed, anywhere=distributed.anywhere
    )
    weights = checkpoint.model_variables(model)
    step, optimizer_state = make_train_step(
        model,
        weights,
        loss,
        weight_decay=FLAGS.weight_decay,
        momentum=FLAGS.opt_momentum,
        precision=FLAGS.precision,
        xla=FLAGS.xla,
        accumulate_steps=FLAGS.accumulate_steps,
        average=functools.partial(distributed.average, compression=FLAGS.compression),
    )
    records_seen = tf.Variable(0, dtype=tf.int64, trainable=False)
    state = weights | optimizer_state | loss.variables_by_name() | {"records_seen": records_seen}
    # The first process reads, the others have it from there: they may be on machines that do not see --model_dir.
    if ranks.rank == 0:
        _describe(model)
        _start(weights, state)
    stop = _stop_on_signals()

    def train_as(ranks, commit):
        train(step, loss, index, state, names, _make_validation(model, ranks), ranks, commit, stop)

    distributed.run(train_as, state.values())


def _index(split):
    """Finds and indexes the records of "train" or "val" under --data_dir."""
    index = dataset.index_records(tfrecord.shard_paths(FLAGS.data_dir, split), FLAGS.class_num)
    for problem in index.problems:
        print(f"warning: {problem}")
    return index


def _has_shards():
    try:
        return bool(tfrecord.shard_paths(FLAGS.data_dir, "train"))
    except (ValueError, OSError) as error:
        print(f"planning without records: {error}")
        return False


def _print_plan(model, index, ranks):
    """Prints the flags, steps, rates, and what a process needs and sends, of a run of `ranks.size` processes."""
    shared = [flag for flag in FLAGS.flags_by_module_dict()["flags"] if flag.name not in OBSOLETE]
    print(textwrap.fill(" ".join(f"--{flag.name}={flag.value}" for flag in shared), 120, break_on_hyphens=False))
    batch = _global_batch(ranks)
    if index:
        _describe_steps(index, 0, 0, ranks)
    else:
        print(f"batch {batch:,} = {ranks.size} processes x {FLAGS.accumulate_steps} times x {FLAGS.batch_size}")
    print(f"{'from step':>12}{'epoch':>10}{'learning rate':>16}")
    for step, rate in plan.stairs(lambda step: _learning_rate(step, ranks), max(FLAGS.max_iter, 1)):
        print(f"{step:12,} {f'{step * batch / len(index):.2f}' if index else '-':>9}{rate:16.6g}")
    needed = plan.memory(model, FLAGS.batch_size, FLAGS.image_size)
    print(
        f"memory of a process: {needed['state'] / 1e9:.2f} GB for weights, momenta and gradients, about "
        f"{needed['activations'] / 1e9:.2f} GB for the activations of {FLAGS.batch_size} pictures"
    )
    trainable = sum(math.prod(v.shape) for v in model.trainable_variables)
    gradients = trainable * (4 if FLAGS.compression == "none" else 2)
    print(
        f"a process sends in a step: {plan.bytes_sent(gradients, ranks.size) / 1e6:.1f} MB of gradients, "
        f"{plan.bytes_sent(4 * FLAGS.class_num, ranks.size) / 1e3:.1f} kB of class presence (ring of {ranks.size})"
    )


def _describe(model):
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    print(
        f"ResNet-{FLAGS.resnet_size}, {FLAGS.class_num:,} classes, {model.count_params() / 1e6:.1f} million values, "
        f"{FLAGS.precision}, on the {device}"
    )


def _global_batch(ranks):
    return FLAGS.batch_size * FLAGS.accumulate_steps * ranks.size


def _describe_steps(index, done, seen, ranks):
    steps = len(index) / _global_batch(ranks)
    end = "without end" if FLAGS.max_iter < 0 else f"{FLAGS.max_iter:,} steps = {FLAGS.max_iter / steps:.1f} epochs"
    parts = [f"{ranks.size} processes"] if ranks.size > 1 else []
    parts += [f"{FLAGS.accumulate_steps} times"] if FLAGS.accumulate_steps > 1 else []
    made_of = f" = {' x '.join([*parts, str(FLAGS.batch_size)])}" if parts else ""
    before = f"; done: {done:,} steps, {seen:,} records" if done else ""
    print(
        f"{len(index):,} records ({index.kind} labels) in {len(index.paths)} shards; batch "
        f"{_global_batch(ranks):,}{made_of}, {steps:,.1f} steps an epoch; {end}{before}",
        flush=True,
    )
    if FLAGS.lr_scaling == "linear":
        print(f"learning rates are those of the flags times {_lr_factor(ranks)} (--lr_scaling=linear)")


def _start(weights, state):
    """Restores the run in --model_dir, or the weights of --pretrain_ckpt; OSError if nothing can be written there."""
    for folder in (FLAGS.model_dir, FLAGS.log_dir):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    newest, damaged = checkpoint.restore_newest(FLAGS.model_dir, state)
    for error in damaged:
        print(f"warning: {error}")
    if newest:
        print(f"going on after step {checkpoint.describe(newest).step:,}, from {newest}")
    elif FLAGS.pretrain_ckpt:
        prefix = checkpoint.resolve(FLAGS.pretrain_ckpt)
        checkpoint.restore(prefix, weights)
        print(f"starting from the weights of {prefix}")
    else:
        print(f"starting from random weights, seed {FLAGS.random_seed}")


def train(step, loss, index, state, names, validate, ranks, commit, stop):
    """The loop: feed, count, log, save. The first process alone prints and writes.

    Args:
      step: function of images, labels and learning rate, see `make_train_step`.
      loss: the `WeightedSigmoidLoss`; its `step` says how many steps were done before.
      index: the training records.
      state: dictionary of the variables of a checkpoint; its "records_seen" says at which record to begin.
      names: names of the classes, or None.
      validate: function of nothing that returns measures by name, or None.
      ranks, commit: see `distributed.run`.
      stop: event that ends training after the current step.
    """
    log_interval = FLAGS.log_interval or LOG_INTERVAL
    first = ranks.rank == 0
    if first:
        _describe_steps(index, int(loss.step), int(state["records_seen"]), ranks)
    writer = tf.summary.create_file_writer(FLAGS.log_dir) if first else tf.summary.create_noop_writer()
    meter = Meter(len(index), FLAGS.max_skipped)
    first_step, first_record = int(loss.step), int(state["records_seen"])
    batches = iter(_batches(index, first_record, ranks))
    failed = None
    saved = done = first_step
    for k in range(first_step, FLAGS.max_iter) if FLAGS.max_iter >= 0 else itertools.count(first_step):
        batch = meter.wait(batches)
        if k == first_step and first:
            _show_input(writer, batch, names, k)
        rate = _learning_rate(k, ranks)
        meter.add(k, rate, step(batch["image"], batch["label"], tf.constant(rate, tf.float32)))
        done = k + 1
        state["records_seen"].assign(first_record + (done - first_step) * _global_batch(ranks))
        if done % log_interval == 0 or done == FLAGS.max_iter:
            everywhere = distributed.gather(meter.report(loss))
            if first:
                _log(writer, everywhere, done, int(state["records_seen"]) / len(index), ranks)
            _average_moving(state)
            commit()
        if FLAGS.snapshot and done % FLAGS.snapshot == 0:
            saved, failed = done, _save(meter, done, state, ranks)
        if validate and done % FLAGS.test_interval == 0:
            _average_moving(state)
            measures = validate()
            if first:
                _log_validation(writer, measures, done)
            meter.restart()
        if distributed.anywhere(tf.constant([stop.is_set()]))[0]:
            if first:
                print(f"asked to stop after step {done:,}; the same command goes on from here")
            break
    if saved != done or failed or (first and not checkpoint.newest(FLAGS.model_dir)):
        failed = _save(meter, done, state, ranks)
    writer.close()
    if failed:
        raise failed


def _batches(index, first_record, ranks):
    batches = dataset.training_batches(
        index,
        class_num=FLAGS.class_num,
        batch_size=FLAGS.batch_size * FLAGS.accumulate_steps,
        image_size=FLAGS.image_size,
        seed=FLAGS.random_seed,
        augmentation=Augmentation(
            FLAGS.crop_min_area, FLAGS.crop_min_covered, rotated=FLAGS.rotated, recoloured=FLAGS.recoloured
        ),
        start=first_record,
        rank=ranks.rank,
        size=ranks.size,
        shuffle_buffer=FLAGS.shuffle_buffer,
        threads=FLAGS.num_preprocess_threads,
    )
    return batches.map(_with_label_vectors) if index.kind == "single" else batches


def _with_label_vectors(batch):
    """Turns single labels into vectors of 0 and 1, or of -1 where a record has none."""
    unknown = batch["label"][:, None] < 0
    return batch | {"label": tf.where(unknown, -1.0, tf.one_hot(batch["label"], FLAGS.class_num))}


def _lr_factor(ranks):
    return ranks.size * FLAGS.accumulate_steps if FLAGS.lr_scaling == "linear" else 1


def _learning_rate(step, ranks):
    return _lr_factor(ranks) * learning_rate(
        step,
        lr=FLAGS.lr,
        lr_decay_step=FLAGS.lr_decay_step,
        lr_decay_factor=FLAGS.lr_decay_factor,
        warmup=FLAGS.warmup,
        lr_warmup=FLAGS.lr_warmup,
        lr_warmup_decay_step=FLAGS.lr_warmup_decay_step,
        lr_warmup_decay_factor=FLAGS.lr_warmup_decay_factor,
    )


def _average_moving(state):
    """Gives the moving averages of batch normalisation, which each process moves by its own batches, their means."""
    moving = [variable for name, variable in state.items() if "/moving_" in name]
    for variable, mean in zip(moving, distributed.average([tf.convert_to_tensor(v) for v in moving]), strict=True):
        variable.assign(mean)


def _save(meter, done, state, ranks):
    """Saves a checkpoint; returns the error if that failed: a run of weeks goes on, and tries again at the next."""
    meter.check()  # a checkpoint with a loss that is not finite would only be a trap
    _average_moving(state)
    if ranks.rank:
        return None
    try:
        print(f"step {done:,}: saved {checkpoint.save(FLAGS.model_dir, done, state, FLAGS.max_to_keep)}", flush=True)
    except checkpoint.CheckpointError as error:
        print(f"warning: {error}", flush=True)
        return error
    return None


def _stop_on_signals():
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


def _log(writer, everywhere, done, epoch, ranks):
    """Writes the measures of all processes: of losses the mean, of speeds the sum, of waiting the longest."""
    measures = {name: np.mean([one[name] for one in everywhere]) for name in everywhere[0]}
    measures["images_per_second"] *= ranks.size
    waits = [one["input_wait"] for one in everywhere]
    measures["input_wait"] = max(waits)
    with writer.as_default(done):
        for name, value in measures.items():
            tf.summary.scalar(f"train/{name}", value)
    left = ""
    if FLAGS.max_iter >= 0:
        seconds = (FLAGS.max_iter - done) * _global_batch(ranks) / measures["images_per_second"]
        left = f"  {time.strftime('%H:%M:%S', time.gmtime(seconds % 86400))} left"
        left = f"  {seconds // 86400:.0f} days{left}" if seconds >= 86400 else left
    wait = f"{max(waits):.0%}"
    if ranks.size > 1:
        wait = f"{min(waits):.0%} to {wait} (process {np.argmax(waits)})"
    print(
        f"step {done:,}  epoch {epoch:.2f}  loss {measures['loss']:.4f}  "
        f"decay {measures['weight_decay_loss']:.4f}  lr {measures['learning_rate']:.4g}  "
        f"positive {measures['positive_classes']:.1%}  selected {measures['selected_classes']:.1%}  "
        f"{measures['images_per_second']:.1f} images/s  input wait {wait}{left}",
        flush=True,
    )


def _make_validation(model, ranks):
    """Returns a function that measures `model` on the validation records, or None without --test_interval."""
    if not FLAGS.test_interval:
        return None
    index = _index("val")
    predict = tf.function(lambda images: model(images, training=False)["logits"])

    def validate():
        batches = dataset.evaluation_batches(
            index,
            class_num=FLAGS.class_num,
            batch_size=FLAGS.batch_size,
            image_size=FLAGS.image_size,
            rank=ranks.rank,
            size=ranks.size,
            threads=FLAGS.num_preprocess_threads,
        )
        predictions = distributed.gathered(metrics.predictions(predict, batches.take(FLAGS.test_iter or -1)))
        if ranks.rank:
            collections.deque(predictions, maxlen=0)
            return None
        evaluation = metrics.evaluate(
            predictions,
            FLAGS.class_num,
            top_k=FLAGS.top_k_pred,
            ap_mode="binned",
            max_skipped=FLAGS.max_skipped,
        )
        return {name: evaluation.measures[name] for name in VALIDATED if name in evaluation.measures}

    return validate


def _log_validation(writer, measures, done):
    with writer.as_default(done):
        for name, value in measures.items():
            tf.summary.scalar(f"val/{name}", value)
    print(f"step {done:,}  validation  " + "  ".join(f"{name} {value:.4f}" for name, value in measures.items()))


def _show_input(writer, batch, names, step):
    """Writes the first pictures of a batch, as the network sees them, with the names of their labels."""
    with writer.as_default(step):
        tf.summary.image("input", batch["image"][:PICTURES_SHOWN] / 2 + 0.5, max_outputs=PICTURES_SHOWN)
        rows = ["| picture | labels |", "|---|---|"]
        for name, label in zip(batch["name"].numpy()[:PICTURES_SHOWN], batch["label"].numpy(), strict=False):
            labels = ", ".join(names[i] if names else str(i) for i in np.flatnonzero(label > 0))
            rows.append(f"| {name.decode(errors='replace')} | {labels} |")
        tf.summary.text("input", "\n".join(rows))


if __name__ == "__main__":
    app.run(checked(main))
