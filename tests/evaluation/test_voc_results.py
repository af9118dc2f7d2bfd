"""VOC's result files: what is written is what is read; and what is no result is named with its line."""

import shutil

import numpy as np
import pytest

from data_processing.sources import voc
from evaluation import voc_results
from evaluation.average_precision import WRONG, Detections, TrueObjects, best_matches, outcomes
from evaluation.detection import DetectionEvaluator
from tests import random_devkit

VOC_NAMES = [("", name) for name in voc.CLASSES]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    random_devkit.write(folder, seed=3, images=12)
    return folder


@pytest.fixture
def copied(world, tmp_path):
    return shutil.copytree(world, tmp_path / "copied")


def truth_of(folder, max_skipped=0.01):
    return voc_results.read_truth(voc_results.Source(f"voc2007:{folder}/VOCdevkit", "test"), max_skipped)


def evaluator_of(truth, detections):
    evaluator = DetectionEvaluator(len(voc.CLASSES), VOC_NAMES)
    evaluator.add_images(truth.ids, truth.objects, detections)
    evaluator.result()
    return evaluator


def test_truth_and_results_are_what_the_files_hold(world):
    truth = truth_of(world)
    objects, lines = random_devkit.read(world)
    assert truth.ids == (world / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").read_text().split()
    ours = [
        (voc.CLASSES[label], truth.ids[image], box[0] + 1, box[1] + 1, box[2], box[3], difficult)
        for image, label, box, difficult in zip(*(column.tolist() for column in truth.objects), strict=True)
    ]
    theirs = [(c, k, *box, bad) for c, by_id in objects.items() for k, rows in by_id.items() for box, bad in rows]
    assert sorted(ours) == sorted(theirs)
    results = voc_results.read(world, truth)
    found = results.detections
    ours = [
        (voc.CLASSES[label], truth.ids[image], score, [box[0] + 1, box[1] + 1, box[2], box[3]])
        for image, label, box, score in zip(*(column.tolist() for column in found), strict=True)
    ]
    assert ours == [(c, *line) for c in voc.CLASSES for line in lines[c]]  # in the order of the files
    assert results.missing == [f"VOC2007/Main/comp4_det_test_{name}.txt" for name in ("cat", "cow")]
    assert results.ignored == 0


def test_images_of_the_devkit(copied):
    truth = truth_of(copied)
    (copied / f"VOCdevkit/VOC2007/JPEGImages/{truth.ids[1]}.jpg").unlink()
    images = truth.read_images(truth.ids[:3])
    assert sorted(images) == sorted([truth.ids[0], truth.ids[2]])
    assert images[truth.ids[0]].shape == (random_devkit.HEIGHT, random_devkit.WIDTH, 3)


def test_what_is_written_is_read(tmp_path, world):
    """Boxes of float32, as of a network, come back to the bit, and scores as float32; all measures are the same."""
    truth, rng = truth_of(world), np.random.default_rng(0)
    near = truth.objects.box.repeat(5, axis=0) + rng.normal(0, 4, (5 * len(truth.objects.label), 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    count, image = len(near), truth.objects.image.repeat(5)
    score = rng.random(count).astype(np.float32).astype(np.float64)
    detections = Detections(image, truth.objects.label.repeat(5), near.astype(np.float32).astype(np.float64), score)
    evaluator = evaluator_of(truth, detections)
    evaluator.image_names = [f"VOCdevkit/VOC2007/JPEGImages/{name}.jpg" for name in truth.ids]
    voc_results.write(tmp_path / "results", "test", evaluator)
    files = list((tmp_path / "results/VOC2007/Main").iterdir())
    assert sorted(path.name for path in files) == [f"comp4_det_test_{name}.txt" for name in voc.CLASSES]
    found = voc_results.read(tmp_path / "results", truth).detections
    order = np.argsort(detections.label, kind="stable")
    assert (found.image == detections.image[order]).all() and (found.label == detections.label[order]).all()
    assert (found.box == detections.box[order]).all()
    assert (found.score.astype(np.float32) == detections.score[order]).all()
    again = evaluator_of(truth, found)
    assert again.metrics == evaluator.metrics and again.by_class() == evaluator.by_class()


def test_names_that_are_not_of_voc(tmp_path):
    evaluator = DetectionEvaluator(3, [("", "a/b"), ("", "same"), ("", "same")])
    boxes = np.array([[0, 0, 9.5, 9]] * 3)
    image, label = np.arange(3), np.arange(3)
    objects = TrueObjects(image, label, boxes, np.zeros(3, bool))
    names = ["x/my dog.jpg", "y/one.jpg", "z/one.jpg"]
    evaluator.add_images(names, objects, Detections(image, label, boxes, np.ones(3) / 3))
    evaluator.result()
    voc_results.write(tmp_path, "val", evaluator)
    texts = {path.name: path.read_text() for path in (tmp_path / "Main").iterdir()}
    box = "0.333333333 1.0 1.0 9.5 9.0\n"
    assert texts == {
        "comp4_det_val_a_b.txt": f"my_dog {box}",
        "comp4_det_val_same (1).txt": f"y/one {box}",
        "comp4_det_val_same (2).txt": f"z/one {box}",
    }


def test_images_of_voc_that_say_no_year_are_of_2007(tmp_path):
    evaluator = DetectionEvaluator(20, VOC_NAMES)
    box = np.array([[0.0, 0, 9, 9]])
    one = np.zeros(1, int)
    objects, found = TrueObjects(one, one, box, np.zeros(1, bool)), Detections(one, one, box, np.ones(1))
    evaluator.add_images(["voc/JPEGImages/000007.jpg"], objects, found)
    evaluator.result()
    voc_results.write(tmp_path, "val", evaluator)
    assert (tmp_path / "VOC2007/Main/comp4_det_val_aeroplane.txt").read_text() == "000007 1 1.0 1.0 9.0 9.0\n"
    assert len(list((tmp_path / "VOC2007/Main").iterdir())) == 20


@pytest.mark.parametrize("inside", ["", "results"])
def test_where_results_may_lie(world, tmp_path, inside):
    shutil.copytree(world / "results", tmp_path / inside, dirs_exist_ok=True)
    main = tmp_path / inside / "VOC2007/Main"
    (main / "comp4_det_test_dog.txt").rename(main / "comp3_det_test_dog.txt")
    (main / "comp4_det_val_dog.txt").write_text("of another list")
    (main / "notes.txt").write_text("not a result")
    truth = truth_of(world)
    for ours, theirs in zip(
        voc_results.read(tmp_path, truth).detections, voc_results.read(world, truth).detections, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    shutil.copy(main / "comp3_det_test_dog.txt", main / "comp4_det_test_dog.txt")
    with pytest.raises(ValueError, match="comp4_det_test_dog.txt: there is comp3_det_test_dog.txt, too"):
        voc_results.read(tmp_path, truth)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ID 0.5 1 2 3", "'.* 0.5 1 2 3' is not an id and five numbers"),
        ("ID 0.5 1 2 3 4 5", "is not an id and five numbers"),
        ("ID 0.5 1 2 3 x", "is not an id and five numbers"),
        ("ID 0.5 1 2 3 \xff", "is not an id and five numbers"),
        ("ID nan 1 2 3 4", "a number is not finite"),
        ("ID 0.5 1 2 inf 4", "a number is not finite"),
        ("ID 0.5 1 2 1e999 4", "a number is not finite"),
        ("000000 0.5 1 2 3 4", "the list test.txt has no image '000000'"),
        ("ID.jpg 0.5 1 2 3 4", "has no image"),
    ],
)
def test_what_is_no_result(copied, line, message):
    truth = truth_of(copied)
    path = copied / "results/VOC2007/Main/comp4_det_test_dog.txt"
    good = f"{truth.ids[0]} 0.5 1 2 3 4\n\n"
    path.write_bytes((good + line.replace("ID", truth.ids[1]) + "\n").encode("latin-1"))
    with pytest.raises(ValueError, match=rf"comp4_det_test_dog\.txt:3: .*{message}.*; write lines 'id score"):
        voc_results.read(copied, truth)


def test_a_box_whose_max_is_below_its_min_is_wrong_as_to_the_devkit(copied):
    truth = truth_of(copied)
    for path in (copied / "results/VOC2007/Main").iterdir():
        path.write_text("")
    (copied / "results/VOC2007/Main/comp4_det_test_dog.txt").write_text(
        f"{truth.ids[0]} 0.5 50.4 20 50.1 40\n{truth.ids[0]} 0.4 1 2 3 4\n"
    )
    found = voc_results.read(copied, truth)
    assert found.empty == 1 and found.detections.box[0].tolist() == [49.4, 19, 50.1, 40]
    matches = best_matches(truth.objects, found.detections)
    assert outcomes(truth.objects, found.detections, matches)[0] == WRONG


def test_images_whose_ids_would_be_one_have_numbers():
    assert voc_results._ids(["d/1.jpg", "d/1.png"]) == ["0_d/1.jpg", "1_d/1.png"]
    assert voc_results._ids(["", "a.jpg"]) == ["0_.", "1_a.jpg"]


def test_classes_that_voc_has_not(copied):
    (copied / "results/VOC2007/Main/comp4_det_test_unicorn.txt").write_text("")
    with pytest.raises(ValueError, match=r"comp4_det_test_unicorn\.txt: VOC has no class 'unicorn'"):
        voc_results.read(copied, truth_of(copied))


def test_no_file_at_all(world, tmp_path):
    with pytest.raises(ValueError, match="none of VOC2007/Main/comp4_det_test_aeroplane.txt and so on"):
        voc_results.read(tmp_path, truth_of(world))


def test_annotations_that_cannot_be_used(copied):
    """Their images are left out, and detections in them; too many are an error."""
    lost = (copied / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").read_text().split()[2]
    (copied / f"VOCdevkit/VOC2007/Annotations/{lost}.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=rf"1 of 12 annotations cannot be used, more than .*{lost}.xml: "):
        truth_of(copied)
    truth = truth_of(copied, max_skipped=0.1)
    assert lost not in truth.ids and len(truth.ids) == 11 and len(truth.bad) == 1
    before, results = random_devkit.read_results(copied), voc_results.read(copied, truth)
    in_lost = sum(name == lost for rows in before.values() for name, _, _ in rows)
    assert results.ignored == in_lost and len(results.detections.score) == sum(map(len, before.values())) - in_lost


@pytest.mark.parametrize("dataset", ["", "voc2007", "voc2007:", "folder:VOCdevkit"])
def test_what_is_not_voc(dataset):
    with pytest.raises(ValueError, match="name what --voc_results are of, as voc2007:VOCdevkit"):
        voc_results.read_truth(voc_results.Source(dataset, "test"), 0)
