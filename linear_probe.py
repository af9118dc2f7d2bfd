"""Evaluates a representation without training it further: linear classifiers and nearest neighbours on its features.

    python linear_probe.py --features=features.npz --train_per_class=5,10 --result=probe.json

`--features` is what extract_feature.py wrote (.npz, .h5, .tsv or .txt). An image's class is its label there, or, where
it has none, the name of its folder. For each number of training images a class, and each of `--splits` seeded splits,
a logistic regression, a linear SVM and k-nearest neighbours learn from the features of the training images, scaled
to unit length and standardised; C and k are those that do best on a fifth of the training images, and the rest of
all images is what they are tested on. Prints the mean accuracy over the splits, and its standard deviation.
"""

from collections import Counter
from pathlib import Path

from flags import FLAGS, run, script, train_per_class, use
from absl import flags

use("val_fraction random_seed")
flags.DEFINE_string("features", None, "File of extract_feature.py: .npz, .h5, .tsv or .txt.")
flags.DEFINE_list("probes", ["logistic", "svm", "knn"], "Which classifiers: logistic, svm, knn.")
script(__name__, __doc__, first="result train_per_class splits probes", required="features")

import numpy as np
from tqdm import tqdm

from evaluation.features import read
from evaluation.probes import PROBES, evaluate
from utils.files import writable, write_json


def main(argv):
    del argv
    unknown = set(FLAGS.probes) - PROBES.keys()
    if unknown:
        raise ValueError(f"--probes={','.join(FLAGS.probes)}: choose from {', '.join(PROBES)}")
    if FLAGS.result:
        writable(FLAGS.result)  # else an error after hours
    counts = train_per_class()
    features, classes = read(FLAGS.features)
    names, labels = np.unique(classes, return_inverse=True)
    rare = [name for name, count in Counter(classes).items() if count < 2]
    if len(names) < 2 or rare:
        shown = f"; only one image of {', '.join(sorted(rare)[:3])}" if rare else ""
        raise ValueError(f"{FLAGS.features}: {len(names)} classes{shown}; two classes of two images are needed")
    print(f"{len(labels):,} images of {len(names):,} classes, {features.shape[1]:,} numbers each")
    tested = {}
    with tqdm(total=len(counts) * FLAGS.splits * len(FLAGS.probes), unit=" probes") as bar:
        for count in counts:
            for k in range(FLAGS.splits):
                seed = FLAGS.random_seed + k
                for probe in FLAGS.probes:
                    tested.setdefault((probe, count), []).append(
                        evaluate(features, labels, probe, count, seed, FLAGS.val_fraction)
                    )
                    bar.update()
    print(f"{'':10}{'a class':>9}{'accuracy':>17}{'mean of classes':>19}  chosen")
    for (probe, count), results in tested.items():
        accuracy, class_mean = (_spread([result[name] for result in results]) for name in ("accuracy", "class_mean"))
        chosen = ", ".join(f"{result['chosen']:g}" for result in results)
        print(f"{probe:10}{count or 'all':>9}{accuracy:>17}{class_mean:>19}  {'k' if probe == 'knn' else 'C'} {chosen}")
    if FLAGS.result:
        rows = [{"probe": probe, "train_per_class": count, "splits": done} for (probe, count), done in tested.items()]
        write_json(Path(FLAGS.result), {"features": FLAGS.features, "classes": len(names), "results": rows})
        print(f"written: {FLAGS.result}")


def _spread(values):
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.4f}"


if __name__ == "__main__":
    run(main)
