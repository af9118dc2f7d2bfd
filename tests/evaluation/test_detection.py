"""Average precision of boxes: computed by hand, by plain Python, and by pycocotools from its own files."""

import contextlib
import csv
import io
import json
import re
import time
import tracemalloc

import hypothesis
from hypothesis import strategies
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
import pytest

from evaluation import average_precision, mistakes
from evaluation.average_precision import Detections, TrueObjects
from evaluation.detection import DetectionEvaluator
from evaluation.evaluate import evaluate
from tests import random_devkit

SQUARE = (10, 10, 30, 30)


def objects_of(rows):
    """Rows (image, class, box, difficult)."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    kinds = (np.int64, np.int64, np.float64, bool)
    image, label, box, difficult = (np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))
    return TrueObjects(image, label, box.reshape(-1, 4), difficult)


def detections_of(rows):
    """Rows (image, class, box, score)."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    kinds = (np.int64, np.int64, np.float64, np.float64)
    image, label, box, score = (np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))
    return Detections(image, label, box.reshape(-1, 4), score)


def evaluated(objects, detections, class_num=2, images=3):
    evaluator = DetectionEvaluator(class_num)
    evaluator.add_images([f"{k}.jpg" for k in range(images)], objects_of(objects), detections_of(detections))
    evaluator.result()
    return evaluator


def moved(box, right):
    return box[0] + right, box[1], box[2] + right, box[3]


