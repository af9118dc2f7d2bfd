"""Evaluates a checkpoint on the validation records: mAP, AUC and F1; top-1 and top-5; mAP of boxes; mIoU of masks.

    python evaluate.py --data_dir=records --model_dir=out/checkpoint --result=out/eval

`--model_dir` is a folder of checkpoints, of which the newest is taken, or the prefix of one. `--data_dir` holds shards
`val-….tfrecords` or a subfolder val/. The checkpoint knows its classes, head and image size; `--dictionary` names those
of an older or published one. Writes into `--result` (default out/eval): metrics.json; per_class.tsv, one line a class;
of multi-label records report.html and its figures (precision and recall, F1 by threshold, calibration, AP by
frequency), of single-label ones classes.html, with a confusion image, of boxes report.html, mistakes.html with the
worst of them drawn, and results/, the files that VOC's devkit reads. The threshold that is best for F1 goes beside the
checkpoint, for image_classification.py and export.py, if its head is sigmoid and the records are multi-label. Under
`mpirun` each process predicts a share of the images, and the first one evaluates and writes.

With `--voc_results`, needing neither checkpoint nor records, it judges such files of any program, by the rules of
evaluation/average_precision.py and evaluation/coco.py:

    python evaluate.py --voc_results=results --dataset=voc2007:VOCdevkit --split=test --result=out
"""

import dataclasses
import math
from pathlib import Path
import shutil

from flags import FLAGS, config, given, run, script, use
from absl import flags

use(
    "test_iter max_skipped class_num resnet_size num_preprocess_threads threshold top_k_pred data_format "
    "precision batch_norm_epsilon visiable_gpu xla proposals long_side scales flip dataset split"
)
flags.DEFINE_enum(
    "ap_mode",
    "exact",
    ["exact", "binned"],
    "How AP and AUC are computed: exact keeps all scores on disk, in --result, while it runs (4 bytes an image and "
    "class); binned keeps histograms in memory and says by how much it may be wrong.",
)
flags.DEFINE_float("positive_thres", 0.0, "A label is positive if its confidence is above this.", 0.0, 1.0)
flags.DEFINE_string("voc_results", "", "Judge such a folder of results, with --dataset=voc2007:… or voc2012seg:….")
script(
    __name__,
    __doc__,
    first="data_dir model_dir dictionary result batch_size image_size crop head",
    defaults={"threshold": 0.5, "split": None},
)

from evaluation import judging, outputs, voc_results, voc_segmentation_results

RESULT = "out/eval"


def judge(argv):
    """`main` with --voc_results."""
    del argv
    _refuse("--voc_results", "data_dir", "model_dir")
    if voc_segmentation_results.Source(FLAGS.dataset, "").year:
        source, of_kind = voc_segmentation_results.Source(FLAGS.dataset, FLAGS.split or "val"), voc_segmentation_results
    else:
        source, of_kind = voc_results.Source(FLAGS.dataset, FLAGS.split or "test"), judging
    of_kind.judge(FLAGS.voc_results, source, Path(FLAGS.result or RESULT), FLAGS.max_skipped)


def _refuse(what, *names):
    """Raises ValueError for flags that were given and mean nothing for what is evaluated."""
    for name in names:
        if FLAGS[name].present:
            raise ValueError(f"--{name} has no meaning for {what}; leave it out")


if __name__ == "__main__" and FLAGS.voc_results:
    run(judge)  # ends the process: files need nothing of what follows, whose import takes seconds

import tensorflow as tf
from tqdm import tqdm

from data_processing.input_pipeline.batches import InputConfig, evaluation_batches
from data_processing.records import build_dataset, classes, named_images
from data_processing.records.index import index_split
import distributed
from evaluation import palette, thresholds
from evaluation.evaluate import evaluate, predictions
from evaluation.multi_label import MultiLabelConfig
from models import checkpoint, inference
from models.frozen import fold
from models.resnet import NetworkConfig
from tasks import detection, detection_inference, segmentation
from tasks.classification import Classification
from utils import flag_values

# Images of boxes are larger, and each has hundreds of regions; those of masks have a score for each pixel and class.
BATCHES = {"boxes": 4, "masks": 4}
# What networks find, by their heads and the kinds of their records; others find labels.
FOUND = {"boxes": "objects", "masks": "masks"}
OF_LABELS = "head threshold top_k_pred crop ap_mode positive_thres xla".split()


