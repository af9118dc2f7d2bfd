"""train.py as a user runs it, on small records."""

import os
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorflow as tf

from data_processing.lists import dictionary
from models import checkpoint, inference
from tests import helpers
from tests.helpers import CLASSES, ROOT, STEPS, train_flags, write_shard
from tests.scripts import run_script
from training import lock

PUBLISHED_SHARD = ROOT.parent / "shared/data/0.tfrecords"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_shard(folder / "train-00000-of-00001.tfrecords")
    write_shard(folder / "val-00000-of-00001.tfrecords")
    entries = [dictionary.Entry(k, f"n{k:08d}", -1, f"class {k}") for k in range(CLASSES)]
    dictionary.write(folder / "dictionary.txt", entries)
    return folder


def run(*args, status=0):
    done = run_script("train.py", *train_flags(*args), status=status)
    return done.stdout if status == 0 else done.stderr


def tensors(folder, step=STEPS):
    return helpers.tensors(folder / f"checkpoint/model.ckpt-{step}")


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """An uninterrupted run, with validation and a dictionary."""
    out = tmp_path_factory.mktemp("whole")
    output = run(records, out, "--snapshot=5", "--test_interval=6", f"--dictionary={records}/dictionary.txt")
    return out, output


def test_says_what_it_does(whole):
    out, output = whole
    assert "ResNet-10, 5 classes, 0.3 million values, float32, on the" in output
    assert "30 records (sparse labels) in 1 shards; batch 8, 3.8 steps an epoch; 12 steps = 3.2 epochs" in output
    assert "starting from random weights, seed 1234" in output
    assert re.findall(r"^step (\d+)  epoch", output, re.M) == ["4", "8", "12"]
    assert re.findall(r"^step (\d+)  validation  macro_map 0\.\d+", output, re.M) == ["6", "12"]
    assert re.findall(r"^step (\d+): saved", output, re.M) == ["5", "10", "12"]
    assert sorted(path.stem for path in (out / "checkpoint").glob("*.index")) == [
        "model.ckpt-10",
        "model.ckpt-12",
        "model.ckpt-5",
    ]


def test_learns(whole):
    losses = [float(x) for x in re.findall(r"loss (\S+)  decay", whole[1])]
    assert losses[-1] < losses[0] / 2


def test_tensorboard_has_all_metrics_and_labelled_images(whole):
    events = EventAccumulator(str(whole[0] / "log"), size_guidance={"tensors": 0})
    events.Reload()
    names = set(events.Tags()["tensors"])
    metrics = ["loss", "learning_rate", "positive_classes", "selected_classes", "images_per_second", "data_stall"]
    assert {f"train/{name}" for name in metrics} | {"val/macro_map", "input"} <= names
    rates = [tf.make_ndarray(event.tensor_proto) for event in events.Tensors("train/learning_rate")]
    np.testing.assert_allclose(rates, 0.01, rtol=1e-6)
    assert [event.step for event in events.Tensors("train/loss")] == [4, 8, 12]
    text = next(event for name in names if "input" in name for event in events.Tensors(name))
    assert text is not None
    everything = b"".join(
        string
        for name in names
        for event in events.Tensors(name)
        if event.tensor_proto.dtype == tf.string.as_datatype_enum
        for string in event.tensor_proto.string_val
    )
    assert b"class 3" in everything and b"\x89PNG" in everything


def test_checkpoint_holds_everything_a_restart_needs(records, whole):
    held = tensors(whole[0])
    assert held["global_step"] == held["loss/step"] == STEPS
    assert held["loss/pos_count"].shape == (CLASSES,)
    trainable = [name for name in held if name.endswith(("gamma", "beta", "kernel", "bias"))]
    assert all(f"{name}/Momentum" in held for name in trainable)
    assert checkpoint.describe(checkpoint.resolve(whole[0] / "checkpoint"))[:7] == (
        10,
        CLASSES,
        STEPS,
        "sigmoid",
        "weighted",
        32,
        (records / "dictionary.txt").read_text(),
    )


@pytest.mark.slow  # test_distributed.py has it with two processes
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again_ends_as_if_nothing_had_happened(records, whole, tmp_path, signum):
    # (The validation of step 6 takes long enough for a signal.)
    options = ["--snapshot=3", "--log_interval=1", "--test_interval=6"]
    command = helpers.python("train.py", *train_flags(records, tmp_path, *options))
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step 5 "):
            process.send_signal(signum)
            break
    output = process.stdout.read()
    process.stdout.close()
    if signum == signal.SIGTERM:
        assert process.wait() == 0
        stopped = re.search(r"asked to stop after step (\d+)", output)
        assert checkpoint.newest(tmp_path / "checkpoint").endswith(f"-{stopped[1]}")
    else:
        assert process.wait() == -signal.SIGKILL
    assert "resuming after step" in run(records, tmp_path, "--snapshot=3")
    helpers.assert_same_tensors(tensors(tmp_path), tensors(whole[0]))


