"""Settings of all tests, and what tests of several folders share."""

import os

import pytest

from tests.scripts import start_server

# As flags.py does for scripts, which tests start from processes that have read these.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# A worker of pytest-xdist has one core; TensorFlow need not look for more, nor in the scripts that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    start_server()


LONGEST = """test_readme.py test_distributed.py test_finetune_detection.py test_train.py test_build_database.py
test_finetune.py test_detection_task.py test_distributed_segmentation.py test_segmentation_task.py
test_finetune_segmentation.py
test_transfer_study.py test_caltech256.py test_checkpoint.py test_train_step.py test_launching.py test_resnet.py
test_build_tfrecords_processes.py test_extract_feature.py test_distributed_inference.py test_evaluate.py""".split()


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """A folder of three training shards, which neither 2 nor 4 processes can divide among them, and one to validate."""
    from tests.helpers import write_shard

    folder = tmp_path_factory.mktemp("records")
    for k in range(3):
        write_shard(folder / f"train-{k:05d}-of-00003.tfrecords")
    write_shard(folder / "val-00000-of-00001.tfrecords")
    return folder


def pytest_collection_modifyitems(items):
    """Files that take longest come first, so that the workers of pytest-xdist end together."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