def test_by_hand():
    """Right, wrong, right: precision is 1 up to recall 0.5, and 2/3 up to 1."""
    found = [(0, 0, SQUARE, 0.9), (0, 0, moved(SQUARE, 40), 0.8), (1, 0, moved(SQUARE, 2), 0.7)]
    evaluator = evaluated([(0, 0, SQUARE, False), (1, 0, SQUARE, False)], found)
    assert evaluator.ap[0] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11) and np.isnan(evaluator.ap[1])
    assert evaluator.ap_area[0] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert evaluator.metrics["mAP"] == evaluator.ap[0]
    assert evaluator.by_class()["AP"] == {"0": evaluator.ap[0]}
    # The second box has an IoU of 18/22, 0.818: right at 0.5 to 0.8, seven of ten thresholds. COCO interpolates at 101
    # recalls, of which 51 are up to 0.5.
    assert evaluator.metrics["mAP_coco_50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert evaluator.metrics["mAP_coco"] == pytest.approx((0.7 * (51 + 50 * 2 / 3) + 0.3 * 51) / 101)


@pytest.mark.parametrize(
    ("objects", "detections", "ap"),
    [
        # A second match of the same box is wrong, though it comes before the match of the other.
        ([SQUARE, moved(SQUARE, 50)], [(SQUARE, 3), (SQUARE, 2), (moved(SQUARE, 50), 1)], (6 + 5 * 2 / 3) / 11),
        # The best box counts, even if it is taken and another one would do.
        ([SQUARE, moved(SQUARE, 5)], [(SQUARE, 3), (moved(SQUARE, 1), 2)], 6 / 11),
        # An IoU of 1/2 is enough: 20 of 40 columns. (VOC's coordinates are 11 to 30, and 11 to 50.)
        ([SQUARE], [((10, 10, 50, 30), 1)], 1.0),
        ([SQUARE], [((10, 10, 51, 30), 1)], 0.0),
        # Of equal scores the first counts first.
        ([SQUARE], [(SQUARE, 1), (moved(SQUARE, 50), 1)], 1.0),
        ([SQUARE], [(moved(SQUARE, 50), 1), (SQUARE, 1)], 0.5),
        ([SQUARE], [], 0.0),
    ],
)
def test_rules(objects, detections, ap):
    evaluator = evaluated([(0, 0, box, False) for box in objects], [(0, 0, *one) for one in detections])
    assert evaluator.ap[0] == pytest.approx(ap)


def test_difficult_objects_count_as_nothing():
    objects = [(0, 0, SQUARE, True), (0, 0, moved(SQUARE, 50), False), (0, 1, SQUARE, True)]
    found = [(0, 0, SQUARE, 0.9), (0, 0, SQUARE, 0.8), (0, 0, moved(SQUARE, 50), 0.7), (0, 1, SQUARE, 0.9)]
    evaluator = evaluated(objects, found)
    assert [evaluator.ap[0], evaluator.ap_area[0], evaluator.coco.all[0]] == pytest.approx([1, 1, 1])
    assert np.isnan(evaluator.ap[1]) and np.isnan(evaluator.coco.all[1])
    assert [evaluator.metrics[name] for name in ("images", "objects", "difficult", "detections")] == [3, 1, 2, 4]


def test_a_recall_of_three_tenths_is_below_the_fourth_point():
    """As in the usual implementations, 3 * 0.1 is above 0.3."""
    box = [moved(SQUARE, 25 * k) for k in range(10)]
    evaluator = evaluated([(0, 0, one, False) for one in box], [(0, 0, one, 1) for one in box[:3]])
    assert evaluator.ap[0] == pytest.approx(3 / 11) and evaluator.ap_area[0] == pytest.approx(0.3)


@pytest.mark.parametrize("with_detections", [False, True])
def test_without_any_object(with_detections, tmp_path):
    evaluator = evaluated([], [(0, 0, SQUARE, 0.9)] * with_detections)
    assert all(np.isnan(evaluator.metrics[name]) for name in ("mAP", "mAP_area", "mAP_coco", "mAP_coco_75"))
    assert evaluator.by_class() == {"AP": {}, "AP_area": {}, "AP_coco": {}}
    assert "nan" in evaluator.table()
    evaluator.write_report(tmp_path, "nothing")
    assert (tmp_path / "report.html").exists()


IMAGE_AND_CLASS = (strategies.integers(0, 2), strategies.integers(0, 1))
CORNER, SIDE = strategies.integers(0, 8), strategies.integers(1, 4)
BOX = strategies.tuples(CORNER, CORNER, SIDE, SIDE).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
OBJECT = strategies.tuples(*IMAGE_AND_CLASS, BOX, strategies.booleans())
DETECTION = strategies.tuples(*IMAGE_AND_CLASS, BOX, strategies.sampled_from([0.25, 0.5, 0.75]))


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(strategies.lists(OBJECT, max_size=12), strategies.lists(DETECTION, max_size=20))
def test_like_plain_python(objects, detections):
    truth, found = objects_of(objects), detections_of(detections)
    outcomes = average_precision.outcomes(truth, found, average_precision.best_matches(truth, found))
    curves = average_precision.class_curves(truth, found, outcomes, 2)
    for label, curve in enumerate(curves):
        boxes = {k: [(from_one(box), bad) for i, c, box, bad in objects if (i, c) == (k, label)] for k in range(3)}
        lines = [(i, score, from_one(box)) for i, c, box, score in detections if c == label]
        expected = random_devkit.plain_measures(boxes, lines)
        measured = average_precision.eleven_points(curve), average_precision.area(curve)
        assert np.isnan(measured).all() if expected is None else measured == pytest.approx(expected, abs=1e-12)


def from_one(box):
    return box[0] + 1, box[1] + 1, box[2], box[3]


def random_boxes(rng, count):
    corner = rng.uniform(0, 80, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(4, 60, (count, 2))], axis=1)


def random_world(seed, images=12, class_num=4):
    rng = np.random.default_rng(seed)
    count = images * 4
    objects = TrueObjects(
        rng.integers(0, images, count), rng.integers(0, class_num - 1, count), random_boxes(rng, count),
        rng.random(count) < 0.2,
    )  # fmt: skip
    again = rng.integers(0, count, 3 * count)
    box = objects.box[again] + rng.normal(0, 3, (len(again), 4))
    label = np.where(rng.random(len(again)) < 0.8, objects.label[again], rng.integers(0, class_num, len(again)))
    score = np.round(rng.random(len(again)), 2).astype(np.float32).astype(np.float64)
    order = np.argsort(objects.image[again], kind="stable")
    return objects, Detections(*(column[order] for column in (objects.image[again], label, box, score)))


