"""Measures a checkpoint on the validation records: mAP, AUC, precision, recall and F1, or top-1 and top-5 accuracy.

    python evaluate.py --data_dir=records --model_dir=out/checkpoint --dictionary=dictionary.txt --result=out/eval

`--model_dir` is a folder of checkpoints, of which the newest is taken, or the prefix of one. `--data_dir` holds shards
`val-….tfrecords` or a subfolder val/. Writes into `--result` (default out/eval): metrics.json; per_class.tsv, one line
a class; of multi-label records also ap_vs_frequency.png, of single-label ones classes.html, with a confusion image.
Under `mpirun` each process predicts a share of the images, and the first one metrics and writes.
"""

import collections
import json
from pathlib import Path
import shutil

from flags import FLAGS, checked
from absl import app, flags
from matplotlib.figure import Figure
import numpy as np
from tqdm import tqdm

from data_processing.input_pipeline import batches
from data_processing.lists import dictionary
from data_processing.records import tfrecord
import distributed
from evaluation import class_report, metrics
from models import checkpoint
from models.inference import images_at_once, output_function
from models.resnet import resolve_data_format
from utils.files import atomic_write, write_text

flags.DEFINE_enum(
    "ap_mode",
    "exact",
    ["exact", "binned"],
    "How AP and AUC are computed: exact keeps all scores on disk, in --result, while it runs (4 bytes an image and "
    "class); binned keeps histograms in memory and says by how much it may be wrong.",
)
flags.DEFINE_float("positive_thres", 0.0, "A label is positive if its confidence is above this.", 0.0, 1.0)

RESULT = "out/eval"
# Exact mode, on disk: a float32 and a bit.
BYTES_PER_SCORE = 4 + 1 / 8
SKIPPED_SHOWN = 5
# In the figure: standard deviation of the running mean's weights, as a factor of the frequency.
MEAN_WIDTH = 1.5


def main(argv):
    del argv
    ranks = distributed.start()
    result = Path(FLAGS.result or RESULT)
    result.mkdir(parents=True, exist_ok=True)
    shards = tfrecord.shard_paths(FLAGS.data_dir, "val")
    model, description, prefix = _load_model()
    entries = _read_dictionary(description.class_num)
    index = batches.index_records(shards, description.class_num)
    predictions = distributed.gathered(_predictions(model, index, description.class_num, ranks))
    if ranks.rank:
        collections.deque(predictions, maxlen=0)
        return
    for problem in index.problems:
        print(f"warning: {problem}")
    print(
        f"ResNet-{description.resnet_size}, {description.class_num:,} classes, step {description.step:,} ({prefix}) "
        f"on {len(index):,} records ({index.kind} labels)"
    )
    if index.kind != "single" and FLAGS.ap_mode == "exact":
        _check_space(result, _image_count(index, ranks) * description.class_num * BYTES_PER_SCORE)
    evaluation = _evaluate(predictions, _image_count(index, ranks), description.class_num, result)
    _write_json(result / "metrics.json", evaluation, description, prefix, index)
    print(_table(evaluation, description.class_num))
    if isinstance(evaluation.classes, metrics.Answers):
        names = [name or str(k) for k, (_, name) in enumerate(entries)]
        class_report.write_table(result / "per_class.tsv", class_report.class_rows(evaluation.classes, names))
        title = f"{prefix} on {FLAGS.data_dir}"
        class_report.write_page(result / "classes.html", evaluation.classes, names, evaluation.metrics, title)
    else:
        _write_classes(result / "per_class.tsv", evaluation.classes, entries)
        _draw(result / "ap_vs_frequency.png", evaluation.classes, evaluation.metrics)
    print(f"written: {', '.join(str(path) for path in sorted(result.iterdir()) if path.is_file())}")


def _load_model():
    """Returns the network of the checkpoint, its description and its prefix; flags that contradict it are an error."""
    prefix = checkpoint.resolve(FLAGS.model_dir)
    model, description = checkpoint.load_model(
        prefix,
        data_format=resolve_data_format(FLAGS.data_format),
        precision=FLAGS.precision,
        batch_norm_epsilon=FLAGS.batch_norm_epsilon,
        expected={name: int(FLAGS[name].value) for name in ("class_num", "resnet_size") if FLAGS[name].present},
    )
    return model, description, prefix


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


def _image_count(index, ranks):
    return min(len(index), FLAGS.test_iter * _batch_size() * ranks.size or len(index))


def _batch_size():
    return images_at_once(FLAGS.batch_size, FLAGS.crop)


def _check_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"exact AP needs {needed / 1e9:.1f} GB in {folder} while it runs, and {free / 1e9:.1f} GB are free; "
            "choose another folder with --result, or --ap_mode=binned, which needs no disk"
        )


def _predictions(model, index, class_num, ranks):
    """Yields labels and logits of this rank's share of the images."""
    found = batches.evaluation_batches(
        index,
        class_num=class_num,
        batch_size=_batch_size(),
        image_size=FLAGS.image_size,
        rank=ranks.rank,
        size=ranks.size,
        crop=FLAGS.crop,
        threads=FLAGS.num_preprocess_threads,
    )
    predict = output_function(model, "logits", FLAGS.crop, FLAGS.xla)
    return metrics.predictions(predict, found.take(FLAGS.test_iter or -1))


