"""Fine-tunes a pre-trained network on a dataset with one class an image, or on multi-label records.

    python finetune.py --dataset=caltech256:256_ObjectCategories.tar --train_per_class=30 --data_dir=records \\
        --pretrain_ckpt=checkpoints/resnet.ckpt --model_dir=out/caltech256 --batch_size=32 --lr=0.01 --max_iter=5000

`--dataset` makes records in --data_dir, once; without it --data_dir holds records that are there. The checkpoint may be
ours or a published one; where the number of classes differs, the layer of the logits is a new one. The network with the
best validation is kept in MODEL_DIR/best, with the names of its classes; at the end it is measured at all --val_sizes
and --val_crops, in a table and in MODEL_DIR/validation.json. The same command resumes from the newest checkpoint, and
`mpirun` starts several processes, both as with train.py.
"""

import contextlib
import functools
import json
from pathlib import Path

from flags import AUGMENTATION, DATASET, FLAGS, LEARNING_RATE, NETWORK, checked, values
from absl import app, flags
import tensorflow as tf

from data_processing.input_pipeline.transforms import Augmentation
from data_processing.lists import dictionary
from data_processing.sources.labeled_images import single_label
import distributed
from losses.multi_label import SoftmaxLoss, WeightedSigmoidLoss
from models import checkpoint
from models.inference import CROPS, output_function
from models.resnet import build_resnet, freeze, resolve_data_format
import training
from training.best_checkpoint import BestCheckpoint, defined
from training.ema import WeightAverage
from training.schedule import STAGES, layer_factor, learning_rate
from training.train_step import make_train_step
from utils.files import write_json, write_text

flags.DEFINE_float("lr_layer_decay", 1.0, "Factor of the learning rate from a stage to the one before it.", 0.0, 1.0)
flags.DEFINE_float("label_smoothing", 0.0, "Share of a label that is spread over all classes.", 0.0, 0.99)
flags.DEFINE_float("ema_decay", 0.0, "Decay of the average of the weights that is validated and kept; 0: none.", 0.0, 1)
flags.DEFINE_string(
    "image_size_schedule", "", "EPOCH:SIZE,…: from which epoch on images have which size, from 0 on: 0:224,30:299."
)
flags.DEFINE_list("val_sizes", ["224", "299"], "Sizes to validate at; the last decides which checkpoint is the best.")
flags.DEFINE_multi_enum("val_crops", list(CROPS), CROPS, "Crops to validate with at the end; one flag each.")
# As released: fine-tuning crops images more boldly than pre-training.
FLAGS.set_default("crop_min_area", 0.05)
FLAGS.set_default("crop_min_covered", 0.0)
# Not the folder of train.py, whose checkpoints this one begins from.
FLAGS.set_default("model_dir", "./out/finetune/")

# What --FixBlock2 leaves to be trained (released code).
LATE_LAYERS = ("stages_2", "stages_3", "global_pool", "logits")
BATCH_NORM_WEIGHT_DECAY = 0.1  # released code: a tenth of --weight_decay
BEST = "best"
SHOWN = ("top_1", "top_5", "class_mean", "macro_map", "micro_ap")


