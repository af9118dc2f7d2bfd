"""--head_bias of train.py and finetune.py as a user runs them: which logits it sets, and to what."""

import shutil

import numpy as np
import pytest

from tests import box_records, helpers
from tests.helpers import CLASSES, RECORDS, mpirun, python, train_flags, write_shard
from tests.scripts import run_script

NAME = "logits/dense/bias"
# The weights that a run begins with.
UNTRAINED = ["--lr=0", "--max_iter=1", "--weight_decay=0"]
# Each class is in as many records of one shard.
SHARE = (RECORDS / CLASSES + 0.5) / (RECORDS + 1)
ODDS = np.log(SHARE / (1 - SHARE))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Records that nothing is noted of, a folder for each kind of labels."""
    folder = tmp_path_factory.mktemp("shards")
    for kind in ("sparse", "single", "dense"):
        write_shard(folder / f"{kind}/train-00000-of-00001.tfrecords", kind)
    return folder


def bias(out, step=1):
    return helpers.tensors(out / f"checkpoint/model.ckpt-{step}")[NAME]


def train(shards, out, *options, kind="sparse"):
    return run_script("train.py", *train_flags(shards / kind, out, *UNTRAINED, *options)).stdout


@pytest.fixture(scope="module")
def prior(shards, tmp_path_factory):
    """A run of one step, and what it said."""
    out = tmp_path_factory.mktemp("prior")
    return out, train(shards, out, "--head_bias=prior", "--ema_decay=0.5")


def test_prior_is_the_log_odds_of_the_records(shards, prior):
    out, output = prior
    np.testing.assert_allclose(bias(out), [ODDS] * CLASSES, rtol=1e-6)
    np.testing.assert_allclose(
        helpers.tensors(out / "checkpoint/model.ckpt-1")[f"{NAME}/ExponentialMovingAverage"], bias(out), rtol=1e-6
    )
    note = shards / "sparse/label_counts-train.json"
    assert f"counted the labels of {RECORDS} records; kept in {note}" in output and note.exists()
    assert f"biases of the logits begin at {ODDS:.2f} to {ODDS:.2f} (--head_bias=prior)" in output


def test_published_default_is_zero_and_a_number_is_for_all(shards, tmp_path):
    output = train(shards, tmp_path / "zero", kind="dense")
    assert not bias(tmp_path / "zero").any() and "counted" not in output and "biases" not in output
    train(shards, tmp_path / "number", "--head_bias=-4.5")
    np.testing.assert_array_equal(bias(tmp_path / "number"), np.float32([-4.5] * CLASSES))


def test_a_run_that_goes_on_and_logits_of_a_checkpoint_keep_theirs(shards, prior, tmp_path):
    shutil.copytree(prior[0] / "checkpoint", tmp_path / "checkpoint")
    output = train(shards, tmp_path, "--max_iter=2", "--head_bias=3", "--ema_decay=0.5")
    assert "--head_bias is for the beginning of a run, and not set again" in output
    np.testing.assert_allclose(bias(tmp_path, 2), [ODDS] * CLASSES, rtol=1e-6)
    other = tmp_path / "other"
    output = train(shards, other, f"--pretrain_ckpt={prior[0] / 'checkpoint'}", "--head_bias=3")
    assert "--head_bias=3 is for new logits: those of the checkpoint keep their biases" in output
    np.testing.assert_allclose(bias(other), [ODDS] * CLASSES, rtol=1e-6)


def finetune(data, out, pretrained, *options, status=0):
    flags = [f"--data_dir={data}", f"--model_dir={out / 'checkpoint'}", f"--log_dir={out / 'log'}", "--resnet_size=10"]
    flags += ["--image_size=32", "--batch_size=4", "--data_format=NHWC", "--test_interval=0", *UNTRAINED]
    flags += [f"--class_num={CLASSES}", f"--pretrain_ckpt={pretrained}"] if pretrained else []
    return run_script("finetune.py", *flags, *options, status=status)


def test_finetuning_sets_new_logits_alone(shards, prior, tmp_path):
    """Of a softmax log shares, which are alike here."""
    pretrained = prior[0] / "checkpoint"
    finetune(shards / "single", tmp_path / "new", pretrained, "--head_bias=prior", "--new_logits")
    np.testing.assert_allclose(bias(tmp_path / "new"), [np.log(1 / CLASSES)] * CLASSES, rtol=1e-6)
    output = finetune(shards / "sparse", tmp_path / "kept", pretrained, "--head_bias=7").stdout
    assert "--head_bias=7 is for new logits: those of the checkpoint keep their biases" in output
    np.testing.assert_allclose(bias(tmp_path / "kept"), [ODDS] * CLASSES, rtol=1e-6)
    # Of sigmoids it is the default, about which nothing is said where it has no use.
    output = finetune(shards / "sparse", tmp_path / "other", pretrained, "--class_num=7").stdout
    assert "(--head_bias=prior)" in output
    assert "--head_bias" not in finetune(shards / "sparse", tmp_path / "other", pretrained, "--class_num=7").stdout
    share = 0.5 / (RECORDS + 1)
    expected = [ODDS] * CLASSES + [np.log(share / (1 - share))] * 2
    np.testing.assert_allclose(bias(tmp_path / "other"), expected, rtol=1e-6)


def test_boxes_have_no_such_head(tmp_path):
    box_records.write_shard(tmp_path / "train-00000-of-00001.tfrecords", range(4))
    done = finetune(tmp_path, tmp_path / "out", "", "--head_bias=prior", status=1)
    assert f"error: --head_bias is of labels, and the records in {tmp_path} hold boxes; leave it out" in done.stderr


@pytest.mark.parametrize("text", ["priors", "nan", "inf", ""])
def test_another_bias_is_refused_at_once(text):
    error = run_script("train.py", f"--head_bias={text}", status=1).stderr
    assert f"flag --head_bias={text}: give prior, zero or a number" in error


def test_all_processes_have_the_first_one_s_counts(shards, tmp_path):
    """The other reads its records elsewhere, as of another machine, where nothing is noted."""
    second = tmp_path / "second"
    shutil.copytree(shards / "dense", second, ignore=shutil.ignore_patterns("*.json"))
    (shards / "dense/label_counts-train.json").unlink(missing_ok=True)
    options = [*UNTRAINED, "--batch_size=4", "--head_bias=prior", "--loss=class_balanced"]
    commands = [python("train.py", *train_flags(data, tmp_path, *options)) for data in (shards / "dense", second)]
    output = mpirun(1, [*commands[0], ":", "-np", "1", *commands[1]])
    assert output.count(f"counted the labels of {RECORDS} records") == 1
    assert (shards / "dense/label_counts-train.json").exists() and not list(second.glob("*.json"))
    np.testing.assert_allclose(bias(tmp_path), [ODDS] * CLASSES, rtol=1e-6)


def test_a_dry_run_says_how_many_classes_nearly_every_batch_has(shards, prior, tmp_path):
    """A fifth of the images has each class: 0.83 of the batches of 8, 0.97 of those of 16."""
    line = "about {:.0%} of the classes are present in more than 90% of the batches, of {} images (--presence={}), "
    line += f"by the labels of {RECORDS} records"
    for kind in ("sparse", "dense"):  # noted, and not
        output = train(shards, tmp_path, "--dry_run", kind=kind)
        assert line.format(0, 8, "global") in output and "hardly learnt" not in output
    output = train(shards, tmp_path, "--dry_run", "--num_gpus=2", "--loss=class_balanced")
    assert line.format(1, 16, "global") in output and "hardly learnt" not in output
    output = train(shards, tmp_path, "--dry_run", "--num_gpus=2")
    assert line.format(1, 16, "global") in output and "hardly learnt. Try --presence=rank, --presence=part" in output
    for presence, images in (("rank", 16), ("part", 8)):
        options = ["--accumulate_steps=2", f"--presence={presence}"]
        output = train(shards, tmp_path, "--dry_run", "--num_gpus=2", *options)
        assert line.format(images // 16, images, presence) in output
    output = finetune(shards / "single", tmp_path, "", "--dry_run").stdout
    assert "of the classes are present" not in output
    output = finetune(shards / "single", tmp_path, "", "--dry_run", "--head=sigmoid").stdout
    assert "about 0% of the classes are present" in output
    assert not list(tmp_path.iterdir())
