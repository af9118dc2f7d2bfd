"""The best classes of images."""

import numpy as np

from evaluation import predictions


def test_top_classes():
    scores = np.array([0.2, 0.9, 0.5, 0.9, 0.1], np.float32)
    assert predictions.top_classes(scores, 3).tolist() == [1, 3, 2]
    assert predictions.top_classes(scores, 99).tolist() == [1, 3, 2, 0, 4]
    assert predictions.top_classes(scores, 4, 0.5).tolist() == [1, 3, 2]
    assert predictions.top_classes(scores, 4, 0.95).tolist() == []