def test_a_finished_run_started_again_changes_nothing(records, whole):
    def changed():
        return {path: path.stat().st_mtime_ns for path in (whole[0] / "checkpoint").glob("[cm]*")}

    before = changed()
    output = run(records, whole[0], "--lr=0.5", "--augment_on=device", "--noscaled_decode")
    assert "resuming after step 12" in output and "--lr was 0.01, and is 0.5 from here on" in output
    assert "--augment_on was host, and is device from here on" in output
    assert "--scaled_decode was True, and is False from here on" in output
    assert len(before) == 7 and changed() == before


def test_a_loss_that_is_not_finite_stops_the_run(records, tmp_path):
    error = run(records, tmp_path, "--lr=1e30", status=1)
    assert re.search(r"error: the loss is not finite in step \d+ \(learning rate 1e\+30\)\. Try a lower --lr", error)
    assert "Traceback" not in error
    assert checkpoint.newest(tmp_path / "checkpoint") is None


def test_starts_from_other_weights_and_names_a_wrong_class_num(records, whole, tmp_path):
    output = run(records, tmp_path, f"--pretrain_ckpt={whole[0]}/checkpoint", "--max_iter=1", "--lr=0")
    assert "starting from the weights of" in output
    weights = tensors(whole[0])
    for name, tensor in tensors(tmp_path, 1).items():
        if name.endswith(("kernel", "gamma")):
            np.testing.assert_array_equal(tensor, weights[name])
    error = run(records, tmp_path, "--class_num=7", status=1)
    assert f"{records}/dictionary.txt has 5 classes, and the records 7; give the records' dictionary" in error


def test_going_on_with_another_loss_or_without_names(records, whole, tmp_path):
    """The one is refused, and in the other the checkpoints keep the names that they have."""
    error = run(records, whole[0], "--loss=sigmoid", status=1)
    assert "was trained with --loss=weighted, and this run has loss sigmoid: give --loss=weighted to go on" in error
    shutil.copytree(whole[0] / "checkpoint", tmp_path / "checkpoint")
    nameless = tmp_path / "records"
    nameless.mkdir()
    for path in records.glob("*.tfrecords"):
        (nameless / path.name).symlink_to(path)
    assert "resuming after step 12" in run(nameless, tmp_path, "--max_iter=13")
    described = checkpoint.describe(str(tmp_path / "checkpoint/model.ckpt-13"))
    assert described.dictionary == (records / "dictionary.txt").read_text()


def test_two_runs_do_not_write_into_one_folder(records, whole):
    lock.hold(whole[0] / "checkpoint")
    error = run(records, whole[0], status=1)
    lock.release(whole[0] / "checkpoint")
    assert f"checkpoint is in use by process {os.getpid()} on " in error and "stop that run" in error


def test_forgotten_and_wrong_class_num(records, tmp_path):
    """Dense labels say by themselves how many classes there are, and a manifest does."""
    write_shard(tmp_path / "train/0.tfrecords", "dense")
    flags = [flag for flag in train_flags(tmp_path, tmp_path, "--max_iter=1") if not flag.startswith("--class_num")]
    assert "ResNet-10, 5 classes" in run_script("train.py", *flags).stdout
    error = run_script("train.py", *flags, "--class_num=7", status=1).stderr
    assert f"--class_num=7, but the records in {tmp_path} are of 5 classes" in error


def test_single_labels_and_corrupt_images(tmp_path):
    write_shard(tmp_path / "train/0.tfrecords", "single", damaged=[4, 17])
    output = run(tmp_path, tmp_path / "out", "--max_skipped=0.2", "--max_iter=8")
    assert "30 records (single labels)" in output
    skipped = re.findall(r"skipped a corrupt record: (.*)", output)
    assert len(skipped) in (3, 4) and all("0.tfrecords, byte" in place for place in skipped)
    error = run(tmp_path, tmp_path / "other", "--max_skipped=0.01", status=1)
    assert re.search(r"error: 1 of \d+ records were corrupt, more than --max_skipped \(0.01\)", error)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--precision=bfloat16", "--xla"), marks=pytest.mark.slow),
        ("--precision=float16", "--augment_on=device"),
    ],
)
def test_other_precisions(records, tmp_path, options):
    output = run(records, tmp_path, "--max_iter=8", *options)
    losses = [float(x) for x in re.findall(r"loss (\S+)  decay", output)]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert ("loss_scale/value" in tensors(tmp_path, 8)) == ("float16" in options[0].split("="))


