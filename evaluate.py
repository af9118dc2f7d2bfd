"""Evaluates a checkpoint on the validation records: mAP, AUC, precision, recall and F1, or top-1 and top-5 accuracy.

    python evaluate.py --data_dir=records --model_dir=out/checkpoint --result=out/eval

`--model_dir` is a folder of checkpoints, of which the newest is taken, or the prefix of one. `--data_dir` holds shards
`val-….tfrecords` or a subfolder val/. The checkpoint knows its classes, head and image size; `--dictionary` names those
of an older or published one. Writes into `--result` (default out/eval): metrics.json; per_class.tsv, one line a class;
of multi-label records report.html and its figures (precision and recall, F1 by threshold, calibration, AP by
frequency), of single-label ones classes.html, with a confusion image. The threshold that is best for F1 goes beside the
checkpoint, for image_classification.py and export.py, if its head is sigmoid and the records are multi-label. Under
`mpirun` each process predicts a share of the images, and the first one evaluates and writes.
"""

import json
import math
from pathlib import Path
import shutil

from flags import FLAGS, config, given, run, script, use
from absl import flags

use(
    "test_iter max_skipped class_num resnet_size num_preprocess_threads threshold top_k_pred data_format "
    "precision batch_norm_epsilon visiable_gpu xla"
)
flags.DEFINE_enum(
    "ap_mode",
    "exact",
    ["exact", "binned"],
    "How AP and AUC are computed: exact keeps all scores on disk, in --result, while it runs (4 bytes an image and "
    "class); binned keeps histograms in memory and says by how much it may be wrong.",
)
flags.DEFINE_float("positive_thres", 0.0, "A label is positive if its confidence is above this.", 0.0, 1.0)
script(
    __name__,
    __doc__,
    first="data_dir model_dir dictionary result batch_size image_size crop head",
    defaults={"threshold": 0.5},
)

import tensorflow as tf
from tqdm import tqdm

from data_processing.input_pipeline.batches import InputConfig, evaluation_batches
from data_processing.records import classes, tfrecord
from data_processing.records.index import index_records
import distributed
from evaluation import thresholds
from evaluation.evaluate import evaluate, predictions
from evaluation.multi_label import MultiLabelConfig
from models import inference
from models.resnet import NetworkConfig
from tasks.classification import Classification
from utils.files import write_text

RESULT = "out/eval"
SKIPPED_SHOWN = 5


def main(argv):
    del argv
    ranks = distributed.start()
    result = Path(FLAGS.result or RESULT)
    result.mkdir(parents=True, exist_ok=True)
    shards = tfrecord.shard_paths(FLAGS.data_dir, "val")
    network = inference.load(
        FLAGS.model_dir,
        config(NetworkConfig),
        {name: given(name) for name in ("class_num", "resnet_size")},
        dictionary_path=FLAGS.dictionary,
    )
    class_num, named = network.description.class_num, _classes(network)
    index = index_records(shards, class_num)
    head, _ = inference.choose_head(FLAGS.head, network.description, multi_label=index.kind != "single")
    size, says = inference.choose_image_size(given("image_size"), network.description, FLAGS.image_size)
    measured = config(MultiLabelConfig, head=head, threshold=0.5 if FLAGS.threshold is None else FLAGS.threshold)
    task = Classification(network.model, index.kind, head, crop=FLAGS.crop, evaluation=measured)
    inputs = config(InputConfig, batch_size=task.eval_batch_size(FLAGS.batch_size), image_size=size)
    batches = evaluation_batches(index, task, inputs, ranks).take(FLAGS.test_iter or -1)
    images = min(len(index), FLAGS.test_iter * inputs.batch_size * ranks.size or len(index))

    def report(joined):
        for problem in index.problems:
            print(f"warning: {problem}")
        print(
            f"ResNet-{network.description.resnet_size}, {class_num:,} classes, step {network.description.step:,} "
            f"({network.prefix}) on {len(index):,} records ({index.kind} labels), {size} pixels ({says})"
        )
        if not named:
            print("no names, only indices: neither checkpoint nor records hold them; give them with --dictionary")
        evaluator = task.evaluator(scratch_dir=result)
        _check_space(result, evaluator.disk_space(images))
        evaluation = _evaluate(evaluator, joined, images)
        settings = {"head": head, "image_size": size} | evaluator.settings()
        _write_json(result / "metrics.json", evaluation, settings, network, index)
        print(evaluator.table(len(evaluation.skipped)))
        names = list(zip(named.ids, named.names, strict=True)) if named else [("", "")] * class_num
        evaluator.write_report(result, names, f"{network.prefix} on {FLAGS.data_dir}")
        print(f"written: {', '.join(str(path) for path in sorted(result.iterdir()) if path.is_file())}")
        if index.kind != "single" and head == "sigmoid":
            _store_threshold(network.prefix, evaluation.metrics)

    distributed.on_first(predictions(_predict(task), batches), report)


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


def _predict(task):
    """Returns the compiled function from batches to the task's outputs."""
    forward = tf.function(lambda images: task.forward({"image": images}), reduce_retracing=True, jit_compile=FLAGS.xla)
    return lambda batch: forward(batch["image"])


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
    for name in evaluation.skipped[:SKIPPED_SHOWN]:
        print(f"left out, corrupt: {name}")
    if len(evaluation.skipped) > SKIPPED_SHOWN:
        print(f"… and {len(evaluation.skipped) - SKIPPED_SHOWN:,} more, see metrics.json")
    return evaluation


def _write_json(path, evaluation, settings, network, index):
    """Writes settings, metrics (null where undefined) and the names of the records that were left out."""
    described = {name: value for name, value in network.description._asdict().items() if name != "dictionary"}
    settings = {
        "checkpoint": network.prefix,
        **described,
        **{name: FLAGS[name].value for name in ("data_dir", "crop", "precision")},
        **settings,
    }
    metrics = {name: None if math.isnan(value) else value for name, value in evaluation.metrics.items()}
    content = {"settings": settings, "metrics": metrics}
    content |= {"skipped": evaluation.skipped, "problems": list(index.problems)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


if __name__ == "__main__":
    run(main)
