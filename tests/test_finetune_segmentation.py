"""finetune.py on records of masks, as a user runs it."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from models import checkpoint
from models.resnet import build_resnet
from tests import mask_records
from tests.helpers import assert_same_tensors, tensors
from tests.scripts import run_script

SETTINGS = dict(
    data_format="NHWC", image_size=65, lr=0.01, batch_size=2, num_preprocess_threads=1, test_interval=0, ema_decay=0.5
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of masks, and a pre-trained network that classifies, of other classes."""
    folder = tmp_path_factory.mktemp("masks")
    for split, numbers in (("train", range(8)), ("val", (8, 12))):
        mask_records.write_shard(folder / f"records/{split}/{split}-00000-of-00001.tfrecords", numbers)
    names = "".join(f"{k}\t{name}\n" for k, name in enumerate(mask_records.NAMES))
    (folder / "records/dictionary.txt").write_text(names)
    checkpoint.save(folder / "pretrained", 70, checkpoint.model_variables(build_resnet(10, 7, seed=5)), 1)
    return folder


def options_of(folder, out, **options):
    flags = dict(data_dir=folder / "records", pretrain_ckpt=folder / "pretrained")
    flags |= dict(model_dir=out / "model", log_dir=out / "log") | SETTINGS | options
    return [f"--{name}={value}" for name, value in flags.items()]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of four steps, validated twice."""
    out = tmp_path_factory.mktemp("whole")
    options = dict(max_iter=4, test_interval=2, snapshot=2, log_interval=1, lr_schedule="poly", decoder="true")
    options |= dict(freeze_batch_norm="true", class_weights="1,2,2,2", hard_share=0.8)
    return out, options, run_script("finetune.py", *options_of(folder, out, **options)).stdout


def test_says_what_it_does(folder, whole):
    out, _, output = whole
    assert "DeepLab v3+ on ResNet-10, 4 classes" in output
    assert "all layers are trained; the checkpoint's batch normalisation is frozen; output stride 16; ev" in output
    assert f"starting from the weights of {folder}/pretrained/model.ckpt-70" in output
    for scope in ("aspp", "decoder", "segmentation"):
        assert f"new {scope} layer: the checkpoint has none" in output
    assert "8 records (masks) in 1 shards; batch 2" in output
    rates = [0.01 * (1 - k / 4) ** 0.9 for k in range(4)]
    said = re.findall(r"^step \d .* loss \S+ .*  lr (\S+)", output, re.M)
    assert [float(rate) for rate in said] == pytest.approx(rates, rel=1e-2)
    assert re.findall(r"^step (\d)  validation  mIoU \S+  pixel_accuracy \S+  mean_accuracy \S+", output, re.M) == [
        "2",
        "4",
    ]
    kept = json.loads((out / "model/best/validation.json").read_text())
    assert 0 <= kept["metrics"]["mIoU"] <= 1
    assert f"best checkpoint: step {kept['step']}" in output


def test_the_checkpoint_says_what_the_network_is_and_frozen_layers_stay(folder, whole):
    prefix = checkpoint.resolve(whole[0] / "model")
    held = checkpoint.describe(prefix)
    assert held[:6] == (10, 4, 4, "masks", "deeplab", 65)
    assert (held.output_stride, held.decoder) == (16, True) and "green" in held.dictionary
    before, after = tensors(folder / "pretrained"), tensors(whole[0] / "model")
    before = {name: value for name, value in before.items() if "/" in name and not name.startswith("logits")}
    frozen = {name for name in before if "batch_norm" in name}
    trained = {name for name in before if name.endswith("/kernel")}
    assert frozen and all(np.array_equal(before[name], after[name]) for name in frozen)
    assert trained and not any(np.array_equal(before[name], after[name]) for name in trained)
    assert not any(name.endswith("/Momentum") and name.removesuffix("/Momentum") in frozen for name in after)


def test_tensorboard_shows_masks(whole):
    tags = {}
    for path in (whole[0] / "log").glob("*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update({value.tag: value for value in event.summary.value})
    assert {"input", "val/0", "val/mIoU", "val/pixel_accuracy", "train/loss"} <= tags.keys()
    width, height, *images = tags["val/0"].tensor.string_val
    image = tf.io.decode_png(images[0])
    assert image.shape == (int(height), int(width), 3) and int(width) == 3 * mask_records.drawn(8)[1].shape[1]


def test_a_stopped_run_goes_on_exactly(folder, whole, tmp_path):
    shutil.copytree(whole[0] / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model/best")
    for path in (tmp_path / "model").glob("model.ckpt-4.*"):
        path.unlink()
    options = whole[1] | dict(test_interval=0, pretrain_ckpt="")
    output = run_script("finetune.py", *options_of(folder, tmp_path, **options)).stdout
    assert "resuming after step 2" in output
    assert_same_tensors(tensors(tmp_path / "model"), tensors(whole[0] / "model"))
    # With other layers it is another run.
    options |= dict(max_iter=5, decoder="false")
    done = run_script("finetune.py", *options_of(folder, tmp_path, **options), status=1)
    assert "was trained with --decoder=True, and this run has decoder False" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_segmenter_is_fine_tuned_again(folder, whole, tmp_path):
    """Its classes are kept; but what saw a decoder is new where there is none."""
    options = dict(pretrain_ckpt=whole[0] / "model", max_iter=1, decoder="true")
    output = run_script("finetune.py", *options_of(folder, tmp_path, **options)).stdout
    assert "starting from the weights of" in output and "new " not in output.partition("starting from")[2]
    options |= dict(model_dir=tmp_path / "without", decoder="false")
    output = run_script("finetune.py", *options_of(folder, tmp_path, **options)).stdout
    assert "new segmentation layer: --decoder=false here, and not so in the checkpoint" in output


def test_a_plan_says_what_training_needs(folder, tmp_path):
    options = options_of(folder, tmp_path, max_iter=5, lr_schedule="poly", image_size=257)
    output = run_script("finetune.py", *options, "--dry_run").stdout
    found = re.search(r"memory of a process: \S+ GB for weights.* (\S+) GB for the activations of 2 images", output)
    larger = run_script("finetune.py", *options, "--dry_run", "--image_size=513", "--output_stride=8").stdout
    more = re.search(r"memory of a process: \S+ GB for weights.* (\S+) GB for the activations of 2 images", larger)
    assert float(more[1]) > 4 * float(found[1]) > 0
    assert "of class presence" not in output and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--loss=sigmoid", "--loss is of labels, and the records in"),
        ("--anchor_sizes=16,32", "--anchor_sizes is of boxes, and the records in"),
        ("--rotated=0.5", "--rotated is of labels, and the records in"),
        ("--class_weights=1,2", "--class_weights: 2 for 4 classes; give each one, the background first"),
        ("--class_weights=1,2,x,4", "--class_weights=1,2,x,4: give numbers above 0"),
        ("--scales=0", "--scales=0: give numbers above 0"),
        ("--output_stride=4", "--output_stride=4"),
        ("--output_stride=12", "--output_stride=12: choose one of 32, 16, 8"),
        ("--hard_share=0", "--hard_share=0"),
        ("--batch_size=1", "--batch_size=1: the mean of one image has no variance"),
        ("--val_sizes=65,97", "--val_sizes: images with masks are validated whole"),
    ],
)
def test_flags_that_cannot_be_met(folder, tmp_path, option, message):
    done = run_script("finetune.py", *options_of(folder, tmp_path, max_iter=1), option, status=1)
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()


def test_train_py_names_the_script_for_masks(folder, tmp_path):
    done = run_script(
        "train.py", f"--data_dir={folder / 'records'}", f"--model_dir={tmp_path}", "--max_iter=1", status=1
    )
    assert "hold masks: train a segmenter with finetune.py" in done.stderr and "Traceback" not in done.stderr
