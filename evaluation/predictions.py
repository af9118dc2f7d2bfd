"""What image_classification.py writes: the classes that are named of each image, by the ending of the file

.txt, .tsv, none   the image's path and label, then a line "index name: score" for each class, as published
.json              a list of {"image", "label", "classes": [{"index", "name", "score"}]}
.jsonl             such an object a line
.csv               a header, and a line image,label,index,name,score for each class; for an image without one a line in
                   which index, name and score are empty
"""

import csv
import json
import os

import numpy as np

COLUMNS = ("image", "label", "index", "name", "score")


def writer(path):
    """Returns the function that writes the form that `path` asks for by its ending; ValueError if there is none."""
    writers = {"": write_text, ".txt": write_text, ".tsv": write_text}
    writers |= {".json": write_json, ".jsonl": write_json_lines, ".csv": write_csv}
    ending = os.path.splitext(path)[1].lower()
    if ending not in writers:
        raise ValueError(
            f"--result={path}: name a file that ends in .json, .jsonl or .csv, or in .txt, .tsv or nothing for text"
        )
    return writers[ending]


def top_classes(scores, top_k=None, threshold=None):
    """Returns the indices of the highest of `scores` [classes], best first, `top_k` or all, only from `threshold` on.

    Of equal scores the lower index comes first.
    """
    best = np.argsort(-scores, kind="stable")[:top_k]
    return best if threshold is None else best[scores[best] >= threshold]


def as_text(image, best):
    """Returns the lines for an image, which has a `name` and a `label`, and its best classes, (index, name, score)."""
    header = f"{image.name}\t{image.label}" if image.label else image.name
    return "\n".join([header, *(f"{f'{index} {name}'.rstrip()}: {score:.3f}" for index, name, score in best)])


def write_text(path, predictions):
    """Writes `as_text` of each prediction, an image and its best classes; returns how many images."""
    return _write_each(path, predictions, as_text)


def write_json(path, predictions):
    """Writes a list; arguments and result as of `write_text`."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for count, (image, best) in enumerate(predictions, start=1):
            file.write(("\n" if count == 1 else ",\n") + _as_json(image, best))
        file.write("\n]\n")
    return count


def write_json_lines(path, predictions):
    """Writes an object a line; arguments and result as of `write_text`."""
    return _write_each(path, predictions, _as_json)


def _write_each(path, predictions, form):
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for count, (image, best) in enumerate(predictions, start=1):  # noqa: B007
            file.write(form(image, best) + "\n")
    return count


def write_csv(path, predictions):
    """Writes a line a class; arguments and result as of `write_text`."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for count, (image, best) in enumerate(predictions, start=1):  # noqa: B007
            rows = [(index, name, round(score, 6)) for index, name, score in best] or [("", "", "")]
            table.writerows((path_of(image), image.label, *row) for row in rows)
    return count


def _as_json(image, best):
    classes = [{"index": index, "name": name, "score": round(score, 6)} for index, name, score in best]
    return json.dumps({"image": path_of(image), "label": image.label, "classes": classes}, ensure_ascii=False)


def path_of(image):
    """Returns the path as it is: the `name` of an image has escapes for what does not fit into a line of text.

    Where a list names a file in its own folder, `file` is longer than the name; bytes that are no UTF-8 stay escapes.
    """
    try:
        image.file.encode()
    except UnicodeEncodeError:
        return image.name
    return image.name if image.file.endswith(image.name) else image.file
