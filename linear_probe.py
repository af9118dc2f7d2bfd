"""Evaluates a representation without training it further: linear classifiers and nearest neighbours on its features.

    python linear_probe.py --features=features.npz --train_per_class=5,10 --result=probe.json

`--features` is what extract_feature.py wrote (.npz, .h5, .tsv or .txt). An image's class is its label there, or, where
it has none, the name of its folder. For each number of training images a class, and each of `--splits` seeded splits,
a logistic regression, a linear SVM and k-nearest neighbours learn from the features of the training images, scaled
to unit length and standardised; C and k are those that do best on a fifth of the training images, and the rest of
all images is what they are tested on. Prints the mean accuracy over the splits, and its standard deviation.
"""

from collections import Counter
import os
from pathlib import Path
import warnings
import zipfile

from flags import FLAGS, checked
from absl import app, flags
import h5py
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import LinearSVC
from tqdm import tqdm

from data_processing.sources.splits import split
from utils.files import write_json

flags.DEFINE_string("features", None, "File of extract_feature.py: .npz, .h5, .tsv or .txt.")
flags.DEFINE_list(
    "train_per_class",
    ["0"],
    "Numbers of training images of a class: 15,30,…; 0: all but --val_share.",
    allow_override=True,
)
flags.DEFINE_integer("splits", 3, "Number of seeded splits.", lower_bound=1)
flags.DEFINE_list("probes", ["logistic", "svm", "knn"], "Which classifiers: logistic, svm, knn.")

# Candidates for C, as the features are scaled here, and for the number of neighbours.
LOGISTIC_CS = (0.0001, 0.001, 0.01, 0.1, 1.0)
SVM_CS = (0.0001, 0.001, 0.01, 0.1)
NEIGHBOURS = (1, 3, 5, 10, 20)
VALIDATION_SHARE = 0.2
PROBES = {
    "logistic": (LOGISTIC_CS, lambda c, seed: LogisticRegression(C=c, max_iter=200, tol=1e-3)),
    "svm": (SVM_CS, lambda c, seed: LinearSVC(C=c, dual="auto", tol=1e-2, max_iter=200, random_state=seed)),
    "knn": (NEIGHBOURS, lambda k, seed: KNeighborsClassifier(k, weights="distance")),
}


def main(argv):
    del argv
    unknown = set(FLAGS.probes) - PROBES.keys()
    if unknown:
        raise ValueError(f"--probes={','.join(FLAGS.probes)}: choose from {', '.join(PROBES)}")
    features, classes = read(FLAGS.features)
    names, labels = np.unique(classes, return_inverse=True)
    rare = [name for name, count in Counter(classes).items() if count < 2]
    if len(names) < 2 or rare:
        shown = f"; only one image of {', '.join(sorted(rare)[:3])}" if rare else ""
        raise ValueError(f"{FLAGS.features}: {len(names)} classes{shown}; two classes of two images are needed")
    counts = [_count(text) for text in FLAGS.train_per_class]
    print(f"{len(labels):,} images of {len(names):,} classes, {features.shape[1]:,} numbers each")
    found = {}
    with tqdm(total=len(counts) * FLAGS.splits * len(FLAGS.probes), unit=" probes") as bar:
        for count in counts:
            for k in range(FLAGS.splits):
                seed = FLAGS.random_seed + k
                for probe in FLAGS.probes:
                    found.setdefault((probe, count), []).append(
                        evaluate(features, labels, probe, count, seed, FLAGS.val_share)
                    )
                    bar.update()
    print(f"{'':10}{'a class':>9}{'accuracy':>17}{'mean of classes':>19}  chosen")
    for (probe, count), results in found.items():
        accuracy, class_mean = (_spread([result[name] for result in results]) for name in ("accuracy", "class_mean"))
        chosen = ", ".join(f"{result['chosen']:g}" for result in results)
        print(f"{probe:10}{count or 'all':>9}{accuracy:>17}{class_mean:>19}  {'k' if probe == 'knn' else 'C'} {chosen}")
    if FLAGS.result:
        rows = [{"probe": probe, "train_per_class": count, "splits": rows} for (probe, count), rows in found.items()]
        write_json(Path(FLAGS.result), {"features": FLAGS.features, "classes": len(names), "results": rows})
        print(f"written: {FLAGS.result}")