def test_published_command_line(tmp_path):
    """The release's own flags, all of them, on a shard in its own format (its own shard where it is at hand)."""
    folder = tmp_path / "tencent-ml-images/train"
    classes = 11166
    if PUBLISHED_SHARD.exists():
        folder.mkdir(parents=True)
        (folder / "0.tfrecords").symlink_to(PUBLISHED_SHARD)
    else:
        write_shard(folder / "0.tfrecords", "dense")
        classes = CLASSES
    published = f"""--data_dir={tmp_path}/tencent-ml-images --model_dir={tmp_path}/checkpoint
        --tmp_model_dir={tmp_path}/tmp --image_size=224 --class_num={classes} --resnet_size=101 --mask_thres=0.7
        --neg_select=0.1 --batch_size=1 --with_bbox=FALSE --batch_norm_decay=0.997 --batch_norm_epsilon=1e-5 --lr=0.08
        --lr_decay_step=110000 --lr_decay_factor=0.1 --weight_decay=0.0001 --max_iter=440000 --snapshot=4400
        --warmup=35200 --lr_warmup=0.01 --lr_warmup_decay_step=4400 --lr_warmup_decay_factor=1.297 --log_interval=100
        --data_format=NCHW"""
    small = ["--max_iter=2", "--log_interval=1", f"--log_dir={tmp_path}"]
    done = helpers.run(helpers.python("train.py", *published.split(), *small))
    assert "(dense labels)" in done.stdout
    assert "--with_bbox has no effect" in done.stderr and "--tmp_model_dir has no effect" in done.stderr
    assert "step 2  epoch" in done.stdout and "lr 0.01" in done.stdout
    if not tf.config.list_physical_devices("GPU"):
        assert "--data_format=NCHW needs a GPU" in done.stdout
    described = checkpoint.describe(str(tmp_path / "checkpoint/model.ckpt-2"))
    assert described == checkpoint.Description(101, classes, 2, "sigmoid", "weighted", 224)


def test_folders_that_cannot_be_written_are_said_before_training(records, tmp_path):
    (tmp_path / "log").write_text("")
    assert f"{tmp_path}/log" in run(records, tmp_path, status=1)


def test_no_shards_and_no_flags(tmp_path):
    assert "no shards train-*.tfrecords here" in run(tmp_path, tmp_path, status=1)
    assert "NCWH" in run_script("train.py", "--data_format=NCWH", status=1).stderr


def test_average_dropout_smoothing_and_rates_by_layer_resume_exactly_and_the_best_is_the_average(records, tmp_path):
    options = ["--ema_decay=0.9", "--drop_rate=0.2", "--label_smoothing=0.1", "--lr_layer_decay=0.8"]
    options += ["--snapshot=6", "--test_interval=6"]
    options += ["--augment_on=device", "--rotated=0.3", "--color_jitter=0.6", "--accumulate_steps=2", "--batch_size=4"]
    output = run(records, tmp_path / "whole", *options)
    assert "learning rates by layer: times logits 1, stages_3 0.8, stages_2 0.64" in output
    run(records, tmp_path / "parts", *options, "--max_iter=6")
    assert "resuming after step 6" in run(records, tmp_path / "parts", *options)
    helpers.assert_same_tensors(tensors(tmp_path / "parts"), tensors(tmp_path / "whole"), rtol=1e-5)
    best = checkpoint.resolve(tmp_path / "whole/checkpoint/best")
    step = checkpoint.describe(best).step
    of_run, averages = tensors(tmp_path / "whole", step), helpers.tensors(best)
    assert averages["head"] == b"sigmoid"
    for name in checkpoint.model_variables(inference.load(best).model):
        np.testing.assert_array_equal(averages[name], of_run[f"{name}/ExponentialMovingAverage"], err_msg=name)


def test_validation_records_may_be_of_another_kind(tmp_path):
    """Published, dense ones to train on, say, and ours to validate."""
    write_shard(tmp_path / "train/0.tfrecords", "dense")
    write_shard(tmp_path / "val/0.tfrecords", "single")
    output = run(tmp_path, tmp_path / "out", "--max_iter=2", "--test_interval=2")
    assert "(dense labels)" in output and re.search(r"step 2  validation  top_1 0\.\d+", output)
    assert checkpoint.describe(checkpoint.resolve(tmp_path / "out/checkpoint/best")).step == 2
