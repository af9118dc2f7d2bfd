"""Trains a ResNet on multi-label (or single-label) records with the weighted sigmoid loss of ML-Images.

    python train.py --data_dir=records --model_dir=out/checkpoint --resnet_size=50 --batch_size=64 --epochs=60

`--data_dir` is a folder of shards `train-….tfrecords` (and `val-…`), or one with subfolders train/ and val/. What flags
leave open follows from the records, and is said. The same command resumes from the newest checkpoint in --model_dir
with exactly the batches that would have come next. SIGTERM and Ctrl-C stop it after the current step, with a
checkpoint; others are written every 20 minutes, or `--snapshot` steps. At each validation the best network so far, or
its average with `--ema_decay`, is kept in MODEL_DIR/best. One run at a time writes into a folder.

    mpirun -np 4 python train.py …

trains on four processes as on one with a batch four times as large: --batch_size is that of a process. SIGTERM to any
of them stops all with a checkpoint; to mpirun itself send SIGUSR1.
"""

import textwrap

from flags import FLAGS, config, given, run, script, settings, use

use(
    "data augmentation network loss optimizer run processes dictionary drop_rate num_gpus top_k_pred label_smoothing "
    "lr_layer_decay ema_decay"
)
script(
    __name__,
    __doc__,
    first="data_dir model_dir resnet_size image_size batch_size epochs lr loss pretrain_ckpt dry_run",
    defaults={"loss": "weighted", "batch_norm_decay": None},
)

from data_processing.records import classes, tfrecord
from data_processing.records.index import index_split
import distributed
from models.checkpoint import Metadata
from models.resnet import NetworkConfig
from tasks import classification
from training import defaults, prior, start
from training.loop import Configs, Job, train
from training.settings import flat
from training.state import TrainState
from training.train_step import make_train_step
from training.validation import make_validate, make_validate_state

# What finetune.py trains, by the kinds of its records.
FINE_TUNED = {"boxes": "a detector", "masks": "a segmenter"}


def main(argv):
    del argv
    ranks = distributed.start()
    sizes = [(0.0, FLAGS.image_size)]
    of_records = _classes(ranks)
    index = None if FLAGS.dry_run and not _has_shards() else index_split(FLAGS.data_dir, "train", of_records.count)
    kind = index.kind if index else "sparse"
    if kind in FINE_TUNED:
        raise ValueError(f"the records in {FLAGS.data_dir} hold {kind}: train {FINE_TUNED[kind]} with finetune.py")
    loss = classification.choose_loss(FLAGS.loss, "sigmoid", kind)
    processes = FLAGS.num_gpus or ranks.size if FLAGS.dry_run else ranks.size
    configs, network, chosen = defaults.complete(
        config(Configs), config(NetworkConfig), index and len(index), processes, defaults.pretraining(loss)
    )
    of_task = config(classification.ClassificationConfig, network=network)
    counted = prior.counting(index, of_records.count, FLAGS.dry_run)
    class_counts = prior.class_counts(loss, counted, of_records.count)
    task = classification.build(of_task, kind, of_records.count, loss, class_counts)
    if FLAGS.dry_run:
        if ranks.rank == 0:
            start.print_network(task, FLAGS.precision, chosen)
            _print_flags()
            start.print_plan(task, index, configs, sizes, processes, counted)
        return
    metadata = Metadata(task.head, loss, FLAGS.image_size, of_records.text)
    state = TrainState(task, FLAGS.precision, FLAGS.ema_decay, metadata)
    step = make_train_step(task, state, configs.step, ranks.rank)
    # The first process reads, the others have it from there: they may be on machines that do not see --model_dir.
    if ranks.rank == 0:
        start.print_network(task, FLAGS.precision, chosen)
        start.print_rates(configs, ranks.size)
        beginning = config(start.Beginning, new_scopes=task.new_scopes, counted=counted)
        of_run = settings() | flat(configs) | flat(network) | task.run_settings() | {"class_num": task.class_num}
        start.begin(task, state, configs.run, beginning, of_run)
    job = Job(task, state, step, index, of_records.names, sizes, configs, start.stop_on_signals())
    validate, val_index = None, None
    if configs.run.test_interval:
        val_index = start.validation_index(FLAGS.data_dir, of_records.count, FLAGS.test_interval, ranks)
    if val_index:
        validate = make_validate(task, val_index, configs.validation)
        validate = make_validate_state(job, validate, val_index, FLAGS.image_size)
    distributed.run(lambda ranks, commit: train(job, ranks, commit, validate), state.variables_by_name().values())


def _classes(ranks):
    """Returns the `RecordClasses` of --data_dir, and says where their number comes from, if the records do not say."""
    asked = given("class_num")
    of_records = classes.find(FLAGS.data_dir, "", FLAGS.dictionary, asked, FLAGS.class_num)
    if ranks.rank == 0 and of_records.guessed_from and asked is None:
        print(f"{of_records.count:,} classes ({of_records.guessed_from}); the records do not say how many")
    return of_records


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
