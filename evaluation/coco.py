"""Average precision by the rules of COCO, by COCO's own program, `pycocotools`, which is given what is in memory.

The boxes are those of `average_precision`: edges in pixels, so that a width is right - left, as in COCO's files. (Of
VOC's inclusive coordinates it is xmax - xmin + 1.) Difficult objects are given as `iscrowd`: a detection that lies in
one counts as nothing, by the share of the detection's own area, and they are not among the positives.
"""

import contextlib
import io
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Of an image and class so many detections are taken, the surest.
MOST_DETECTIONS = 100


class CocoAP(NamedTuple):
    """Average precision of each class, float64 [classes], NaN without objects that are not difficult.

    Attributes:
      all: mean over intersections over union of 0.5, 0.55, … 0.95.
      at_50, at_75: at 0.5 and at 0.75.
    """

    all: np.ndarray
    at_50: np.ndarray
    at_75: np.ndarray


def average_precision(objects, detections, class_num):
    """Returns the `CocoAP` at 101 recalls, of objects of all sizes; args: see `average_precision.class_curves`."""
    images = np.unique(np.concatenate([objects.image, detections.image]))
    ids = {"images": [{"id": int(k)} for k in images], "categories": [{"id": k} for k in range(class_num)]}
    truth = _annotations(objects, iscrowd=objects.difficult.astype(int))
    # Its prints are for its own command line.
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(_dataset(ids, truth), _dataset(ids, _annotations(detections, score=detections.score)), "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], judge.params.areaRngLbl[:1]
        judge.params.maxDets = [MOST_DETECTIONS]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 0]  # [overlaps, recalls, classes]
    ap = np.where(precision[0, 0] < 0, np.nan, precision.mean(axis=1))
    return CocoAP(ap.mean(axis=0), ap[0], ap[5])


def _annotations(boxes, **others):
    """Returns COCO's annotations of boxes; `others` are arrays of more values, by name. Ids from 1: 0 means none."""
    corner = np.concatenate([boxes.box[:, :2], np.maximum(boxes.box[:, 2:] - boxes.box[:, :2], 0)], axis=1)
    columns = {"id": np.arange(1, len(corner) + 1), "image_id": boxes.image, "category_id": boxes.label}
    columns |= {"bbox": corner, "area": corner[:, 2] * corner[:, 3], **others}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _dataset(ids, annotations):
    dataset = COCO()
    dataset.dataset = ids | {"annotations": annotations}
    dataset.createIndex()
    return dataset