def main(argv):
    del argv
    ranks = distributed.start()
    run = training.Run(**values(training.Run._fields))
    sizes = parse_sizes(FLAGS.image_size_schedule or f"0:{FLAGS.image_size}")
    val_sizes = [_size(text, "--val_sizes") for text in FLAGS.val_sizes or [""]]
    if ranks.rank == 0:
        _check_checkpoint()
    class_num, names = _data(ranks)
    index = training.index_records(FLAGS.data_dir, "train", class_num)
    val_index = _validation_index(class_num, ranks)
    head = _head(index)
    model = _network(class_num)
    if FLAGS.dry_run:
        if ranks.rank == 0:
            largest = max(size for _, size in sizes)
            _print_plan(model, index, run, ranks._replace(size=FLAGS.num_gpus or ranks.size), largest)
        return
    loss = _loss(head, class_num)
    weights = checkpoint.model_variables(model)
    step, optimizer_state = _train_step(model, weights, loss, ranks)
    average = WeightAverage(weights, FLAGS.ema_decay) if FLAGS.ema_decay else None
    state = weights | optimizer_state | loss.variables_by_name()
    state |= {"records_seen": tf.Variable(0, dtype=tf.int64, trainable=False)}
    state |= average.variables_by_name() if average else {}
    if ranks.rank == 0:
        training.print_network(model, FLAGS.precision)
        _print_choices(index, head, val_sizes)
        _resume_or_start(run, state, weights, class_num, average)
        for folder in (Path(FLAGS.model_dir), Path(FLAGS.model_dir, BEST)):
            folder.mkdir(exist_ok=True)
            _write_names(folder, names)
    stop = training.stop_on_signals()
    best = BestCheckpoint(Path(FLAGS.model_dir, BEST))
    predict = functools.cache(lambda crop: output_function(model, "logits", crop))

    def measure(image_size, crop, ranks, batches=0):
        return _measure(predict(crop), val_index, class_num, image_size, crop, ranks, batches)

    def train_as(ranks, commit):
        validated = None

        def validate(done):
            nonlocal validated
            validated = done
            with average.in_place() if average else contextlib.nullcontext():
                metrics = measure(val_sizes[-1], "center", ranks, FLAGS.test_iter)
                return best.save_if_better(done, metrics, weights) if metrics else None

        done = training.train(
            step,
            loss,
            index,
            state,
            run,
            ranks,
            commit,
            stop,
            batches=lambda start, size: _batches(index, head, start, size, run, ranks, class_num),
            size_at=lambda epoch: size_at(sizes, epoch),
            learning_rate=lambda step: _learning_rate(step, ranks),
            validate=validate if val_index and run.test_interval else None,
            names=names,
            after_step=average.update if average else None,
        )
        if done != run.max_iter or not val_index:
            return
        if validated != done:
            validate(done)
        if ranks.rank == 0:
            checkpoint.restore(checkpoint.resolve(best.folder), weights)
        distributed.broadcast(weights.values())
        table = {
            f"{size}, {crop}": measure(size, crop, ranks)
            for size in val_sizes
            for crop in dict.fromkeys(FLAGS.val_crops)
        }
        if ranks.rank == 0:
            _report(best, table)

    distributed.run(train_as, state.values())


def parse_sizes(text):
    """Returns [(epoch, size), …] of a schedule like "0:224,30:299"; ValueError if it does not begin at 0 and rise."""
    boundaries = []
    for part in text.split(","):
        epoch, _, size = part.partition(":")
        try:
            boundaries.append((float(epoch), _size(size, part)))
        except ValueError as error:
            raise ValueError(f"--image_size_schedule={text}: '{part}' is not EPOCH:SIZE, size 32 or more") from error
    epochs = [epoch for epoch, _ in boundaries]
    if epochs[0] != 0 or any(a >= b for a, b in zip(epochs, epochs[1:], strict=False)):
        raise ValueError(f"--image_size_schedule={text}: epochs must begin with 0 and rise")
    return boundaries


def _size(text, where):
    if not (text.strip().isdigit() and int(text) >= 32):
        raise ValueError(f"{where}: '{text}' is no size in pixels, 32 or more")
    return int(text)


def size_at(boundaries, epoch):
    """Returns the size of images, in pixels, at an epoch, a float; `boundaries` as of `parse_sizes`."""
    return [size for begin, size in boundaries if begin <= epoch][-1]


def _check_checkpoint():
    """Raises ValueError for a --pretrain_ckpt that is none or of another size, before records are made for hours."""
    if FLAGS.pretrain_ckpt:
        prefix = checkpoint.resolve(FLAGS.pretrain_ckpt)
        held = checkpoint.describe(prefix).resnet_size
        if held != int(FLAGS.resnet_size):
            raise ValueError(f"{prefix} is a ResNet-{held}: set --resnet_size={held}, or give another checkpoint")


