"""evaluate.py on boxes as a user runs it: VOC's result files against plain Python and pycocotools, and a checkpoint."""

import contextlib
import io
import json
import os
import subprocess
import sys

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
import pytest

from data_processing.records import tfrecord
from models import checkpoint
from models.resnet import NetworkConfig, build_resnet
from tasks import detection
from tests import box_records, random_devkit
from tests.helpers import mpirun, python
from tests.scripts import ROOT, run_script

OPTIONS = ["--voc_results=results", "--dataset=voc2007:VOCdevkit", "--split=test", "--result=out"]


@pytest.fixture(scope="module")
def without_tensorflow(tmp_path_factory):
    """An environment in which TensorFlow cannot be imported: files need none."""
    folder = tmp_path_factory.mktemp("without")
    for name in ("tensorflow", "keras"):
        (folder / f"{name}.py").write_text("raise RuntimeError('this is imported, too')\n")
    return os.environ | {"PYTHONPATH": str(folder)}


def coco_stats(folder, truth, found):
    """AP by COCO's own files and summary: of all thresholds, at 0.5, at 0.75; difficult objects are iscrowd."""
    ids = (folder / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").read_text().split()
    number = {name: k for k, name in enumerate(ids)}

    def row(label, name, box):
        corner = [box[0] - 1, box[1] - 1, box[2] - box[0] + 1, box[3] - box[1] + 1]
        boxed = {"bbox": corner, "area": corner[2] * corner[3]}
        return boxed | {"image_id": number[name], "category_id": random_devkit.ALL.index(label)}

    objects = [
        row(label, name, box) | {"iscrowd": int(difficult)}
        for label, by_id in truth.items()
        for name, boxes in by_id.items()
        for box, difficult in boxes
    ]
    detections = [row(label, name, box) | {"score": s} for label, rows in found.items() for name, s, box in rows]
    for k, one in enumerate(objects):
        one["id"] = k + 1
    categories = [{"id": k} for k in range(len(random_devkit.ALL))]
    content = {"images": [{"id": k} for k in range(len(ids))], "categories": categories, "annotations": objects}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(detections))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(folder / "truth.json")
        judge = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats[:3].tolist()


@pytest.mark.parametrize(
    ("seed", "options"),
    [(1, {}), (2, {"decimals": 2, "images": 60}), (3, {"without_size": True}), (4, {"images": 150})],
)
def test_result_files_of_any_program(tmp_path, without_tensorflow, seed, options):
    random_devkit.write(tmp_path, seed, **options)
    command = [sys.executable, ROOT / "evaluate.py", *OPTIONS]
    done = subprocess.run(command, cwd=tmp_path, env=without_tensorflow, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    truth, found = random_devkit.read(tmp_path)
    plain = {name: random_devkit.plain_measures(truth[name], found[name]) for name in random_devkit.ALL}
    plain = {name: measured for name, measured in plain.items() if measured}
    assert not {"boat", "bus", "cow"} & plain.keys() and {"car", "cat"} <= plain.keys()
    for key, place in (("AP", 0), ("AP_area", 1)):
        expected = {name: measured[place] for name, measured in plain.items()}
        assert written[key] == pytest.approx(expected, abs=1e-12)
        assert written["m" + key] == pytest.approx(sum(expected.values()) / len(expected), abs=1e-12)
    assert written["AP"]["car"] == written["AP"]["cat"] == 0 and written["mAP"] > 0.1
    ours = [written[name] for name in ("mAP_coco", "mAP_coco_50", "mAP_coco_75")]
    assert ours == pytest.approx(coco_stats(tmp_path, truth, found), abs=1e-9)
    boxes = [difficult for by_id in truth.values() for rows in by_id.values() for _, difficult in rows]
    assert (written["images"], written["objects"]) == (options.get("images", 30), boxes.count(False))
    assert written["difficult"] == boxes.count(True)
    assert written["settings"] | {"split": "test", "dataset": "voc2007:VOCdevkit"} == written["settings"]
    assert f"mAP, VOC 2007: 11 points{written['mAP']:14.4f}" in done.stdout and done.stderr == ""
    assert "no detections: VOC2007/Main/comp4_det_test_cat.txt, VOC2007/Main/comp4_det_test_cow.txt" in done.stdout
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"metrics.json", "per_class.tsv", "report.html", "mistakes.html"}
    assert 'src="data:image/jpeg' in (tmp_path / "out/mistakes.html").read_text()


def test_what_is_wrong_is_one_line(tmp_path):
    random_devkit.write(tmp_path, 5, images=3)
    for options, message in (
        (["--dataset="], "error: --dataset=: name what --voc_results are of, as voc2007:VOCdevkit"),
        (["--split=val"], "VOC2007/ImageSets/Main/val.txt: missing"),
        (["--dataset=voc2012:VOCdevkit"], "no VOC2012 in it"),
        (["--model_dir=x"], "error: --model_dir has no meaning for --voc_results; leave it out"),
        (["--voc_results=VOCdevkit"], "error: --voc_results=VOCdevkit: there is none of"),
    ):
        error = run_script("evaluate.py", *OPTIONS, *options, cwd=tmp_path, status=1).stderr
        assert message in error and error.count("\n") == 1
    with open(tmp_path / "results/VOC2007/Main/comp4_det_test_dog.txt", "w") as file:
        file.write("000004 0.5 1 2\n")
    error = run_script("evaluate.py", *OPTIONS, cwd=tmp_path, status=1).stderr
    assert error.startswith("error: results/VOC2007/Main/comp4_det_test_dog.txt:1: '000004 0.5 1 2' is not an id and")
    assert not (tmp_path / "out").exists()


