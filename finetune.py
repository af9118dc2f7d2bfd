"""Fine-tunes a pre-trained network: on classes, one or several an image, on boxes of objects, or on masks.

    python finetune.py --dataset=csv:labels.csv --images=images --data_dir=records --pretrain_ckpt=checkpoints \\
        --model_dir=out/mine

`--dataset` makes records in --data_dir, once; without it --data_dir holds records that are there. The checkpoint may be
ours or a published one; depth and image size are its own, and for classes of other names the logits are new. Epochs,
learning rate and validations follow from the number of images where flags leave them open. The network with the best
validation is kept in MODEL_DIR/best, with the names of its classes; at the end it is evaluated at all --val_sizes and
--val_crops, in a table and in MODEL_DIR/validation.json. The same command resumes from the newest checkpoint, and
`mpirun` starts several processes, both as with train.py.
"""

from flags import CROPS, FLAGS, config, given, run, script, settings, train_per_class, use
from absl import flags

use(
    "data augmentation network loss optimizer run processes dictionary head max_rejected drop_rate FixBlock2 "
    "num_gpus boxes masks val_fraction images keep_unlabeled CSV manual_dir top_k_pred label_smoothing lr_layer_decay "
    "ema_decay sbd void resize_short jpeg_quality"
)
flags.DEFINE_string(
    "image_size_schedule", "", "EPOCH:SIZE,…: from which epoch on images have which size, from 0 on: 0:224,30:299."
)
flags.DEFINE_list("val_sizes", None, "Sizes to validate at, the best by the last; if not set, that of training.")
flags.DEFINE_bool("new_logits", False, "Begin with new logits, even if the checkpoint has the same classes.")
flags.DEFINE_multi_enum("val_crops", CROPS, CROPS, "Crops to validate with at the end; one flag each.")

# As released: fine-tuning crops images more boldly than pre-training. And --model_dir is not the folder of train.py,
# whose checkpoints this one begins from.
DEFAULTS = {"crop_min_area": 0.05, "crop_min_covered": 0.0, "model_dir": "./out/finetune/"}
DEFAULTS |= dict.fromkeys(("batch_norm_decay", "head_bias"))
script(
    __name__,
    __doc__,
    first="dataset data_dir pretrain_ckpt model_dir epochs batch_size lr image_size loss train_per_class",
    defaults=DEFAULTS,
)

from data_processing.records import build_dataset, classes
from data_processing.records.index import RecordIndex, index_split
import distributed
from models import checkpoint
from models.checkpoint import Metadata
from models.resnet import NetworkConfig, train_only
from tasks import classification, detection, segmentation
from training import defaults, finish, prior, start
from training.loop import Configs, Job, train
from training.schedule import parse_size, parse_sizes
from training.settings import flat, read
from training.state import TrainState
from training.train_step import make_train_step
from training.validation import make_validate, make_validate_state
from utils import flag_values

# What --FixBlock2 leaves to be trained (released code).
LATE_LAYERS = ("stages_2", "stages_3", "global_pool", "logits")
# Flags that have a meaning for records of some kinds only.
FLAGS_OF = {
    "labels": "head loss FixBlock2 val_crops drop_rate label_smoothing xla crop_min_area crop_min_covered rotated "
    "color_jitter augment_on scaled_decode mask_thres neg_select pos_weight adaptive_weights pos_floor neg_floor "
    "presence head_bias",
    "boxes": "anchor_sizes long_side regions proposals",
    "masks": "output_stride decoder class_weights hard_share freeze_batch_norm scales flip",
}
# What records other than of labels are trained with, where flags do not say: loss, size and number of images.
DEFAULTS_OF = {"boxes": ("faster_rcnn", detection.SHORT_SIDE, 1), "masks": ("deeplab", segmentation.CROP, 16)}
FROZEN = "the first convolution, stages_0 and all batch normalisation of the backbone are frozen"
BATCH_NORM_WEIGHT_DECAY = 0.1  # released code: a tenth of --weight_decay


