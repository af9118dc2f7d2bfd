"""What a detector does wrong: of which kind its false positives are, which of them are the worst, and what it misses.

A class is taken to be found from the score on that makes its F1 the best: of thousands of detections of low scores most
are wrong, and harm neither the average precision nor anyone.
"""

from typing import NamedTuple

import numpy as np

from evaluation import average_precision
from evaluation.average_precision import DUPLICATE, RIGHT, WRONG

# Kinds of false positives, and what they overlap, after Hoiem, Chodpathumwan and Dai 2012 (Diagnosing error in object
# detectors), section 2: less than 0.1 is background.
KINDS = ("duplicate", "localization", "confused", "background")
LEAST_OVERLAP = 0.1


class Mistakes(NamedTuple):
    """The mistakes of a detector.

    Attributes:
      wrong: int64, indices of the false positives that are counted, of the highest score first.
      kind: int64, the index of each into KINDS.
      object: int64, what each overlaps most, of its class, or where it is confused of another; -1: nothing.
      overlap: float64, that intersection over union.
      missed: int64, indices of the objects that are missed, the largest first.
      threshold: float64 [classes], score from which on a class is taken to be found; infinite where no detection is
        right, NaN of a class without objects, which is left out.
    """

    wrong: np.ndarray
    kind: np.ndarray
    object: np.ndarray
    overlap: np.ndarray
    missed: np.ndarray
    threshold: np.ndarray

    def counts(self, objects, detections):
        """Returns how many there are of each class: int64 [classes, 5], of each of KINDS, and missed."""
        class_num, kinds = len(self.threshold), len(KINDS) + 1
        wrong = detections.label[self.wrong] * kinds + self.kind
        missed = objects.label[self.missed] * kinds + kinds - 1
        return np.bincount(np.concatenate([wrong, missed]), minlength=class_num * kinds).reshape(class_num, kinds)


def find(objects, detections, matches, found, curves):
    """Returns the `Mistakes`; args as of `average_precision`: `found` is of `outcomes`, `curves` of `class_curves`."""
    threshold = np.array([average_precision.best_f1(curve)[1] for curve in curves], np.float64)
    named = detections.score >= threshold[detections.label]
    wrong = np.flatnonzero(named & ((found == WRONG) | (found == DUPLICATE)))
    wrong = wrong[np.argsort(-detections.score[wrong], kind="stable")]
    chosen = detections._replace(**{name: field[wrong] for name, field in detections._asdict().items()})
    other = average_precision.best_matches(objects, chosen, of_class=False)
    own = average_precision.Matches(*(field[wrong] for field in matches))
    near, confused = own.overlap >= LEAST_OVERLAP, other.overlap >= LEAST_OVERLAP
    kind = np.select([found[wrong] == DUPLICATE, near, confused], [0, 1, 2], 3)
    unmet = np.ones(len(objects.label), bool)
    unmet[matches.object[named & (found == RIGHT)]] = False
    missed = np.flatnonzero(unmet & ~objects.difficult)
    size = np.prod(objects.box[missed, 2:] - objects.box[missed, :2], axis=1)
    return Mistakes(
        wrong,
        kind,
        np.select([near, confused], [own.object, other.object], -1),
        np.select([near, confused], [own.overlap, other.overlap], 0.0),
        missed[np.argsort(-size, kind="stable")],
        threshold,
    )
