"""Trains a ResNet on multi-label (or single-label) records with the weighted sigmoid loss of ML-Images.

    python train.py --data_dir=records --class_num=11166 --model_dir=out/checkpoint --batch_size=64 --lr=0.01

`--data_dir` is a folder of shards `train-….tfrecords` (and `val-…`), or one with subfolders train/ and val/. The same
command resumes from the newest checkpoint in --model_dir with exactly the batches that would have come next. SIGTERM
and Ctrl-C stop it after the current step, with a checkpoint.

    mpirun -np 4 python train.py …

trains on four processes as on one with a batch four times as large: --batch_size is that of a process. SIGTERM to any
of them stops all with a checkpoint; to mpirun itself send SIGUSR1.
"""

import functools
import textwrap

from flags import AUGMENTATION, FLAGS, LEARNING_RATE, NETWORK, OBSOLETE, checked, values
from absl import app, flags
import tensorflow as tf

from data_processing.input_pipeline.transforms import Augmentation
from data_processing.lists import dictionary
from data_processing.records import tfrecord
import distributed
from losses.multi_label import SigmoidLoss, WeightedSigmoidLoss
from models import checkpoint
from models.inference import output_function
from models.resnet import build_resnet, resolve_data_format
import training
from training.schedule import learning_rate
from training.train_step import make_train_step

flags.DEFINE_enum(
    "loss",
    "weighted",
    ["weighted", "plain"],
    "weighted: the loss of ML-Images. plain: sigmoid cross-entropy, all classes alike, to compare with.",
)

# What of `metrics.evaluate` is worth watching during training, of multi-label and of single-label records.
VALIDATED = ("macro_map", "micro_ap", "macro_auc", "f1_top_k", "top_1", "top_5")


def main(argv):
    del argv
    ranks = distributed.start()
    run = training.Run(**values(training.Run._fields))
    index = None if FLAGS.dry_run and not _has_shards() else _index("train")
    names = dictionary.read_names(FLAGS.dictionary) if FLAGS.dictionary else None
    model = build_resnet(
        int(FLAGS.resnet_size),
        FLAGS.class_num,
        data_format=resolve_data_format(FLAGS.data_format),
        seed=FLAGS.random_seed,
        **values(NETWORK),
    )
    if FLAGS.dry_run:
        if ranks.rank == 0:
            _print_plan(model, index, run, ranks._replace(size=FLAGS.num_gpus or ranks.size))
        return
    if FLAGS.loss == "plain":
        loss = SigmoidLoss()
    else:
        loss = WeightedSigmoidLoss(
            FLAGS.class_num, FLAGS.mask_thres, FLAGS.neg_select, seed=FLAGS.random_seed, any_rank=distributed.any_rank
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
        training.print_network(model, FLAGS.precision)
        _print_scaling(ranks)
        if not training.resume(run, state):
            _start(weights)
    stop = training.stop_on_signals()
    predict = output_function(model, "logits")
    val_index = _index("val") if FLAGS.test_interval else None

    def train_as(ranks, commit):
        training.train(
            step,
            loss,
            index,
            state,
            run,
            ranks,
            commit,
            stop,
            batches=lambda start, size: _batches(index, start, size, run, ranks),
            size_at=lambda epoch: FLAGS.image_size,
            learning_rate=lambda step: _learning_rate(step, ranks),
            validate=(lambda done: _validate(predict, val_index, ranks)) if val_index else None,
            names=names,
        )

    distributed.run(train_as, state.values())


def _index(split):
    return training.index_records(FLAGS.data_dir, split, FLAGS.class_num)


def _has_shards():
    try:
        return bool(tfrecord.shard_paths(FLAGS.data_dir, "train"))
    except (ValueError, OSError) as error:
        print(f"planning without records: {error}")
        return False


def _print_plan(model, index, run, ranks):
    """Prints the flags, and what `training.print_plan` tells of a run of `ranks.size` processes."""
    training.print_network(model, FLAGS.precision)
    shared = [flag for flag in FLAGS.flags_by_module_dict()["flags"] if flag.name not in OBSOLETE]
    print(textwrap.fill(" ".join(f"--{flag.name}={flag.value}" for flag in shared), 120, break_on_hyphens=False))
    _print_scaling(ranks)
    training.print_plan(
        model,
        index,
        run,
        ranks,
        image_size=FLAGS.image_size,
        learning_rate=lambda step: _learning_rate(step, ranks),
        compression=FLAGS.compression,
    )


def _print_scaling(ranks):
    if FLAGS.lr_scaling == "linear":
        print(f"learning rates are those of the flags times {_lr_factor(ranks)} (--lr_scaling=linear)")


def _start(weights):
    """Takes the weights of --pretrain_ckpt, or leaves the random ones."""
    if FLAGS.pretrain_ckpt:
        prefix = checkpoint.resolve(FLAGS.pretrain_ckpt)
        checkpoint.restore(prefix, weights)
        print(f"starting from the weights of {prefix}")
    else:
        print(f"starting from random weights, seed {FLAGS.random_seed}")


def _batches(index, start, image_size, run, ranks):
    batches = training.batches(
        index,
        start,
        image_size,
        run,
        ranks,
        class_num=FLAGS.class_num,
        seed=FLAGS.random_seed,
        augmentation=Augmentation(*values(AUGMENTATION).values()),
        shuffle_buffer=FLAGS.shuffle_buffer,
        threads=FLAGS.num_preprocess_threads,
    )
    return training.as_multi_label(batches, FLAGS.class_num) if index.kind == "single" else batches


def _lr_factor(ranks):
    return ranks.size * FLAGS.accumulate_steps if FLAGS.lr_scaling == "linear" else 1


def _learning_rate(step, ranks):
    return _lr_factor(ranks) * learning_rate(step, **values(LEARNING_RATE))


def _validate(predict, index, ranks):
    metrics = training.measure(
        predict,
        index,
        FLAGS.class_num,
        ranks,
        batch_size=FLAGS.batch_size,
        image_size=FLAGS.image_size,
        max_skipped=FLAGS.max_skipped,
        threads=FLAGS.num_preprocess_threads,
        batches=FLAGS.test_iter,
        top_k=FLAGS.top_k_pred,
    )
    return {name: metrics[name] for name in VALIDATED if name in metrics} if metrics else None


if __name__ == "__main__":
    app.run(checked(main))