def _data(ranks):
    """Makes the records of --dataset, if any; returns the number of classes and their names or None."""
    # In elastic training others may join at any time, who would not be waited for.
    if FLAGS.dataset and not distributed.ELASTIC:
        if ranks.rank == 0:
            single_label.build(FLAGS.dataset, FLAGS.data_dir, seed=FLAGS.random_seed, **values(DATASET))
        distributed.gather(None)  # the others wait for it
    path, class_num = FLAGS.dictionary, _classes_of_records()
    if class_num and not path and Path(FLAGS.data_dir, single_label.DONE).exists():
        path = str(Path(FLAGS.data_dir, dictionary.BESIDE))
    if class_num and FLAGS["class_num"].present and FLAGS.class_num != class_num:
        raise ValueError(
            f"--class_num={FLAGS.class_num}, but the records in {FLAGS.data_dir} are of {class_num} classes; leave "
            "--class_num out"
        )
    names = dictionary.read_names(path) if path else None
    if not class_num:
        class_num = len(names) if names and not FLAGS["class_num"].present else FLAGS.class_num
        if ranks.rank == 0:
            print(f"{class_num:,} classes ({path if names else '--class_num'}); the records do not say how many")
    if names and len(names) != class_num:
        raise ValueError(f"{path} has {len(names)} classes, and the records {class_num}; give the records' dictionary")
    return class_num, names


def _classes_of_records():
    """Returns the number of classes that the records in --data_dir were made with, or None if nothing says it."""
    folder = Path(FLAGS.data_dir)
    if there := single_label.described(folder):
        if "class_num" not in there:
            raise ValueError(
                f"the records in {folder} are not finished; make them with --dataset={there['source']} and the other "
                "flags as before, or with data_processing/build_classification.py (for elastic training)"
            )
        return there["class_num"]
    if FLAGS.dataset:
        raise ValueError(f"{folder}: no records yet; for elastic training make them by build_classification.py first")
    manifests = [path for path in (folder / "train/manifest.json", folder / "manifest.json") if path.exists()]
    return json.loads(manifests[0].read_text())["settings"]["class_num"] if manifests else None


def _validation_index(class_num, ranks):
    try:
        return training.index_records(FLAGS.data_dir, "val", class_num)
    except ValueError as error:
        if FLAGS.test_interval:
            raise
        if ranks.rank == 0:
            print(f"no validation: {error}")
        return None


def _head(index):
    head = FLAGS.head or ("softmax" if index.kind == "single" else "sigmoid")
    if head == "softmax" and index.kind != "single":
        raise ValueError(f"{FLAGS.data_dir} has {index.kind} labels, several an image: they need --head=sigmoid")
    return head


def _network(class_num):
    """Returns the network with random weights, its early layers frozen if --FixBlock2 asks for it."""
    model = build_resnet(
        int(FLAGS.resnet_size),
        class_num,
        data_format=resolve_data_format(FLAGS.data_format),
        seed=FLAGS.random_seed,
        **values(NETWORK),
    )
    if FLAGS.FixBlock2:
        freeze(model, LATE_LAYERS)
    return model


def _loss(head, class_num):
    if head == "softmax":
        return SoftmaxLoss(FLAGS.label_smoothing)
    return WeightedSigmoidLoss(
        class_num, FLAGS.mask_thres, FLAGS.neg_select, seed=FLAGS.random_seed, any_rank=distributed.any_rank
    )


def _train_step(model, weights, loss, ranks):
    return make_train_step(
        model,
        weights,
        loss,
        weight_decay=FLAGS.weight_decay,
        momentum=FLAGS.opt_momentum,
        precision=FLAGS.precision,
        xla=FLAGS.xla,
        accumulate_steps=FLAGS.accumulate_steps,
        average=functools.partial(distributed.average, compression=FLAGS.compression),
        batch_norm_weight_decay=BATCH_NORM_WEIGHT_DECAY * FLAGS.weight_decay,
        lr_factor=lambda name: layer_factor(name, FLAGS.lr_layer_decay),
        drop_rate=FLAGS.drop_rate,
        seed=FLAGS.random_seed,
        rank=ranks.rank,
    )


def _print_plan(model, index, run, ranks, image_size):
    training.print_network(model, FLAGS.precision)
    training.print_plan(
        model,
        index,
        run,
        ranks,
        image_size=image_size,
        learning_rate=lambda step: _learning_rate(step, ranks),
        compression=FLAGS.compression,
    )


def _print_choices(index, head, val_sizes):
    trained = f"trained: {', '.join(LATE_LAYERS)}; the rest is frozen" if FLAGS.FixBlock2 else "all layers are trained"
    print(f"{head} head ({'--head' if FLAGS.head else f'{index.kind} labels'}); {trained}")
    print(f"validated at {' and '.join(map(str, val_sizes))} pixels; the best at {val_sizes[-1]} is kept")
    if FLAGS.lr_layer_decay != 1:
        rates = (f"{scopes[0]} {FLAGS.lr_layer_decay**k:.3g}" for k, scopes in enumerate(STAGES))
        print(f"learning rates by layer: times {', '.join(rates)}")


