"""A representation evaluated without further training: linear classifiers and nearest neighbours on its features.

Features are scaled to unit length and standardised; C and k are those that do best on a fifth of the training images.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import LinearSVC

from data_processing.sources.splits import split

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


def evaluate(features, labels, probe, train_per_class, seed, val_fraction=0.2):
    """Trains and tests one classifier on one split.

    Args:
      features: float [images, width]; labels: integers [images].
      probe: "logistic", "svm" or "knn".
      train_per_class, seed, val_fraction: of the split, see `splits.split`.

    Returns a dictionary: "accuracy" and "class_mean" on the test images, and the "chosen" C or k.
    """
    candidates, make = PROBES[probe]
    train, test = split(labels, train_per_class, val_fraction, seed)
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