def main(argv):
    del argv
    ranks = distributed.start()
    result = Path(FLAGS.result or RESULT)
    result.mkdir(parents=True, exist_ok=True)
    network = _network()
    class_num, named = network.description.class_num, _classes(network)
    index = index_split(FLAGS.data_dir, FLAGS.split or "val", class_num)
    task, size, says = _task(network, index.kind)
    batch_size = given("batch_size") or BATCHES.get(index.kind, FLAGS.batch_size)
    inputs = config(InputConfig, batch_size=task.eval_batch_size(batch_size), image_size=size)
    batches = evaluation_batches(index, task, inputs, ranks).take(FLAGS.test_iter or -1)
    images = min(len(index), FLAGS.test_iter * inputs.batch_size * ranks.size or len(index))

    def report(joined):
        print(
            f"{task.network_name}, {class_num:,} classes, step {network.description.step:,} ({network.prefix}) on "
            f"{len(index):,} records ({index.kind if index.kind in FOUND else f'{index.kind} labels'}), {says}"
        )
        if not named:
            print("no names, only indices: neither checkpoint nor records hold them; give them with --dictionary")
        names = list(zip(named.ids, named.names, strict=True)) if named else None
        evaluator = task.evaluator(result, names)
        _check_space(result, evaluator.disk_space(images))
        split = FLAGS.split or "val"
        listed = build_dataset.list_name(FLAGS.data_dir, split)
        if index.kind == "masks":
            is_voc = evaluator.names == list(voc_segmentation_results.CLASSES)
            folder, year = result / "results", 2012 if is_voc else None
            evaluator.masks = voc_segmentation_results.MaskFiles(folder, listed or split, {}, year)
            evaluator.read_images = lambda wanted: {
                name: (image, palette.decode(mask), evaluator.masks.read(name))
                for name, (image, mask) in named_images.read(index.paths, wanted, "masks").items()
            }
        evaluation = _evaluate(evaluator, joined, images)
        settings = _settings(network, task) | {"image_size": size} | evaluator.settings()
        notes = {"skipped": evaluation.skipped, "problems": list(index.problems)}
        content = {"metrics": evaluation.metrics}
        if index.kind == "boxes":
            evaluator.read_images = lambda wanted: {
                name: image for name, (image, _) in named_images.read(index.paths, wanted, "boxes").items()
            }
            voc_results.write(result / "results", listed or FLAGS.split or "test", evaluator)
        if index.kind in FOUND:
            content = evaluation.metrics | evaluator.by_class()
        outputs.write_metrics(result / "metrics.json", {"settings": settings} | content | notes)
        print(evaluator.table(len(evaluation.skipped)))
        evaluator.write_report(result, f"{network.prefix} on {FLAGS.data_dir}")
        outputs.print_written(result)
        if index.kind in ("sparse", "dense") and task.head == "sigmoid":
            _store_threshold(network.prefix, evaluation.metrics)

    distributed.on_first(predictions(_predict(task, batches.element_spec), batches), report)


def _network():
    """Returns the `Network`, `DetectorNetwork` or `SegmenterNetwork` of --model_dir."""
    expected = {name: given(name) for name in ("class_num", "resnet_size")}
    head = checkpoint.describe(checkpoint.resolve(FLAGS.model_dir)).head
    if head == "masks":
        return inference.load_segmenter(FLAGS.model_dir, config(NetworkConfig), expected, FLAGS.dictionary)
    if head == "boxes":
        return inference.load_detector(
            FLAGS.model_dir, config(NetworkConfig), FLAGS.proposals, expected, FLAGS.dictionary
        )
    return inference.load(FLAGS.model_dir, config(NetworkConfig), expected, dictionary_path=FLAGS.dictionary)