def _resume_or_start(run, state, weights, class_num, average):
    """Restores the newest checkpoint of the run or, if there is none, begins with --pretrain_ckpt."""
    try:
        resumed = training.resume(run, state)
    except checkpoint.DamagedError:
        raise
    except checkpoint.CheckpointError as error:
        raise ValueError(
            f"--model_dir={run.model_dir} holds another run, or one with other settings; give a new folder\n{error}"
        ) from error
    if resumed:
        if FLAGS.pretrain_ckpt:
            print("--pretrain_ckpt is for the beginning of a run, and not read again")
        return
    best = Path(run.model_dir, BEST)
    if checkpoint.newest(best):
        raise ValueError(
            f"{best} is of a run whose checkpoints are gone; give a new --model_dir, or delete that folder"
        )
    _start(weights, class_num)
    if average:
        average.reset()


def _start(weights, class_num):
    """Takes the weights of --pretrain_ckpt, but those of the logits where its classes are not as many."""
    if not FLAGS.pretrain_ckpt:
        print(
            f"starting from random weights, seed {FLAGS.random_seed}; give a pre-trained network with --pretrain_ckpt"
        )
        return
    prefix = checkpoint.resolve(FLAGS.pretrain_ckpt)
    held = checkpoint.describe(prefix).class_num
    print(f"starting from the weights of {prefix}")
    if held == class_num:
        checkpoint.restore(prefix, weights)
        return
    kept = {name: variable for name, variable in weights.items() if not name.startswith("logits/")}
    checkpoint.restore(prefix, kept, ignored=("logits/",))
    print(f"new logits layer: {class_num:,} classes here, {held:,} in the checkpoint")


def _batches(index, head, start, image_size, run, ranks, class_num):
    batches = training.batches(
        index,
        start,
        image_size,
        run,
        ranks,
        class_num=class_num,
        seed=FLAGS.random_seed,
        augmentation=Augmentation(*values(AUGMENTATION).values()),
        shuffle_buffer=FLAGS.shuffle_buffer,
        threads=FLAGS.num_preprocess_threads,
    )
    single = index.kind == "single" and head == "sigmoid"
    return training.as_multi_label(batches, class_num) if single else batches


def _learning_rate(step, ranks):
    factor = ranks.size * FLAGS.accumulate_steps if FLAGS.lr_scaling == "linear" else 1
    return factor * learning_rate(step, **values(LEARNING_RATE))


def _measure(predict, index, class_num, image_size, crop, ranks, batches):
    metrics = training.measure(
        predict,
        index,
        class_num,
        ranks,
        batch_size=FLAGS.batch_size,
        image_size=image_size,
        max_skipped=FLAGS.max_skipped,
        crop=crop,
        threads=FLAGS.num_preprocess_threads,
        batches=batches,
        top_k=FLAGS.top_k_pred,
    )
    return {name: metrics[name] for name in SHOWN if name in metrics} if metrics else None


def _write_names(folder, names):
    """Puts the names of the classes beside a checkpoint, for image_classification.py."""
    path = folder / dictionary.BESIDE
    if FLAGS.dictionary:
        write_text(path, Path(FLAGS.dictionary).read_text(encoding="utf-8-sig"))
    elif names:
        single_label.write_dictionary(path, names)


def _report(best, table):
    """Writes and prints what the best checkpoint reached: `table` is metrics by name, by size and crop."""
    prefix = checkpoint.resolve(best.folder)
    step = checkpoint.describe(prefix).step
    metrics = {title: defined(row) for title, row in table.items()}
    write_json(Path(FLAGS.model_dir, "validation.json"), {"checkpoint": prefix, "step": step, "metrics": metrics})
    columns = list(next(iter(table.values())))
    print(
        f"best checkpoint: step {step:,}, in {best.folder}\n{'pixels, crop':16}{''.join(f'{c:>12}' for c in columns)}"
    )
    for title, row in table.items():
        print(f"{title:16}{''.join(f'{row[c]:12.4f}' for c in columns)}")


if __name__ == "__main__":
    app.run(checked(main, uses=("FixBlock2", "drop_rate")))