NAMES = ["red", "green", "blue"]
IMAGES = 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with records of boxes, of which the last is damaged, and a detector of random weights."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "records/val-00000-of-00001.tfrecords"
    box_records.write_shard(path, range(IMAGES))
    damaged = box_records.record(IMAGES).replace(b"\xff\xd8", b"\xff\xff")
    path.write_bytes(path.read_bytes() + tfrecord.frame(damaged))
    of_network = {"resnet_size": 10, "network": NetworkConfig(), "anchor_sizes": (24, 32, 48), "proposals": 50}
    task = detection.build(detection.DetectionConfig(long_side=128, **of_network), len(NAMES))
    names = "".join(f"{k}\t{name}\n" for k, name in enumerate(NAMES))
    said = checkpoint.Metadata(task.head, "faster_rcnn", 96, names, **task.settings())
    checkpoint.save(folder / "checkpoint", 3, checkpoint.model_variables(task.model), 1, said)
    return folder


def test_a_detector_on_records(trained):
    """The metrics are those of the result files, by plain Python."""
    options = ["--data_dir=records", "--model_dir=checkpoint", "--max_skipped=0.1", "--proposals=50", "--result=out"]
    done = run_script("evaluate.py", *options, cwd=trained)
    assert f"Faster R-CNN on ResNet-10, 3 classes, step 3 (checkpoint/model.ckpt-3) on {IMAGES + 1}" in done.stdout
    written = json.loads((trained / "out/metrics.json").read_text())
    assert written["images"] == IMAGES and written["problems"] == []
    assert len(written["skipped"]) == 1 and "val-00000-of-00001.tfrecords, byte" in written["skipped"][0]
    assert written["settings"]["head"] == "boxes" and written["settings"]["image_size"] == 96
    truth = {label: {} for label in NAMES}
    for number in range(IMAGES):
        for box in box_records.drawn(number)[2]:
            inclusive = [box.left + 1, box.top + 1, box.right, box.bottom]
            truth[NAMES[box.label]].setdefault(f"{number:06d}", []).append((inclusive, False))
    plain = {}
    for name in NAMES:
        lines = (trained / f"out/results/Main/comp4_det_test_{name}.txt").read_text().splitlines()
        rows = [line.split() for line in lines]
        found = [(row[0], float(row[1]), [float(edge) for edge in row[2:]]) for row in rows]
        plain[name] = random_devkit.plain_measures(truth[name], found)
    assert written["AP"] == pytest.approx({name: ap for name, (ap, _) in plain.items()}, abs=1e-9)
    assert written["AP_area"] == pytest.approx({name: area for name, (_, area) in plain.items()}, abs=1e-9)
    assert written["mAP"] > 0 and written["detections"] > IMAGES
    assert "red" in (trained / "out/per_class.tsv").read_text()
    assert 'src="data:image/jpeg' in (trained / "out/mistakes.html").read_text()


@pytest.mark.slow
def test_two_processes_find_what_one_does(trained, tmp_path):
    def options(folder):
        given = dict(data_dir=trained / "records", model_dir=trained / "checkpoint", result=tmp_path / folder)
        given |= dict(max_skipped=0.1, proposals=50, batch_size=2, data_format="NHWC")
        return ["evaluate.py", *(f"--{name}={value}" for name, value in given.items())]

    run_script(*options("one"))
    assert mpirun(2, python(*options("two"))).count("mAP, VOC 2007") == 1
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one.keys() == two.keys() and one["images"] == IMAGES and one["mAP"] > 0
    for name, value in one.items():
        same = value if name in ("settings", "skipped", "problems") else pytest.approx(value, rel=1e-6)
        assert two[name] == same, name
    lines = [sorted((tmp_path / name / "results/Main/comp4_det_test_red.txt").open()) for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) > IMAGES


def test_what_is_not_for_boxes(trained):
    options = ["--data_dir=records", "--model_dir=checkpoint", "--result=refused"]
    error = run_script("evaluate.py", *options, "--threshold=0.3", cwd=trained, status=1).stderr
    assert error.splitlines()[-1] == "error: --threshold has no meaning for boxes; leave it out"
    classifier = checkpoint.model_variables(build_resnet(10, len(NAMES)))
    checkpoint.save(trained / "labels", 1, classifier, 1, checkpoint.Metadata("softmax"))
    error = run_script("evaluate.py", options[0], "--model_dir=labels", cwd=trained, status=1).stderr
    assert "labels/model.ckpt-1 is of a network that finds labels, and the records in records hold boxes" in error