@pytest.mark.parametrize("seed", range(3))
def test_like_pycocotools_from_files(seed, tmp_path):
    """More than 100 detections in an image, scores that are equal, difficult objects as iscrowd, an empty class."""
    objects, detections = random_world(seed, images=3)
    evaluator = DetectionEvaluator(4)
    evaluator.add_images(["a", "b", "c"], objects, detections)
    metrics = evaluator.result()
    for name, boxes in (("truth", objects), ("found", detections)):
        rows = []
        for k, (left, top, right, bottom) in enumerate(boxes.box.tolist()):
            row = {"id": k + 1, "image_id": int(boxes.image[k]), "category_id": int(boxes.label[k])}
            row |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            rows.append(row | {"iscrowd": int(objects.difficult[k])} if name == "truth" else row | {
                "score": float(boxes.score[k])
            })  # fmt: skip
        categories = [{"id": k, "name": str(k)} for k in range(4)]
        content = {"images": [{"id": k} for k in range(3)], "categories": categories, "annotations": rows}
        (tmp_path / f"{name}.json").write_text(json.dumps(content if name == "truth" else rows))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(tmp_path / "truth.json")
        judge = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    ours = [metrics[name] for name in ("mAP_coco", "mAP_coco_50", "mAP_coco_75")]
    assert ours == pytest.approx(judge.stats[:3], abs=1e-9) and 0.1 < ours[0] < 0.9
    assert np.isnan(evaluator.coco.all).tolist() == [False, False, False, True]


def batches_of(objects, detections, images, size):
    """As the input pipeline and a network give them: padded arrays, in batches of `size` images."""
    for first in range(0, images, size):
        names = range(first, min(first + size, images))
        rows = [(np.flatnonzero(objects.image == k), np.flatnonzero(detections.image == k)) for k in names]
        most = [max(len(row[which]) for row in rows) for which in range(2)]
        label, classes = (np.full((len(rows), n), -1) for n in most)
        box, boxes = (np.zeros((len(rows), n, 4)) for n in most)
        difficult, scores = np.zeros((len(rows), most[0]), bool), np.zeros((len(rows), most[1]))
        for k, (there, found) in enumerate(rows):
            label[k, : len(there)], box[k, : len(there)] = objects.label[there], objects.box[there]
            difficult[k, : len(there)] = objects.difficult[there]
            classes[k, : len(found)], boxes[k, : len(found)] = detections.label[found], detections.box[found]
            scores[k, : len(found)] = detections.score[found]
        batch = {"label": label, "box": box, "difficult": difficult, "valid": np.ones(len(rows), bool)}
        batch["name"] = np.array([f"{k}.jpg".encode() for k in names])
        yield batch, {"boxes": boxes, "scores": scores, "classes": classes}


@pytest.mark.parametrize("size", [1, 5, 12])
def test_batches_of_any_size_give_the_same(size):
    objects, detections = random_world(7)
    whole = DetectionEvaluator(4)
    whole.add_images([f"{k}.jpg" for k in range(12)], objects, detections)
    evaluation = evaluate(DetectionEvaluator(4), batches_of(objects, detections, 12, size))
    assert evaluation.metrics == pytest.approx(whole.result(), abs=1e-12)


@pytest.mark.parametrize(
    ("place", "message"), [("label", "an object of class 4"), ("classes", "detection is of class 4")]
)
def test_classes_that_the_network_has_not(place, message):
    (batch, outputs), *_ = batches_of(*random_world(0), 12, 12)
    (batch if place == "label" else outputs)[place][0, 0] = 4
    with pytest.raises(ValueError, match=f"{message}, the network has 4 classes"):
        DetectionEvaluator(4).add(batch, outputs)


def test_kinds_of_mistakes():
    """One of each, and a detection of a low score that nobody counts; the largest miss first."""
    other, small = moved(SQUARE, 60), (200, 10, 205, 15)
    objects = [(0, 0, SQUARE, False), (0, 1, other, False), (1, 0, SQUARE, False), (1, 1, small, False)]
    objects += [(2, 1, other, False)]
    more = [(10 + 25 * k, 100, 30 + 25 * k, 120) for k in range(4)]
    objects += [(2, 0, box, False) for box in more]
    found = [
        (0, 0, SQUARE, 0.99),
        (0, 0, moved(SQUARE, 1), 0.98),  # duplicate
        (1, 0, moved(SQUARE, 12), 0.97),  # IoU 8/32
        (0, 0, moved(other, 2), 0.96),  # of the other class
        (2, 0, small, 0.95),
        (1, 0, SQUARE, 0.94),
        (2, 0, SQUARE, 0.01),
        *((2, 0, box, 0.5) for box in more),
    ]
    evaluator = evaluated(objects, found)
    made = mistakes.find(evaluator.objects, evaluator.detections, evaluator.matches, evaluator.found, evaluator.curves)
    assert made.wrong.tolist() == [1, 2, 3, 4] and made.kind.tolist() == [0, 1, 2, 3]
    assert made.object.tolist() == [0, 2, 1, -1] and made.overlap[1] == pytest.approx(8 / 32)
    assert made.missed.tolist() == [1, 4, 3]
    assert made.threshold.tolist() == [0.5, np.inf]
    counts = made.counts(evaluator.objects, evaluator.detections)
    assert counts.tolist() == [[1, 1, 1, 1, 0], [0, 0, 0, 0, 3]]


