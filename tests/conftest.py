"""Settings of all tests."""

import os

# A worker of pytest-xdist has one core; TensorFlow need not look for more, nor in the scripts that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"

# As flags.py does for scripts.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
