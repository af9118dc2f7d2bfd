"""Evaluates a checkpoint on the validation records: mAP, AUC, precision, recall and F1, or top-1 and top-5 accuracy.

    python evaluate.py --data_dir=records --model_dir=out/checkpoint --dictionary=dictionary.txt --result=out/eval

`--model_dir` is a folder of checkpoints, of which the newest is taken, or the prefix of one. `--data_dir` holds shards
`val-….tfrecords` or a subfolder val/. Writes into `--result` (default out/eval): metrics.json; per_class.tsv, one line
a class; of multi-label records also ap_vs_frequency.png, of single-label ones classes.html, with a confusion image.
Under `mpirun` each process predicts a share of the images, and the first one evaluates and writes.
"""

import json
import math
from pathlib import Path
import shutil

from flags import FLAGS, config, run, script, use
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
script(__name__, __doc__, first="data_dir model_dir dictionary result batch_size image_size crop head")

import tensorflow as tf
from tqdm import tqdm

from data_processing.input_pipeline.batches import InputConfig, evaluation_batches
from data_processing.lists import dictionary
from data_processing.records import tfrecord
from data_processing.records.index import index_records
import distributed
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
        {name: FLAGS[name].value for name in ("class_num", "resnet_size") if FLAGS[name].present},
    )
    class_num, head = network.description.class_num, FLAGS.head or network.description.head
    names = _read_dictionary(class_num)
    index = index_records(shards, class_num)
    task = Classification(network.model, index.kind, crop=FLAGS.crop, evaluation=config(MultiLabelConfig, head=head))
    inputs = config(InputConfig, batch_size=task.eval_batch_size(FLAGS.batch_size))
    batches = evaluation_batches(index, task, inputs, ranks).take(FLAGS.test_iter or -1)
    images = min(len(index), FLAGS.test_iter * inputs.batch_size * ranks.size or len(index))

    def report(joined):
        for problem in index.problems:
            print(f"warning: {problem}")
        print(
            f"ResNet-{network.description.resnet_size}, {class_num:,} classes, step {network.description.step:,} "
            f"({network.prefix}) on {len(index):,} records ({index.kind} labels)"
        )
        evaluator = task.evaluator(scratch_dir=result)
        _check_space(result, evaluator.disk_space(images))
        evaluation = _evaluate(evaluator, joined, images)
        _write_json(result / "metrics.json", evaluation, evaluator, network, index)
        print(evaluator.table(len(evaluation.skipped)))
        evaluator.write_report(result, names, f"{network.prefix} on {FLAGS.data_dir}")
        print(f"written: {', '.join(str(path) for path in sorted(result.iterdir()) if path.is_file())}")

    distributed.on_first(predictions(_predict(task), batches), report)


def _read_dictionary(class_num):
    """Returns WordNet id (empty in a single-label dictionary) and names of each class."""
    path = FLAGS.dictionary or dictionary.beside(FLAGS.model_dir)
    if not path:
        return [("", "")] * class_num
    if dictionary.is_multi_label(path):
        entries = [(entry.wnid, entry.names) for entry in dictionary.read(path)]
    else:
        entries = [("", names) for names in dictionary.read_names(path)]
    if len(entries) != class_num:
        raise ValueError(
            f"{path} has {len(entries):,} classes and the checkpoint {class_num:,}; "
            "give the dictionary that the records were built with"
        )
    return entries


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


def _write_json(path, evaluation, evaluator, network, index):
    """Writes settings, metrics (null where undefined) and the names of the records that were left out."""
    settings = {
        "checkpoint": network.prefix,
        **network.description._replace(head=FLAGS.head or network.description.head)._asdict(),
        **{name: FLAGS[name].value for name in ("data_dir", "image_size", "crop", "precision")},
        **evaluator.settings(),
    }
    metrics = {name: None if math.isnan(value) else value for name, value in evaluation.metrics.items()}
    content = {"settings": settings, "metrics": metrics}
    content |= {"skipped": evaluation.skipped, "problems": list(index.problems)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


if __name__ == "__main__":
    run(main)