def test_report(tmp_path):
    objects, detections = random_world(1)
    evaluator = DetectionEvaluator(4, [("", f"a <{k}>") for k in range(4)])
    evaluator.add_images([f"{k}.jpg" for k in range(12)], objects, detections)
    evaluator.result()
    wanted = []
    evaluator.read_images = lambda names: (
        wanted.extend(names) or {name: np.full((150, 160, 3), 99, np.uint8) for name in names[1:]}
    )
    evaluator.write_report(tmp_path, "a title & more")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mistakes.html", "per_class.tsv", "report.html"]
    with open(tmp_path / "per_class.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["class"] for row in rows] == [f"a <{k}>" for k in range(4)]
    assert [float(row["AP"]) for row in rows[:3]] == pytest.approx(evaluator.ap[:3].tolist(), abs=1e-6)
    assert rows[3]["AP"] == rows[3]["best_F1"] == "" and rows[3]["objects"] == "0"
    for k, row in enumerate(rows):
        assert int(row["objects"]) == ((objects.label == k) & ~objects.difficult).sum()
        assert int(row["difficult"]) == ((objects.label == k) & objects.difficult).sum()
        assert int(row["detections"]) == (detections.label == k).sum()
    report, worst = ((tmp_path / name).read_text() for name in ("report.html", "mistakes.html"))
    assert "a title &amp; more" in report and "a &lt;0&gt;" in report and report.count("<img") == 1
    assert len(set(wanted)) == len(wanted) > 1
    without = worst.count(f"<small>{wanted[0]}</small>")
    assert without and worst.count('src="data:image/jpeg') == worst.count("<figure>") > without
    assert re.search(r"localization, IoU 0\.[1-4]\d with a &lt;\d&gt;", worst)


def test_crowded_images_take_memory_for_some_of_the_pairs(monkeypatch):
    """What is found is that of all pairs at once; memory is not."""
    rng = np.random.default_rng(0)
    image, zero = rng.integers(0, 2, 1000), np.zeros(1000, int)
    objects = TrueObjects(zero, zero, random_boxes(rng, 1000), np.zeros(1000, bool))
    detections = Detections(image, zero, random_boxes(rng, 1000), rng.random(1000))
    found, most = [], []
    for pairs in (10**6, 10**4, 1):
        monkeypatch.setattr(average_precision, "PAIRS", pairs)
        tracemalloc.start()
        found.append(average_precision.best_matches(objects, detections))
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    for matches in found[1:]:
        np.testing.assert_array_equal(matches.object, found[0].object)
        np.testing.assert_array_equal(matches.overlap, found[0].overlap)
    assert most[1] < most[0] / 20 and (found[0].object >= 0).sum() > 400


def test_thousands_of_images_take_seconds():
    rng = np.random.default_rng(0)
    images, each = 5000, 100
    count = 3 * images
    objects = TrueObjects(
        np.arange(count) // 3, rng.integers(0, 20, count), random_boxes(rng, count), np.zeros(count, bool)
    )
    found = images * each
    detections = Detections(
        np.arange(found) // each, rng.integers(0, 20, found), random_boxes(rng, found), rng.random(found)
    )
    start = time.perf_counter()
    outcomes = average_precision.outcomes(objects, detections, average_precision.best_matches(objects, detections))
    curves = average_precision.class_curves(objects, detections, outcomes, 20)
    assert np.isfinite([average_precision.eleven_points(curve) for curve in curves]).all()
    assert time.perf_counter() - start < 10  # 0.2 seconds, on a machine with nothing else to do
