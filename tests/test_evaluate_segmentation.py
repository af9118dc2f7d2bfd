"""evaluate.py on masks as a user runs it: a checkpoint, and the result masks that it leaves judged by VOC's truth."""

import json

import numpy as np
from PIL import Image
import pytest
from sklearn.metrics import confusion_matrix

from data_processing.records import schema, tfrecord
from evaluation.voc_segmentation_results import CLASSES
from models import checkpoint
from models.deeplab import build_deeplab
from models.resnet import build_resnet
from tests import mask_files
from tests.helpers import mpirun, python, write_shard
from tests.scripts import run_script

TRAIN, VAL = 1, 6
RESULTS = "results/VOC2012/Segmentation/comp6_val_cls"
OPTIONS = ["--data_dir=records", "--model_dir=checkpoint", "--data_format=NHWC", "--max_skipped=0.2"]


def weights():
    """A network that finds the classes of `mask_files.mask`, another, and no more."""
    model = build_deeplab(10, len(CLASSES))
    variables, random = checkpoint.model_variables(model), np.random.default_rng(0)
    kernel, bias = (variables[f"segmentation/logits/conv2d/{name}"] for name in ("kernel", "bias"))
    found = np.isin(range(len(CLASSES)), (0, 1, 5, 12, 20))
    kernel.assign(random.normal(size=kernel.shape) * found)
    # So that none is the best everywhere.
    mean = model(random.uniform(-1, 1, (4, 65, 65, 3)).astype(np.float32)).numpy().mean((0, 1, 2))
    bias.assign(np.where(found, -mean, -1e30))
    return variables


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A devkit, records of its val with a damaged one, a network of random weights, and one that classifies."""
    folder = tmp_path_factory.mktemp("world")
    content, masks = mask_files.devkit(folder / "VOCdevkit", TRAIN, VAL)
    masks = {name: mask for k, (name, mask) in enumerate(masks.items()) if k >= TRAIN}
    frames = []
    for name, mask in masks.items():
        path = f"VOC2012/JPEGImages/{name}.jpg"
        image = schema.Image(content[path], mask.shape[1], mask.shape[0], path)
        frames.append(schema.encode_mask(image, mask_files.png(mask, palette=None)))
    damaged = schema.Image(image.encoded.replace(b"\xff\xd8", b"\xff\xff", 1), *image[1:3], "damaged.jpg")
    frames.append(schema.encode_mask(damaged, mask_files.png(mask, palette=None)))
    (folder / "records").mkdir()
    shard = folder / "records/val-00000-of-00001.tfrecords"
    shard.write_bytes(b"".join(map(tfrecord.frame, frames)))
    write_shard(folder / "labels/val-00000-of-00001.tfrecords", "single")
    variables = weights()
    names = "".join(f"{k}\t{name}\n" for k, name in enumerate(CLASSES))
    said = checkpoint.Metadata("masks", "deeplab", 65, names, output_stride=16, decoder=False)
    checkpoint.save(folder / "checkpoint", 3, variables, 1, said)
    classifier = checkpoint.model_variables(build_resnet(10, len(CLASSES)))
    checkpoint.save(folder / "classifier", 1, classifier, 1, checkpoint.Metadata("softmax", dictionary=names))
    return folder, masks


@pytest.fixture(scope="module")
def evaluated(world):
    folder, _ = world
    return run_script("evaluate.py", *OPTIONS, "--result=out", cwd=folder).stdout


def read(path):
    return json.loads(path.read_text())


def by_hand(folder, masks):
    """IoU by class, from the PNGs, by scikit-learn; NaN of a class that is nowhere."""
    truth, found = [], []
    for name, mask in masks.items():
        with Image.open(folder / RESULTS / f"{name}.png") as image:
            assert image.mode == "P"
            values = np.asarray(image)
        assert values.shape == mask.shape
        truth.append(mask[mask != 255])
        found.append(values[mask != 255])
    counts = confusion_matrix(np.concatenate(truth), np.concatenate(found), labels=range(len(CLASSES)))
    right = np.diag(counts)
    with np.errstate(invalid="ignore"):
        return right / (counts.sum(0) + counts.sum(1) - right), right.sum() / counts.sum(), counts.sum()


def test_the_metrics_are_those_of_the_result_masks(world, evaluated):
    folder, masks = world
    written, (iou, accuracy, pixels) = read(folder / "out/metrics.json"), by_hand(folder / "out", masks)
    assert written["images"] == VAL and written["pixels"] == pixels
    assert written["mIoU"] == pytest.approx(np.nanmean(iou), abs=1e-9) and written["mIoU"] > 0
    assert written["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert list(written["IoU"]) == list(CLASSES)
    of_classes = [np.nan if value is None else value for value in written["IoU"].values()]
    assert of_classes == pytest.approx(list(iou), abs=1e-9, nan_ok=True)
    assert np.isfinite(iou).sum() > 4
    assert len(written["skipped"]) == 1 and "val-00000-of-00001.tfrecords, byte" in written["skipped"][0]
    assert written["settings"]["head"] == "masks" and written["settings"]["scales"] == ["1"]
    assert "DeepLab v3 on ResNet-10, 21 classes, step 3 (checkpoint/model.ckpt-3) on 7 records (masks)" in evaluated
    assert "output stride 16; evaluated at 1 times the images' size" in evaluated
    assert "mIoU, mean over classes" in evaluated
    assert "aeroplane" in (folder / "out/per_class.tsv").read_text()
    for page in ("report.html", "worst.html"):
        assert 'src="data:image/' in (folder / "out" / page).read_text()


def test_the_result_masks_are_judged_alike(world, evaluated):
    folder, _ = world
    options = ["--voc_results=out/results", "--dataset=voc2012seg:VOCdevkit", "--split=val", "--result=judged"]
    run_script("evaluate.py", *options, cwd=folder)
    ours, judged = (read(folder / f"{name}/metrics.json") for name in ("out", "judged"))
    for name in ("images", "pixels", "mIoU", "pixel_accuracy", "mean_accuracy", "IoU"):
        assert judged[name] == pytest.approx(ours[name], abs=1e-6), name


def test_scales_and_the_mirror_image(world, evaluated):
    folder, masks = world
    options = [*OPTIONS, "--scales=0.5,1.5", "--flip", "--result=views"]
    output = run_script("evaluate.py", *options, cwd=folder).stdout
    assert "evaluated at 0.5, 1.5 times the images' size and mirrored" in output
    written, (iou, *_) = read(folder / "views/metrics.json"), by_hand(folder / "views", masks)
    assert written["mIoU"] == pytest.approx(np.nanmean(iou), abs=1e-9)
    assert written["mIoU"] != read(folder / "out/metrics.json")["mIoU"]
    assert written["settings"]["scales"] == ["0.5", "1.5"] and written["settings"]["flip"] is True


@pytest.mark.slow
def test_two_processes_find_what_one_does(world, evaluated, tmp_path):
    folder, masks = world
    paths = [f"--data_dir={folder}/records", f"--model_dir={folder}/checkpoint", f"--result={tmp_path}"]
    assert mpirun(2, python("evaluate.py", *OPTIONS, *paths, "--batch_size=2")).count("mIoU, mean over") == 1
    one, two = read(folder / "out/metrics.json"), read(tmp_path / "metrics.json")
    for name, value in one.items():
        if name not in ("settings", "skipped"):
            assert two[name] == pytest.approx(value, abs=1e-6, nan_ok=True) if value else two[name] == value, name
    assert len(list((tmp_path / RESULTS).iterdir())) == VAL and by_hand(tmp_path, masks)[2] == one["pixels"]


def test_what_does_not_fit_together(world):
    folder, _ = world
    for options, message in (
        (["--threshold=0.3"], "error: --threshold has no meaning for masks; leave it out"),
        (["--image_size=65"], "error: --image_size has no meaning for masks; leave it out"),
        (["--scales=1,-1"], "error: --scales=1,-1: give numbers above 0"),
        (
            ["--model_dir=classifier"],
            "classifier/model.ckpt-1 is of a network that finds labels, and the records in records hold masks",
        ),
        (
            ["--data_dir=labels"],
            "checkpoint/model.ckpt-3 is of a network that finds masks, and the records in labels hold single labels",
        ),
    ):
        error = run_script("evaluate.py", *OPTIONS, *options, "--result=refused", cwd=folder, status=1).stderr
        assert message in error and "Traceback" not in error


def test_a_network_that_diverged_is_an_error(world, tmp_path):
    """Of weights that are finite, and whose scores are not. (With others a checkpoint is not read.)"""
    folder, _ = world
    variables = weights()
    kernel = variables["segmentation/logits/conv2d/kernel"]
    kernel.assign(kernel * 1e38)
    said = checkpoint.Metadata("masks", "deeplab", 65, output_stride=16, decoder=False)
    checkpoint.save(tmp_path / "diverged", 1, variables, 1, said)
    options = [*OPTIONS, f"--model_dir={tmp_path}/diverged", f"--result={tmp_path}/out"]
    error = run_script("evaluate.py", *options, cwd=folder, status=1).stderr
    assert "error: VOC2012/JPEGImages/2012_000001.jpg: its confidences are not finite" in error
    assert not (tmp_path / "out/metrics.json").exists()
