"""Fine-tunes a pre-trained network on a dataset with one class an image, or on multi-label records.

    python finetune.py --dataset=caltech256:256_ObjectCategories.tar --train_per_class=30 --data_dir=records \\
        --pretrain_ckpt=checkpoints/resnet.ckpt --model_dir=out/caltech256 --batch_size=32 --lr=0.01 --max_iter=5000

`--dataset` makes records in --data_dir, once; without it --data_dir holds records that are there. The checkpoint may be
ours or a published one; where the number of classes differs, the layer of the logits is a new one. The network with the
best validation is kept in MODEL_DIR/best, with the names of its classes; at the end it is evaluated at all --val_sizes
and --val_crops, in a table and in MODEL_DIR/validation.json. The same command resumes from the newest checkpoint, and
`mpirun` starts several processes, both as with train.py.
"""

import dataclasses

from flags import CROPS, FLAGS, config, run, script, train_per_class, use
from absl import flags

use(
    "data augmentation network loss optimizer run processes dictionary head max_rejected drop_rate FixBlock2 "
    "num_gpus val_fraction manual_dir label_smoothing lr_layer_decay ema_decay"
)
flags.DEFINE_string(
    "image_size_schedule", "", "EPOCH:SIZE,…: from which epoch on images have which size, from 0 on: 0:224,30:299."
)
flags.DEFINE_list("val_sizes", ["224", "299"], "Sizes to validate at; the last decides which checkpoint is the best.")
flags.DEFINE_multi_enum("val_crops", CROPS, CROPS, "Crops to validate with at the end; one flag each.")

# As released: fine-tuning crops images more boldly than pre-training. And --model_dir is not the folder of train.py,
# whose checkpoints this one begins from.
DEFAULTS = {"crop_min_area": 0.05, "crop_min_covered": 0.0, "model_dir": "./out/finetune/"}
script(
    __name__,
    __doc__,
    first="dataset data_dir pretrain_ckpt model_dir batch_size lr max_iter resnet_size image_size train_per_class",
    defaults=DEFAULTS,
)

from data_processing.records import build_dataset, classes
from data_processing.records.index import index_split
import distributed
from models import checkpoint
from models.resnet import freeze
from tasks import classification
from training import finish, start
from training.loop import Configs, Job, train
from training.schedule import parse_size, parse_sizes
from training.state import TrainState
from training.train_step import make_train_step
from training.validation import make_validate, make_validate_state

# What --FixBlock2 leaves to be trained (released code).
LATE_LAYERS = ("stages_2", "stages_3", "global_pool", "logits")
BATCH_NORM_WEIGHT_DECAY = 0.1  # released code: a tenth of --weight_decay


def main(argv):
    del argv
    ranks = distributed.start()
    configs = config(Configs)
    configs = configs._replace(step=configs.step._replace(batch_norm_weight_decay=BATCH_NORM_WEIGHT_DECAY))
    sizes = parse_sizes(FLAGS.image_size_schedule or f"0:{FLAGS.image_size}")
    val_sizes = [parse_size(text, "--val_sizes") for text in FLAGS.val_sizes or [""]]
    if ranks.rank == 0:
        _check_checkpoint()
    class_num, names = _classes(ranks)
    index, val_index = _indices(class_num, ranks)
    task = _task(index.kind, class_num)
    if FLAGS.dry_run:
        if ranks.rank == 0:
            start.print_network(task, FLAGS.precision)
            start.print_plan(task, index, configs, sizes, FLAGS.num_gpus or ranks.size)
        return
    state = TrainState(task, FLAGS.precision, FLAGS.ema_decay)
    step = make_train_step(task, state, configs.step, ranks.rank)
    if ranks.rank == 0:
        start.print_network(task, FLAGS.precision)
        _print_choices(task, val_sizes, val_index is not None)
        start.print_rates(configs, ranks.size)
        start.begin(task, state, configs.run, FLAGS.pretrain_ckpt, task.new_scopes, FLAGS.random_seed)
        finish.write_names(FLAGS.model_dir, FLAGS.dictionary, names)
    job = Job(task, state, step, index, names, sizes, configs, start.stop_on_signals())
    validators, validate = {}, None
    if val_index:
        views = {crop: dataclasses.replace(task, crop=crop) for crop in (task.crop, *FLAGS.val_crops)}
        validators = {crop: make_validate(view, val_index, configs.validation) for crop, view in views.items()}
        validate = make_validate_state(job, validators[task.crop], val_index, val_sizes[-1])

    def train_to_the_end(ranks, commit):
        at_end, validated = train(job, ranks, commit, validate)
        if at_end and validate:
            if not validated:
                validate(ranks)
            wanted = {crop: validators[crop] for crop in FLAGS.val_crops}
            finish.evaluate_best(job, wanted, val_index, val_sizes, ranks)

    distributed.run(train_to_the_end, state.variables_by_name().values())


def _check_checkpoint():
    """Raises ValueError for a --pretrain_ckpt that is none or of another size, before records are made for hours."""
    if FLAGS.pretrain_ckpt:
        prefix = checkpoint.resolve(FLAGS.pretrain_ckpt)
        held = checkpoint.describe(prefix).resnet_size
        if held != FLAGS.resnet_size:
            raise ValueError(f"{prefix} is a ResNet-{held}: set --resnet_size={held}, or give another checkpoint")


def _classes(ranks):
    """Makes the records of --dataset, if any; returns the number of classes and their names or None."""
    # In elastic training others may join at any time, who would not be waited for.
    if FLAGS.dataset and not distributed.ELASTIC:
        if ranks.rank == 0:
            settings = config(build_dataset.DatasetConfig, train_per_class=train_per_class(single=True))
            build_dataset.build(FLAGS.dataset, FLAGS.data_dir, settings)
        distributed.gather(None)  # the others wait for it
    asked = FLAGS.class_num if FLAGS["class_num"].present else None
    of_records = classes.find(FLAGS.data_dir, FLAGS.dataset, FLAGS.dictionary, asked, FLAGS.class_num)
    if ranks.rank == 0 and of_records.guessed_from:
        print(f"{of_records.count:,} classes ({of_records.guessed_from}); the records do not say how many")
    return of_records.count, of_records.names


def _indices(class_num, ranks):
    """Returns the indices of the records for training and for validation; of the latter None if there are none."""
    index = index_split(FLAGS.data_dir, "train", class_num, quiet=ranks.rank > 0)
    try:
        return index, index_split(FLAGS.data_dir, "val", class_num, quiet=ranks.rank > 0)
    except ValueError as error:
        if FLAGS.test_interval:
            raise
        if ranks.rank == 0:
            print(f"no validation: {error}")
        return index, None


def _task(kind, class_num):
    """Returns the task with a network of random weights, whose early layers are frozen if --FixBlock2 asks for it."""
    loss = classification.loss_of_head(FLAGS.head, kind)
    task = classification.build(config(classification.ClassificationConfig), kind, class_num, loss)
    if FLAGS.FixBlock2:
        freeze(task.model, LATE_LAYERS)
    return task


def _print_choices(task, val_sizes, validated):
    trained = f"trained: {', '.join(LATE_LAYERS)}; the rest is frozen" if FLAGS.FixBlock2 else "all layers are trained"
    print(f"{task.head} head ({'--head' if FLAGS.head else f'{task.kind} labels'}); {trained}")
    if validated:
        print(f"validated at {' and '.join(map(str, val_sizes))} pixels; the best at {val_sizes[-1]} is kept")


if __name__ == "__main__":
    run(main)
