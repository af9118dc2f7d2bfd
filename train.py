"""Trains a ResNet on multi-label (or single-label) records with the weighted sigmoid loss of ML-Images.

    python train.py --data_dir=records --class_num=11166 --model_dir=out/checkpoint --batch_size=64 --lr=0.01

`--data_dir` is a folder of shards `train-….tfrecords` (and `val-…`), or one with subfolders train/ and val/. The same
command resumes from the newest checkpoint in --model_dir with exactly the batches that would have come next. SIGTERM
and Ctrl-C stop it after the current step, with a checkpoint. With `--test_interval`, the best network so far, or its
average with `--ema_decay`, is kept in MODEL_DIR/best.

    mpirun -np 4 python train.py …

trains on four processes as on one with a batch four times as large: --batch_size is that of a process. SIGTERM to any
of them stops all with a checkpoint; to mpirun itself send SIGUSR1.
"""

import textwrap

from flags import FLAGS, config, run, script, settings, use
from absl import flags

use(
    "data augmentation network loss optimizer run processes dictionary drop_rate num_gpus label_smoothing "
    "lr_layer_decay ema_decay"
)
flags.DEFINE_enum(
    "loss",
    "weighted",
    ["weighted", "plain"],
    "weighted: the loss of ML-Images. plain: sigmoid cross-entropy, all classes alike, to compare with.",
)
script(
    __name__,
    __doc__,
    first="data_dir class_num model_dir batch_size lr max_iter resnet_size image_size pretrain_ckpt dry_run",
)

from data_processing.lists import dictionary
from data_processing.records import tfrecord
from data_processing.records.index import index_split
import distributed
from tasks import classification
from training import start
from training.loop import Configs, Job, train
from training.state import TrainState
from training.train_step import make_train_step
from training.validation import make_validate, make_validate_state


def main(argv):
    del argv
    ranks = distributed.start()
    configs = config(Configs)
    sizes = [(0.0, FLAGS.image_size)]
    index = None if FLAGS.dry_run and not _has_shards() else _index("train", ranks)
    names = dictionary.read_names(FLAGS.dictionary) if FLAGS.dictionary else None
    kind = index.kind if index else "sparse"
    task = classification.build(config(classification.ClassificationConfig), kind, FLAGS.class_num, FLAGS.loss)
    if FLAGS.dry_run:
        if ranks.rank == 0:
            start.print_network(task, FLAGS.precision)
            _print_flags()
            start.print_plan(task, index, configs, sizes, FLAGS.num_gpus or ranks.size)
        return
    state = TrainState(task, FLAGS.precision, FLAGS.ema_decay)
    step = make_train_step(task, state, configs.step, ranks.rank)
    # The first process reads, the others have it from there: they may be on machines that do not see --model_dir.
    if ranks.rank == 0:
        start.print_network(task, FLAGS.precision)
        start.print_rates(configs, ranks.size)
        start.begin(task, state, configs.run, FLAGS.pretrain_ckpt, seed=FLAGS.random_seed)
    job = Job(task, state, step, index, names, sizes, configs, start.stop_on_signals())
    validate = None
    if FLAGS.test_interval:
        val_index = _index("val", ranks)
        of_task = make_validate(task, val_index, configs.validation)
        validate = make_validate_state(job, of_task, val_index, FLAGS.image_size)
    distributed.run(lambda ranks, commit: train(job, ranks, commit, validate), state.variables_by_name().values())


def _index(split, ranks):
    return index_split(FLAGS.data_dir, split, FLAGS.class_num, quiet=ranks.rank > 0)


def _has_shards():
    try:
        return bool(tfrecord.shard_paths(FLAGS.data_dir, "train"))
    except (ValueError, OSError) as error:
        print(f"planning without records: {error}")
        return False


def _print_flags():
    text = " ".join(f"--{name}={value}" for name, value in settings().items())
    print(textwrap.fill(text, 120, break_on_hyphens=False))


if __name__ == "__main__":
    run(main)