def _count(text):
    if not (str(text).isdigit()):
        raise ValueError(f"--train_per_class: '{text}' is no number of images; write 15,30,… or 0 for --val_share")
    return int(text)


def _spread(values):
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.4f}"


def read(path):
    """Returns features, float32 [images, width], and class names, text [images], of a file of extract_feature.py.

    Raises ValueError if the file is of another form, or an image has no class.
    """
    ending = os.path.splitext(path)[1].lower()
    try:
        if ending == ".npz":
            with np.load(path, allow_pickle=False) as found:
                names, labels, features = found["names"].tolist(), found["labels"].tolist(), found["features"]
        elif ending == ".h5":
            with h5py.File(path) as file:
                names, labels = file["names"].asstr()[:].tolist(), file["labels"].asstr()[:].tolist()
                features = file["features"][:]
        elif ending in (".tsv", ".txt"):
            with open(path, encoding="utf-8") as file:
                fields = [line.rstrip("\n").split("\t") for line in file]
            names, labels = [row[0] for row in fields], [row[1] for row in fields]
            features = np.array([row[2].split() for row in fields], np.float32)
        else:
            raise ValueError("it ends in none of .npz, .h5, .tsv, .txt")
    except FileNotFoundError:
        raise
    except (KeyError, IndexError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no features of extract_feature.py ({error}); write them with it again") from error
    classes = [label or Path(name).parent.name for name, label in zip(names, labels, strict=True)]
    if missing := next((name for name, found in zip(names, classes, strict=True) if not found), None):
        raise ValueError(f"{path}: {missing} has neither a label nor a folder that would be its class")
    return np.asarray(features, np.float32), np.array(classes)


def evaluate(features, labels, probe, train_per_class, seed, val_share=0.2):
    """Trains and tests one classifier on one split.

    Args:
      features: float [images, width]; labels: integers [images].
      probe: "logistic", "svm" or "knn".
      train_per_class, seed, val_share: of the split, see `splits.split`.

    Returns a dictionary: "accuracy" and "class_mean" on the test images, and the "chosen" C or k.
    """
    candidates, make = PROBES[probe]
    train, test = split(labels, train_per_class, val_share, seed)
    fitted, held_out = split(labels[train], 0, VALIDATION_SHARE, seed)
    fitted, held_out = np.array(train)[fitted], np.array(train)[held_out]
    chosen = candidates[0]
    if len(held_out):
        candidates = [c for c in candidates if probe != "knn" or c <= len(fitted)]
        scores = [np.mean(_predict(features, labels, fitted, held_out, make(c, seed)) == labels[held_out])
                  for c in candidates]  # fmt: skip
        chosen = candidates[int(np.argmax(scores))]
    answers = _predict(features, labels, train, test, make(chosen, seed))
    return {
        "seed": seed,
        "accuracy": float(np.mean(answers == labels[test])),
        "class_mean": float(balanced_accuracy_score(labels[test], answers)),
        "chosen": chosen,
    }


def _predict(features, labels, train, test, classifier):
    """Trains on the images `train`; returns the answers for `test`. What scales is learnt from `train` alone."""
    unit = normalize(features)
    scaler = StandardScaler().fit(unit[train])
    with warnings.catch_warnings():
        # The best C is seldom among those that are not done after so many rounds.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(scaler.transform(unit[train]), labels[train])
    return classifier.predict(scaler.transform(unit[test]))


if __name__ == "__main__":
    flags.mark_flags_as_required(["features"])
    app.run(checked(main))
