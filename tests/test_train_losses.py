"""train.py and finetune.py with losses other than the published one, and what runs say of present classes."""

import re

import numpy as np
import pytest

from losses.multi_label import FUNCTIONS
from tests import helpers
from tests.helpers import CLASSES, STEPS, train_flags, write_shard
from tests.scripts import run_script


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_shard(folder / "train-00000-of-00001.tfrecords")
    return folder


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_each_loss_trains_and_falls(records, tmp_path, loss):
    options = [f"--loss={loss}", "--clip_norm=1", "--log_interval=10", "--max_iter=40"]
    output = run_script("train.py", *train_flags(records, tmp_path, *options)).stdout
    losses = [float(value) for value in re.findall(r"^step \d+  epoch .*  loss ([\d.]+)", output, re.M)]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert not [name for name in helpers.tensors(tmp_path / "checkpoint/model.ckpt-40") if "pos_count" in name]


def test_losses_by_flags_change_the_weights_and_defaults_do_not(records, tmp_path):
    """The defaults of the paper's loss are what is trained with when no flag is given."""

    def weights(name, *options):
        run_script("train.py", *train_flags(records, tmp_path / name, *options))
        return helpers.tensors(tmp_path / name / f"checkpoint/model.ckpt-{STEPS}")

    published = weights("published")
    defaults = "--loss=weighted --pos_weight=12 --adaptive_weights=true --presence=global --pos_floor=0.01".split()
    helpers.assert_same_tensors(weights("defaults", *defaults, "--neg_floor=0.001"), published)
    other = weights("other", "--pos_weight=1", "--adaptive_weights=false", "--presence=part", "--accumulate_steps=2")
    assert (other["logits/dense/kernel"] != published["logits/dense/kernel"]).any()
    assert other["loss/pos_count"].shape == (1, CLASSES) and published["loss/pos_count"].shape == (CLASSES,)


def test_a_run_says_which_classes_are_in_nearly_every_batch(records, tmp_path):
    """A batch is an epoch, and has all classes."""
    options = ["--max_iter=101", "--batch_size=30"]
    output = run_script("train.py", *train_flags(records, tmp_path, *options)).stdout
    assert (
        output.count("5 of 5 classes (100%) were present in more than 90% of the first 100 batches, of 30 images") == 1
    )
    [advice] = [line for line in output.splitlines() if line.startswith("--loss=weighted: these weigh 0.01")]
    assert advice.endswith("--adaptive_weights=false or --loss=sigmoid: docs/losses.md")
    counts = helpers.tensors(tmp_path / "checkpoint/model.ckpt-101")["loss/pos_count"]
    np.testing.assert_array_equal(counts, 101)