def _task(network, kind):
    """Returns the task of a network on records of a kind, the size of its images, and the words for that."""
    description = network.description
    of_network, of_records = (one if one in FOUND else "labels" for one in (description.head, kind))
    if of_network != of_records:
        found, held = FOUND.get(of_network, "labels"), kind if kind in FOUND else f"{kind} labels"
        raise ValueError(
            f"{network.prefix} is of a network that finds {found}, and the records in {FLAGS.data_dir} hold {held}; "
            "give others with --data_dir, or another checkpoint with --model_dir"
        )
    if kind == "boxes":
        _refuse("boxes", *OF_LABELS, "scales", "flip")
        sides = detection_inference.choose_sides(given("image_size"), given("long_side"), description)
        return detection.Detection(network.detector, sides.long), sides.short, sides.says
    if kind == "masks":
        _refuse("masks", *OF_LABELS, "proposals", "long_side", "image_size")
        seen = segmentation.Views(flag_values.positive("scales", FLAGS.scales), FLAGS.flip)
        task = segmentation.Segmentation(network.model, network.config, seen=seen)
        return task, description.image_size, task.described()
    head, _ = inference.choose_head(FLAGS.head, description, multi_label=kind != "single")
    measured = config(MultiLabelConfig, head=head, threshold=0.5 if FLAGS.threshold is None else FLAGS.threshold)
    size, says = inference.choose_image_size(given("image_size"), description, FLAGS.image_size)
    task = Classification(network.model, kind, head, crop=FLAGS.crop, evaluation=measured)
    return task, size, f"{size} pixels ({says})"


def _classes(network):
    """Returns the `dictionary.Classes` of the network, or of the records where it has none, or None.

    Raises ValueError if the network and the records are of different classes.
    """
    records, class_num = classes.find(FLAGS.data_dir), network.description.class_num
    if records.count not in (None, class_num):
        raise ValueError(
            f"the records in {FLAGS.data_dir} are of {records.count:,} classes, and {network.prefix} of {class_num:,}; "
            "give records of its classes with --data_dir, or their checkpoint with --model_dir"
        )
    if network.classes and records.dictionary and (other := network.classes.difference(records.dictionary)):
        source = network.prefix if network.description.dictionary else FLAGS.dictionary or f"beside {network.prefix}"
        raise ValueError(
            f"the dictionary.txt of the records in {FLAGS.data_dir} is not of the classes of the network ({source}): "
            f"{other}; give records that are built with the network's dictionary, with --data_dir"
        )
    return network.classes or records.dictionary


def _store_threshold(prefix, metrics):
    """Leaves the best threshold beside the checkpoint, and says so."""
    threshold, f1 = metrics["best_threshold"], metrics["best_f1"]
    if FLAGS.test_iter:
        print(f"threshold {threshold:.4f}, best for F1 ({f1:.4f}) on some of the images, not stored (--test_iter)")
        return
    if math.isnan(threshold):
        print("no label is positive, so no threshold is best, and none is stored")
        return
    try:
        path = thresholds.write(prefix, thresholds.Threshold(threshold, f1, FLAGS.data_dir))
        print(f"threshold {threshold:.4f}, best for F1 ({f1:.4f}), stored for predictions: {path}")
    except (OSError, ValueError) as error:
        print(f"threshold {threshold:.4f}, best for F1 ({f1:.4f}), not stored ({error}); give it with --threshold")


def _predict(task, spec):
    """Returns the compiled function from batches, which `spec` describes, to the task's outputs."""
    if task.head != "boxes":  # the parts of a detector share layers
        task = dataclasses.replace(task, model=fold(task.model))
    seen = {name: one for name, one in spec.items() if one.dtype != tf.string}
    # One trace for all: the last batch has another size.
    forward = tf.function(task.forward, input_signature=[seen], autograph=False, jit_compile=FLAGS.xla)
    return lambda batch: forward({name: batch[name] for name in seen})


def _check_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"exact AP needs {needed / 1e9:.1f} GB in {folder} while it runs, and {free / 1e9:.1f} GB are free; "
            "choose another folder with --result, or --ap_mode=binned, which needs no disk"
        )


def _evaluate(evaluator, predictions, images):
    """Returns the `Evaluation`; shows progress, and names the records that were left out."""
    with tqdm(total=images, unit=" images", unit_scale=True, smoothing=0.1) as bar:

        def counted():
            for batch, outputs in predictions:
                yield batch, outputs
                bar.update(len(batch["valid"]))

        evaluation = evaluate(evaluator, counted(), FLAGS.max_skipped)
    outputs.print_left_out(evaluation.skipped, "left out, corrupt")
    return evaluation


def _settings(network, task):
    described = {name: value for name, value in network.description._asdict().items() if name != "dictionary"}
    own = {"boxes": ("proposals",), "masks": ("scales", "flip")}.get(task.head, ("crop",))
    of_run = {name: FLAGS[name].value for name in ("data_dir", "precision", *own)}
    return {"checkpoint": network.prefix, **described, **of_run, "head": task.head}


if __name__ == "__main__":
    run(main)