def main(argv):
    del argv
    ranks = distributed.start()
    held, before = distributed.from_first(_held)
    schedule = parse_sizes(FLAGS.image_size_schedule) if FLAGS.image_size_schedule else None
    of_records, index = _records(ranks)
    kind = index.kind if index.kind in DEFAULTS_OF else "labels"
    _check_flags(kind)
    image_size = _image_size(held, kind)
    sizes = schedule or [(0.0, image_size)]
    asked = [str(sizes[-1][1])] if FLAGS.val_sizes is None else FLAGS.val_sizes or [""]
    val_sizes = [parse_size(text, "--val_sizes") for text in asked]
    if kind == "labels":
        loss = classification.choose_loss(FLAGS.loss, FLAGS.head, index.kind)
    else:
        loss = DEFAULTS_OF[kind][0]
    processes = FLAGS.num_gpus or ranks.size if FLAGS.dry_run else ranks.size
    configs = config(Configs)
    configs = configs._replace(step=configs.step._replace(batch_norm_weight_decay=BATCH_NORM_WEIGHT_DECAY))
    configs, network, chosen = defaults.complete(
        configs, config(NetworkConfig), len(index), processes, defaults.fine_tuning(loss)
    )
    resnet_size = held.resnet_size if held else FLAGS.resnet_size
    counted = prior.counting(index, of_records.count, FLAGS.dry_run)
    if kind == "boxes":
        task = _detection(of_records.count, resnet_size, network, _sides_and_anchors(held, image_size), before)
    elif kind == "masks":
        task = _segmentation(of_records.count, resnet_size, network)
    else:
        class_counts = prior.class_counts(loss, counted, of_records.count)
        task = _classification(index.kind, of_records.count, loss, resnet_size, network, class_counts)
    if ranks.rank == 0:
        start.print_network(task, FLAGS.precision, chosen)
    if FLAGS.dry_run:
        if ranks.rank == 0:
            start.print_plan(task, index, configs, sizes, processes, counted)
        return
    val_index = start.validation_index(FLAGS.data_dir, of_records.count, FLAGS.test_interval, ranks)
    state = TrainState(
        task,
        FLAGS.precision,
        FLAGS.ema_decay,
        Metadata(task.head, loss, val_sizes[-1], of_records.text, **task.settings()),
    )
    step = make_train_step(task, state, configs.step, ranks.rank)
    if ranks.rank == 0:
        _print_choices(task, loss, val_sizes, val_index is not None)
        start.print_rates(configs, ranks.size)
        of_run = settings() | flat(configs) | flat(network) | task.settings() | task.run_settings()
        of_run |= {"class_num": task.class_num, "resnet_size": resnet_size, "image_size": image_size, "loss": loss}
        # Sigmoids of few steps do not learn how rare classes are and what they look like (docs/losses.md).
        bias = "prior" if task.head == "sigmoid" else "zero"
        beginning = config(start.Beginning, new_scopes=task.new_scopes, counted=counted, default_bias=bias)
        start.begin(task, state, configs.run, beginning, of_run)
        finish.write_names(FLAGS.model_dir, of_records.text)
    job = Job(task, state, step, index, of_records.names, sizes, configs, start.stop_on_signals())
    _train(job, val_index, val_sizes, ranks)


def _train(job, val_index, val_sizes, ranks):
    """Trains, with validations where there are records for them, and at the end evaluates the best in all views."""
    validators, own = {}, None
    if val_index:
        views = job.task.views(FLAGS.val_crops)
        validators = {
            title: make_validate(view, val_index, job.configs.validation, job.names) for title, view in views.items()
        }
        own = make_validate_state(job, next(iter(validators.values())), val_index, val_sizes[-1])

    def train_to_the_end(ranks, commit):
        at_end, validated = train(job, ranks, commit, own)
        if at_end and own:
            if not validated:
                own(ranks)
            wanted = {title: validators[title] for title in validators if title in FLAGS.val_crops} or validators
            finish.evaluate_best(job, wanted, val_index, val_sizes, ranks)

    distributed.run(train_to_the_end, job.state.variables_by_name().values())


def _held():
    """Returns the `Description` of the checkpoint that the run goes on from or begins with, or None; and its settings.

    The settings are those of a run that goes on, else {}, and then the image size is that of the run. Before records
    are made for hours it is known whether there is such a checkpoint.
    """
    before = {}
    prefix, held = checkpoint.describe_newest(FLAGS.model_dir)
    if held:
        before = read(FLAGS.model_dir)
        held = held._replace(image_size=before.get("image_size"))
    elif FLAGS.pretrain_ckpt:
        prefix = checkpoint.resolve(FLAGS.pretrain_ckpt)
        held = checkpoint.describe(prefix)
    if held and FLAGS["resnet_size"].present and held.resnet_size != FLAGS.resnet_size:
        raise ValueError(
            f"--resnet_size={FLAGS.resnet_size}, but {prefix} is a ResNet-{held.resnet_size}: set --resnet_size="
            f"{held.resnet_size}, or give another checkpoint"
        )
    return held, before


def _image_size(held, kind):
    """Returns the size of training images: as asked for, or as the checkpoint has it, if it is of the same task."""
    if asked := given("image_size"):
        return asked
    default = DEFAULTS_OF[kind][1] if kind in DEFAULTS_OF else FLAGS.image_size
    of_held = held.head if held and held.head in DEFAULTS_OF else "labels"
    return held.image_size or default if held and of_held == kind else default


