"""finetune.py on records of boxes, as a user runs it."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from models import checkpoint
from models.resnet import build_resnet
from tests import box_records
from tests.helpers import assert_same_tensors, mpirun, python, tensors
from tests.scripts import run_script

NAMES = ["red", "green", "blue"]
SETTINGS = dict(
    data_format="NHWC",
    image_size=64,
    long_side=96,
    anchor_sizes="16,32",
    regions=8,
    proposals=10,
    lr=0.01,
    batch_size=2,
    num_preprocess_threads=1,
    test_interval=0,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of boxes, and a pre-trained network that classifies, of other classes."""
    folder = tmp_path_factory.mktemp("boxes")
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        box_records.write_shard(folder / f"records/{split}/{split}-00000-of-00001.tfrecords", numbers)
    # All of one size, so that nothing is padded.
    box_records.write_shard(folder / "alike/train-00000-of-00001.tfrecords", range(0, 32, 4))
    for records in ("records", "alike"):
        (folder / records / "dictionary.txt").write_text("".join(f"{k}\t{name}\n" for k, name in enumerate(NAMES)))
    network = build_resnet(10, 7, seed=5)
    # Where batch normalisation stays as it is, statistics that fit nothing would make numbers too large.
    checkpoint.save(folder / "pretrained", 70, checkpoint.model_variables(network), 1)
    return folder


def options_of(folder, out, **options):
    flags = dict(data_dir=folder / "records", pretrain_ckpt=folder / "pretrained")
    flags |= dict(model_dir=out / "model", log_dir=out / "log") | SETTINGS | options
    return [f"--{name}={value}" for name, value in flags.items()]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of four steps, validated twice."""
    out = tmp_path_factory.mktemp("whole")
    options = options_of(folder, out, max_iter=4, test_interval=2, snapshot=2, log_interval=1)
    return out, run_script("finetune.py", *options).stdout


def test_says_what_it_does(folder, whole):
    out, output = whole
    assert "Faster R-CNN on ResNet-10, 3 classes" in output
    assert "the first convolution, stages_0 and all batch normalisation of the backbone are frozen" in output
    assert "long sides of at most 96 pixels, anchors of 16, 32, 8 regions an image" in output
    assert f"starting from the weights of {folder}/pretrained/model.ckpt-70" in output
    assert "new rpn layer: the checkpoint has none" in output and "new regions layer: the checkpoint" in output
    assert re.search(r"step 1 .* loss \S+ \(rpn_class \S+, rpn_box \S+, region_class \S+, region_box \S+\)  ", output)
    assert re.findall(r"^step (\d)  validation  mAP \S+  mAP_area \S+  mAP_coco \S+", output, re.M) == ["2", "4"]
    kept = json.loads((out / "model/best/validation.json").read_text())
    assert set(kept["metrics"]) == {"mAP", "mAP_area", "mAP_coco"}
    assert f"best checkpoint: step {kept['step']}" in output


def test_the_checkpoint_says_what_the_network_is_and_frozen_layers_stay(folder, whole):
    prefix = checkpoint.resolve(whole[0] / "model")
    held = checkpoint.describe(prefix)
    assert held[:6] == (10, 3, 4, "boxes", "faster_rcnn", 64)
    assert (held.anchors, held.long_side) == ("16,32", 96) and "green" in held.dictionary
    before = tensors(folder / "pretrained")
    after = tensors(whole[0] / "model")
    frozen = {n for n in before if re.match("init/|stages_0|.*batch_norm", n)}
    trained = {n for n in before if n.startswith("stages_1") and n.endswith("/kernel")}
    assert frozen and all(np.array_equal(before[name], after[name]) for name in frozen)
    assert trained and not any(np.array_equal(before[name], after[name]) for name in trained)
    assert not any(name.endswith("/Momentum") and name.removesuffix("/Momentum") in frozen for name in after)


def test_tensorboard_shows_boxes(whole):
    tags = set()
    for path in (whole[0] / "log").glob("*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update(value.tag for value in event.summary.value)
    assert {"input", "val/0", "val/mAP", "train/rpn_class", "train/region_box", "train/loss"} <= tags


def test_a_stopped_run_goes_on_exactly(folder, whole, tmp_path):
    """As it began: what is frozen stays so, where the checkpoint that it began with is no longer named."""
    shutil.copytree(whole[0] / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model/best")
    for path in (tmp_path / "model").glob("model.ckpt-4.*"):
        path.unlink()
    output = run_script("finetune.py", *options_of(folder, tmp_path, max_iter=4, snapshot=2, pretrain_ckpt="")).stdout
    assert "resuming after step 2" in output and "are frozen; long sides" in output
    assert_same_tensors(tensors(tmp_path / "model"), tensors(whole[0] / "model"))
    others = [*options_of(folder, tmp_path, max_iter=5), "--anchor_sizes=16,64"]
    done = run_script("finetune.py", *others, status=1)
    assert "was trained with --anchor_sizes=16,32, and this run has anchors 16,64" in done.stderr


@pytest.mark.slow
def test_two_processes_train_as_one(folder, tmp_path):
    common = dict(data_dir=folder / "alike", max_iter=3, lr=0.01)
    one = run_script("finetune.py", *options_of(folder, tmp_path / "one", **common)).stdout
    both = mpirun(2, python("finetune.py", *options_of(folder, tmp_path / "two", **common | dict(batch_size=1))))
    assert "3 steps" in one and "2 processes x 1" in both
    alone, together = (tensors(tmp_path / name / "model") for name in ("one", "two"))
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        if not isinstance(value, bytes) and np.asarray(value).dtype.kind == "f":
            np.testing.assert_allclose(value, together[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_plan_says_what_training_and_test_need(folder, tmp_path):
    output = run_script("finetune.py", *options_of(folder, tmp_path, max_iter=5), "--dry_run").stdout
    assert re.search(
        r"memory of a process: \S+ GB for weights.* \S+ GB for the activations of 2 images; to evaluate", output
    )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("option", ["--loss=sigmoid", "--head=sigmoid", "--FixBlock2", "--xla", "--rotated=0.5"])
def test_flags_of_classification_are_refused(folder, tmp_path, option):
    done = run_script("finetune.py", *options_of(folder, tmp_path, max_iter=1), option, status=1)
    assert "is of labels, and the records in" in done.stderr and "Traceback" not in done.stderr


def test_train_py_names_the_script_for_boxes(folder, tmp_path):
    done = run_script(
        "train.py", f"--data_dir={folder / 'records'}", f"--model_dir={tmp_path}", "--max_iter=1", status=1
    )
    assert "hold boxes: train a detector with finetune.py" in done.stderr
