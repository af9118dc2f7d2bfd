"""What image_classification.py writes: the best classes of each image, as text or JSON."""

import json

import numpy as np


def top_classes(scores, top_k, threshold=None):
    """Returns the indices of the `top_k` highest of `scores` [classes], best first; only those from `threshold` on.

    Of equal scores the lower index comes first.
    """
    best = np.argsort(-scores, kind="stable")[:top_k]
    return best if threshold is None else best[scores[best] >= threshold]


def as_text(image, best):
    """Returns the lines for an image, which has a `name` and a `label`, and its best classes, (index, name, score)."""
    header = f"{image.name}\t{image.label}" if image.label else image.name
    return "\n".join([header, *(f"{index} {name}: {score:.3f}" for index, name, score in best)])


def write_text(path, predictions):
    """Writes `as_text` of each prediction, an image and its best classes; returns how many images."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for count, (image, best) in enumerate(predictions, start=1):  # noqa: B007
            file.write(as_text(image, best) + "\n")
    return count


def write_json(path, predictions):
    """Writes a JSON list of {"image", "label", "classes": [{"index", "name", "score"}]}; returns how many images."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for count, (image, best) in enumerate(predictions, start=1):
            classes = [{"index": index, "name": name, "score": round(score, 6)} for index, name, score in best]
            row = {"image": image.name, "label": image.label, "classes": classes}
            file.write(("\n" if count == 1 else ",\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")
    return count