def _check_flags(kind):
    """Raises ValueError for flags that have no meaning for the `kind` of records; sets its number of images."""
    for other, names in FLAGS_OF.items():
        present = [name for name in names.split() if FLAGS[name].present]
        if other != kind and present:
            raise ValueError(
                f"--{present[0]} is of {other}, and the records in {FLAGS.data_dir} hold {kind}; leave it out"
            )
    if kind == "masks" and FLAGS["val_sizes"].present:
        raise ValueError("--val_sizes: images with masks are validated whole, in their own sizes; leave it out")
    if kind in DEFAULTS_OF and not FLAGS["batch_size"].present:
        FLAGS.set_default("batch_size", DEFAULTS_OF[kind][2])


def _dataset_config():
    return config(build_dataset.DatasetConfig, train_per_class=train_per_class(single=True))


def _records(ranks):
    """Makes the records of --dataset, if any; returns their `RecordClasses`, and the `RecordIndex` to train on.

    For a --dry_run nothing is made, and the index is of records without a place.
    """
    planned = FLAGS.dry_run and FLAGS.dataset and build_dataset.plan(FLAGS.dataset, FLAGS.data_dir, _dataset_config())
    if planned:
        return classes.RecordClasses(planned.class_num, None), RecordIndex.of_count(planned.train, planned.kind)
    # In elastic training others may join at any time, who would not be waited for.
    if FLAGS.dataset and not distributed.ELASTIC:
        distributed.from_first(lambda: build_dataset.build(FLAGS.dataset, FLAGS.data_dir, _dataset_config()))
    asked = given("class_num")
    of_records = classes.find(FLAGS.data_dir, FLAGS.dataset, FLAGS.dictionary, asked, FLAGS.class_num)
    if ranks.rank == 0 and of_records.guessed_from:
        print(f"{of_records.count:,} classes ({of_records.guessed_from}); the records do not say how many")
    return of_records, index_split(FLAGS.data_dir, "train", of_records.count)


def _classification(kind, class_num, loss, resnet_size, network, class_counts):
    """Returns the task with a network of random weights, whose early layers are frozen if --FixBlock2 asks for it."""
    of_task = config(classification.ClassificationConfig, resnet_size=resnet_size, network=network)
    task = classification.build(of_task, kind, class_num, loss, class_counts)
    if FLAGS.FixBlock2:
        train_only(task.model, LATE_LAYERS)
    return task


def _detection(class_num, resnet_size, network, sides_and_anchors, before):
    of_task = config(
        detection.DetectionConfig,
        resnet_size=resnet_size,
        network=network,
        # As the run began: a checkpoint that it began with is not asked for again.
        from_random=before.get("from_random", not FLAGS.pretrain_ckpt),
        **sides_and_anchors,
    )
    return detection.build(of_task, class_num)


def _segmentation(class_num, resnet_size, network):
    if FLAGS.batch_size == 1:
        raise ValueError(
            "--batch_size=1: the mean of one image has no variance for ASPP's batch normalisation; give 2 or more, if "
            "need be with a smaller --image_size"
        )
    of_task = config(
        segmentation.SegmentationConfig,
        resnet_size=resnet_size,
        network=network,
        class_weights=FLAGS.class_weights and flag_values.positive("class_weights", FLAGS.class_weights),
    )
    seen = segmentation.Views(flag_values.positive("scales", FLAGS.scales), FLAGS.flip)
    return segmentation.build(of_task, class_num, seen)


def _sides_and_anchors(held, image_size):
    """Returns what a detector looks for, and in images of which size; what is not asked for, as in the checkpoint."""
    anchors = given("anchor_sizes") or (held.anchors.split(",") if held and held.anchors else FLAGS.anchor_sizes)
    return {
        "anchor_sizes": tuple(parse_size(text, "--anchor_sizes", 1) for text in anchors),
        "long_side": detection.choose_long_side(FLAGS.long_side, held, image_size),
    }


def _print_choices(task, loss, val_sizes, validated):
    if task.head == "boxes":
        print(f"{'all layers are trained' if task.batch_norm_training else FROZEN}; {task.described()}")
    elif task.head == "masks":
        frozen = "; the checkpoint's batch normalisation is frozen" if FLAGS.freeze_batch_norm else ""
        print(f"all layers are trained{frozen}; {task.described()}")
    else:
        trained = "all layers are trained"
        if FLAGS.FixBlock2:
            trained = f"trained: {', '.join(LATE_LAYERS)}; the rest is frozen"
        why = "--head" if FLAGS.head else "--loss" if FLAGS.loss else f"{task.kind} labels"
        print(f"{task.head} head ({why}), {loss} loss; {trained}")
    if validated and task.head == "masks":
        print("validated on whole images in their own sizes; the best is kept")
    elif validated:
        print(f"validated at {' and '.join(map(str, val_sizes))} pixels; the best at {val_sizes[-1]} is kept")
    if not FLAGS.pretrain_ckpt:
        print("without --pretrain_ckpt the network begins with random weights, and needs many more images and epochs")


if __name__ == "__main__":
    run(main)
