"""The weighted loss where each rank, or each part of its batch, counts by itself: by the real mpirun."""

import numpy as np
import pytest

from tests import helpers
from tests.helpers import CLASSES, STEPS, mpirun, python, run, train_flags, write_shard


def weights_of(present, weights, counts):
    """What a batch's weights must be by its presence, the selection that they show, and the counters, which move."""
    positive, negative = counts
    selected = ~present & (weights > 0)
    positive[:] = np.where(present, positive + 1, 0)
    negative[:] = np.where(present, 0, negative + selected)
    adapted = np.log10(10 / (8 + negative))
    adapted = np.where(adapted > 0.01, adapted, 0.001)
    return np.where(present, np.maximum(np.log10(10 / (0.01 + positive)), 0.01), np.where(selected, adapted, 0))


@pytest.mark.parametrize("presence, parts", [("rank", 2), ("part", 2)])
def test_two_processes_count_their_own_and_keep_both(tmp_path, presence, parts):
    """`parts` matter where each is counted alone. What is selected is another half on each process and in each part."""
    mpirun(2, python("tests/distributed_presence.py", presence, parts, tmp_path / "counted.npz"))
    counted = np.load(tmp_path / "counted.npz")
    labels, weights = counted["labels"], counted["weights"]
    steps, class_num = labels.shape[1], labels.shape[-1]
    units = parts if presence == "part" else 1
    weights = weights.reshape(2, steps * units, class_num)
    labels = labels.reshape(2, steps * units, -1, class_num)
    counts = np.zeros([2, 2, class_num])
    for rank in range(2):
        for k in range(steps * units):
            expected = weights_of(labels[rank, k].any(axis=0), weights[rank, k], counts[rank])
            np.testing.assert_allclose(weights[rank, k], expected, rtol=1e-5, atol=1e-7)
    for k, name in enumerate(("loss|pos_count", "loss|neg_count")):
        for kept in counted[name]:
            np.testing.assert_array_equal(kept, counts[:, k])
    absent = ~labels.any(axis=2)
    assert np.mean(weights[absent] > 0) == pytest.approx(0.5, abs=0.1)
    both = absent.all(axis=0)
    assert 0.3 < np.mean((weights[0] > 0)[both] == (weights[1] > 0)[both]) < 0.7


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("presence", ["rank", "part"])
def test_a_restart_goes_on_exactly_and_needs_as_many_processes(tmp_path, presence):
    for k in range(3):
        write_shard(tmp_path / f"records/train-{k:05d}-of-00003.tfrecords")

    def command(out, *options):
        own = [f"--presence={presence}", "--batch_size=2", "--accumulate_steps=2", *options]
        return python("train.py", *train_flags(tmp_path / "records", tmp_path / out, *own))

    def tensors(out):
        return helpers.tensors(tmp_path / out / f"checkpoint/model.ckpt-{STEPS}")

    mpirun(2, command("whole"))
    mpirun(2, command("pieces", "--max_iter=5"))
    error = run(command("pieces"), status=1).stderr
    assert "holds another run, or one with other settings" in error
    assert "Its loss counted on each of 2 processes (--presence=rank or part), and this run's on each of 1" in error
    error = run([*helpers.MPIRUN, "-np", "2", *command("pieces", "--presence=global")], status=1).stderr
    assert "Its loss counted on each of 2 processes (--presence=rank or part), and this run's with --pres" in error
    assert "resuming after step 5" in mpirun(2, command("pieces"))
    helpers.assert_same_tensors(tensors("pieces"), tensors("whole"))
    assert tensors("whole")["loss/pos_count"].shape == (2, CLASSES)
