"""Two processes that train a segmentation, against one.

They train as one does but for batch normalisation that is trained, which sees the images of its own process: so does
that of ASPP even with --freeze_batch_norm. With all of it frozen they are the same, whatever is void in whose images.
"""

import numpy as np
import pytest

from tests import mask_records
from tests.helpers import mpirun, python
from tests.scripts import run_script


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    mask_records.write_shard(folder / "train-00000-of-00001.tfrecords", range(12))
    return folder


def arguments(folder, result, batch_size, parts=1, frozen="all"):
    return ["tests/distributed_segmentation_steps.py", folder, result, batch_size, parts, frozen]


def differences(one, other):
    """How far the weights are from each other, as shares of themselves, by name."""
    names = [name for name in one if "|" in name and one[name].dtype.kind == "f"]
    assert len(names) > 100
    return {name: np.linalg.norm(one[name] - other[name]) / max(np.linalg.norm(one[name]), 1e-9) for name in names}


@pytest.mark.slow
def test_two_processes_train_as_one(folder, tmp_path):
    results = []
    for processes, batch_size, parts in ((1, 4, 1), (2, 2, 1), (1, 2, 2)):
        result = tmp_path / f"{processes}{parts}.npz"
        if processes == 1:
            run_script(*arguments(folder, result, batch_size, parts))
        else:
            mpirun(processes, python(*arguments(folder, result, batch_size, parts)))
        results.append(dict(np.load(result)))
    one, both, in_parts = results
    assert both["losses"].shape == (2, 3) and len(np.unique(one["digests"])) == 12
    # Of each step the pixels that count are not as many for both.
    counted = both["counted"]
    assert (counted[:, ::2].sum(1) != counted[:, 1::2].sum(1)).all()
    assert np.abs(both["losses"][0] - both["losses"][1]).min() > 1e-3
    for other in (both, in_parts):
        np.testing.assert_array_equal(other["digests"], one["digests"])
        np.testing.assert_allclose(other["losses"].mean(0), one["losses"][0], rtol=1e-5)
        far = differences(one, other)
        assert max(far.values()) < 1e-3, max(far, key=far.get)


@pytest.mark.slow
def test_batch_normalisation_sees_the_images_of_its_process(folder, tmp_path):
    """What is no mistake, and why the test above freezes it."""
    run_script(*arguments(folder, tmp_path / "one.npz", 4, frozen="none"))
    mpirun(2, python(*arguments(folder, tmp_path / "two.npz", 2, frozen="none")))
    one, both = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("one", "two"))
    np.testing.assert_array_equal(one["digests"], both["digests"])
    far = differences(one, both)
    assert max(far.values()) > 1e-3 and all(np.isfinite(value) for value in far.values())