def _evaluate(predictions, images, class_num, result):
    """Returns the `metrics.Evaluation`; shows progress, and names the records that were left out."""
    with tqdm(total=images, unit=" images", unit_scale=True, smoothing=0.1) as bar:

        def counted():
            for batch in predictions:
                yield batch
                bar.update(len(batch["valid"]))

        evaluation = metrics.evaluate(
            counted(),
            class_num,
            top_k=FLAGS.top_k_pred,
            threshold=FLAGS.threshold,
            positive_thres=FLAGS.positive_thres,
            ap_mode=FLAGS.ap_mode,
            scratch_dir=result,
            max_skipped=FLAGS.max_skipped,
        )
    for name in evaluation.skipped[:SKIPPED_SHOWN]:
        print(f"left out, corrupt: {name}")
    if len(evaluation.skipped) > SKIPPED_SHOWN:
        print(f"… and {len(evaluation.skipped) - SKIPPED_SHOWN:,} more, see metrics.json")
    return evaluation


def _write_json(path, evaluation, description, prefix, index):
    """Writes settings, metrics (null where undefined) and the names of the records that were left out."""
    settings = {
        "checkpoint": prefix,
        **description._asdict(),
        **{name: FLAGS[name].value for name in ("data_dir", "image_size", "crop", "precision")},
    }
    if not isinstance(evaluation.classes, metrics.Answers):
        settings |= {name: FLAGS[name].value for name in ("ap_mode", "threshold", "positive_thres")}
        settings["top_k"] = min(FLAGS.top_k_pred, description.class_num)
    metrics = {name: None if np.isnan(value) else value for name, value in evaluation.metrics.items()}
    content = {"settings": settings, "metrics": metrics}
    content |= {"skipped": evaluation.skipped, "problems": list(index.problems)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _table(evaluation, class_num):
    """Returns what the user sees, as text."""
    m = evaluation.metrics
    skipped = f", {len(evaluation.skipped):,} corrupt left out" if evaluation.skipped else ""
    if isinstance(evaluation.classes, metrics.Answers):
        names = {"top_1": "top-1 accuracy", "top_5": "top-5 accuracy", "class_mean": "mean over classes"}
        lines = [f"{text:18}{m[name]:.4f}" for name, text in names.items()]
        return "\n".join([f"{m['images']:,} images{skipped}", *lines])
    rows = [
        f"{m['images']:,} images{skipped}; {m['classes_with_positives']:,} of {class_num:,} classes have positives",
        "",
        f"{'':24}{'value':>10}{'by chance':>12}",
        f"{'mAP (macro)':24}{m['macro_map']:10.4f}{m['chance_map']:12.4f}",
        f"{'AP (micro)':24}{m['micro_ap']:10.4f}{m['chance_micro_ap']:12.4f}",
        f"{'AUC (macro)':24}{m['macro_auc']:10.4f}{0.5:12.4f}",
        f"{'AUC (micro)':24}{m['micro_auc']:10.4f}{0.5:12.4f}",
        "",
        f"{'':24}{'precision':>10}{'recall':>12}{'F1':>12}",
    ]
    predictions = {"top_k": f"top {min(FLAGS.top_k_pred, class_num)}", "threshold": f"p >= {FLAGS.threshold:g}"}
    for suffix, title in predictions.items():
        for prefix, kind in (("", "per image"), ("overall_", "overall")):
            precision, recall, f1 = (m[f"{prefix}{name}_{suffix}"] for name in ("precision", "recall", "f1"))
            rows.append(f"{f'{title}, {kind}':24}{precision:10.4f}{recall:12.4f}{f1:12.4f}")
    if "macro_map_error" in m:
        rows += ["", f"binned: mAP within {m['macro_map_error']:.2g}, micro AP within {m['micro_ap_error']:.2g}"]
    return "\n".join(rows)


def _write_classes(path, classes, entries):
    """Writes one line a class, in the order of the indices; a measure that is not defined is left empty."""
    columns = {"ap": classes.ap, "auc": classes.auc}
    if FLAGS.ap_mode == "binned":
        columns["ap_error"] = classes.ap_error
    lines = ["\t".join(["index", "wnid", "names", "positives", "known", *columns])]
    for k, (wnid, names) in enumerate(entries):
        values = ["" if np.isnan(column[k]) else f"{column[k]:.6f}" for column in columns.values()]
        lines.append("\t".join([str(k), wnid, names, str(classes.positives[k]), str(classes.known[k]), *values]))
    write_text(path, "\n".join(lines) + "\n")


def _draw(path, classes, metrics):
    """Draws AP against the number of positives of each class, with a running mean and the level of chance."""
    present = classes.positives > 0
    positives, ap = classes.positives[present], classes.ap[present]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(positives, ap, s=14, alpha=max(0.1, min(0.7, 60 / max(1, len(ap)))), linewidths=0, label="a class")
    if len(ap):
        x = np.geomspace(positives.min(), positives.max(), 100)
        # A mean over classes weighted by a bell curve over the logarithm of the frequency.
        weights = np.exp(-((np.log(x[:, None] / positives) / np.log(MEAN_WIDTH)) ** 2) / 2)
        axes.plot(x, weights @ ap / weights.sum(axis=1), color="tab:red", lw=2.5, label="running mean")
        chance = metrics.chance_average_precision(x, classes.known.max())
        axes.plot(x, chance, color="0.4", ls="--", label="scores at random")
        axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("images with the class (logarithmic)")
    axes.set_ylabel("average precision")
    axes.set_title(f"mAP {metrics['macro_map']:.3f} over {len(ap):,} classes, {metrics['images']:,} images")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", framealpha=0.9)
    with atomic_write(path) as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")


if __name__ == "__main__":
    app.run(checked(main))
