"""The measures of masks against a loop, Keras and scikit-learn; and the reports."""

import base64
import io
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
from PIL import Image
import pytest
from sklearn.metrics import confusion_matrix

from evaluation import confusion, outputs, palette
from evaluation.evaluate import evaluate
from evaluation.segmentation import SegmentationEvaluator

CLASSES = 7
NAMES = [("", name) for name in ("background", "cat", "dog", "<owl>", "bat", "dog", "")]


def images(count=9, seed=0):
    """Masks of several sizes, in which class 4 is nowhere, 5 never found and 6 never true, and a void one."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        size = rng.integers(5, 30, 2)
        truth = rng.choice([0, 1, 2, 3, 5, -1], size, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
        found = np.where(rng.random(size) < 0.6, truth, rng.choice([0, 1, 2, 3, 6], size))
        found = np.where((found < 0) | (found == 5), 0, found)
        yield f"{k}.jpg", np.full(size, -1) if k == 5 else truth, found


def evaluator_of(masks):
    evaluator = SegmentationEvaluator(CLASSES, NAMES)
    for name, truth, found in masks:
        evaluator.add_images([name], [confusion.count(truth, found, CLASSES)])
    evaluator.result()
    return evaluator


def plain_iou(masks):
    """Pixel by pixel."""
    both, either = [0] * CLASSES, [0] * CLASSES
    for _, truth, found in masks:
        for t, f in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
            if t >= 0:
                both[t] += t == f
                for k in {t, f}:
                    either[k] += 1
    return [b / e if e else None for b, e in zip(both, either, strict=True)]


def test_the_measures_are_those_of_a_loop_of_keras_and_of_scikit_learn():
    masks = list(images())
    evaluator = evaluator_of(masks)
    iou = plain_iou(masks)
    assert iou[4] is None and np.isnan(evaluator.iou[4]) and iou[5] == iou[6] == 0
    there = [value for value in iou if value is not None]
    np.testing.assert_allclose(evaluator.iou[[0, 1, 2, 3, 5, 6]], there, atol=1e-12)
    assert evaluator.metrics["mIoU"] == pytest.approx(np.mean(there), abs=1e-12)
    truth = np.concatenate([truth.ravel() for _, truth, _ in masks])
    found = np.concatenate([found.ravel() for _, _, found in masks])[truth >= 0]
    truth = truth[truth >= 0]
    measure = keras.metrics.MeanIoU(CLASSES)
    measure.update_state(truth, found)
    assert evaluator.metrics["mIoU"] == pytest.approx(float(measure.result()), abs=1e-6)
    np.testing.assert_array_equal(evaluator.confusion, confusion_matrix(truth, found, labels=range(CLASSES)))
    assert evaluator.metrics["pixel_accuracy"] == pytest.approx((truth == found).mean())
    accuracy = [(found[truth == k] == k).mean() for k in np.unique(truth)]
    assert evaluator.metrics["mean_accuracy"] == pytest.approx(np.mean(accuracy))
    assert (evaluator.metrics["images"], evaluator.metrics["pixels"]) == (9, len(truth))
    for one, value in zip(masks, evaluator.image_iou, strict=True):
        alone = [value for value in plain_iou([one]) if value is not None]
        assert np.isnan(value) if one[0] == "5.jpg" else value == pytest.approx(np.mean(alone))


def test_batches_of_outputs_give_the_same_and_keep_their_masks():
    masks = list(images())
    expected, evaluator, kept = evaluator_of(masks), SegmentationEvaluator(CLASSES), {}
    evaluator.masks = SimpleNamespace(write=kept.__setitem__)

    def batches():
        for begin in range(0, len(masks), 4):
            names, truths, found = zip(*masks[begin : begin + 4], strict=True)
            padded = np.full([len(names), 30, 30], -1)
            for k, one in enumerate(found):
                padded[k, : one.shape[0], : one.shape[1]] = one
            batch = {"name": np.array([name.encode() for name in names], object), "valid": np.ones(len(names), bool)}
            batch["original"] = np.array([one.shape for one in found])
            counts = [confusion.count(*pair, CLASSES) for pair in zip(truths, found, strict=True)]
            yield batch, {"confusion": np.stack(counts), "prediction": padded}

    np.testing.assert_equal(evaluate(evaluator, batches()).metrics, expected.metrics)
    np.testing.assert_equal(evaluator.image_iou, expected.image_iou)
    for name, _, found in masks:
        np.testing.assert_array_equal(kept[name], found)


def test_confusions_of_other_classes():
    with pytest.raises(ValueError, match=r"shape \(1, 6, 6\), not of 7 classes"):
        SegmentationEvaluator(CLASSES).add_images(["a"], np.zeros([1, 6, 6], int))


def test_the_files_of_a_report(tmp_path):
    masks = list(images())
    evaluator = evaluator_of(masks)
    by_name = {name: (np.full([*truth.shape, 3], 77, np.uint8), truth, found) for name, truth, found in masks}
    asked = []

    def read_images(names):
        asked.extend(names)
        return {name: by_name[name] for name in names if name != "3.jpg"}

    evaluator.read_images = read_images
    evaluator.write_report(tmp_path, "a <title>")
    assert {path.name for path in tmp_path.iterdir()} == {"per_class.tsv", "report.html", "worst.html"}
    rows = [line.split("\t") for line in (tmp_path / "per_class.tsv").read_text().splitlines()]
    assert rows[0][:3] == ["index", "class", "IoU"] and len(rows) == 1 + CLASSES
    assert rows[1][2] == f"{evaluator.iou[0]:.6f}" and rows[5][2] == "" and rows[7][1] == "6"
    report, worst = ((tmp_path / f"{name}.html").read_text() for name in ("report", "worst"))
    assert "&lt;owl&gt;" in report and "a &lt;title&gt;" in report and "<owl>" not in report + worst
    assert report.count("<img") == 1
    # The worst come first; one whose image is lost has its line, and one of void alone none.
    order = sorted((iou, k) for k, iou in enumerate(evaluator.image_iou) if iou == iou)
    assert asked == [f"{k}.jpg" for _, k in order] and "5.jpg" not in worst
    assert re.findall(r"mean IoU (\d\.\d+)", re.sub("alt=.*?src", "", worst)) == [f"{iou:.4f}" for iou, _ in order]
    assert worst.count("<img") == len(order) - 1
    assert "#{:02x}{:02x}{:02x}".format(*palette.COLORS[3]) in worst and "void" in worst


def test_nothing_but_void(tmp_path):
    evaluator = SegmentationEvaluator(2)
    evaluator.add_images(["a.jpg"], np.zeros([1, 2, 2], int))
    metrics = evaluator.result()
    assert metrics["pixels"] == 0 and np.isnan([metrics["mIoU"], metrics["pixel_accuracy"]]).all()
    evaluator.write_report(tmp_path, "void")
    outputs.write_metrics(tmp_path / "metrics.json", metrics | evaluator.by_class())
    assert json.loads((tmp_path / "metrics.json").read_text())["IoU"] == {"0": None, "1": None}


def test_names_that_several_classes_have():
    assert list(evaluator_of(images()).by_class()["IoU"]) == [
        "background", "cat", "dog (2)", "<owl>", "bat", "dog (5)", "6",
    ]  # fmt: skip


def test_the_picture_of_many_classes_shows_those_that_are_confused_most():
    counts = np.diag(np.arange(1, 302))
    counts[7, 9] = 5
    text = confusion.picture(counts, [str(k) for k in range(301)], "pixels")
    assert "The 200 classes with the lowest accuracy of 301" in text
    assert confusion.most_confused(counts, [str(k) for k in range(301)]) == [("7", "9", 5, "38.5%")]


def test_worst_images_show_the_masks_in_their_colors(tmp_path):
    truth, found = np.zeros([40, 60], int), np.ones([40, 60], int)
    evaluator = evaluator_of([("a.jpg", truth, found)])
    evaluator.read_images = lambda names: {"a.jpg": (np.full([40, 60, 3], 200, np.uint8), truth, found)}
    evaluator.write_report(tmp_path, "t")
    encoded = re.search(r"data:image/jpeg;base64,([^\"]+)", (tmp_path / "worst.html").read_text())[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)
    width = pixels.shape[1] // 3
    for k, color in enumerate([(200, 200, 200), palette.COLORS[0], palette.COLORS[1]]):
        assert np.abs(pixels[50:-50, k * width + 20 : (k + 1) * width - 30] - np.array(color)).max() < 12


def test_the_page_of_worst_images_names_values_that_are_no_class(tmp_path):
    """In void pixels a result may have any."""
    truth, found = np.full([8, 8], palette.VOID), np.full([8, 8], 77)
    truth[:4], found[:4] = 1, 0
    evaluator = evaluator_of([("a.jpg", truth, found)])
    evaluator.read_images = lambda names: {"a.jpg": (np.zeros([8, 8, 3], np.uint8), truth, found)}
    evaluator.write_report(tmp_path, "t")
    assert "no class (77)" in (tmp_path / "worst.html").read_text()
