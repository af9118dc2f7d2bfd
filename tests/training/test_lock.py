"""The lock of --model_dir, between real processes."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from training import lock

HOLD = "import sys; from training import lock; lock.hold(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_says_which_process_on_which_machine_holds_it(holder, tmp_path):
    with pytest.raises(ValueError, match=rf"in use by process {holder.pid} on .*, since 20\d\d-.*; stop that run"):
        lock.hold(tmp_path)


def test_is_free_when_its_process_is_killed(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock.hold(tmp_path)
    lock.hold(tmp_path)  # what one holds already
    assert (tmp_path / lock.FILE).read_text().startswith(f"process {os.getpid()} on ")
    lock.release(tmp_path)
    lock.release(tmp_path)
    lock.hold(tmp_path / "new/folder")  # of a process that has not made it
    lock.release(tmp_path / "new/folder")


def test_what_is_released_another_can_take(tmp_path):
    lock.hold(tmp_path)
    code = "import sys; from training import lock; lock.hold(sys.argv[1])"
    take = [sys.executable, "-c", code, tmp_path]
    assert "is in use by" in subprocess.run(take, cwd=ROOT, capture_output=True, text=True).stderr
    lock.release(tmp_path)
    assert subprocess.run(take, cwd=ROOT).returncode == 0


def test_waits_for_who_gives_it_up(holder, tmp_path):
    """As in elastic training, where another process becomes the first."""
    holder.stdin.close()
    lock.hold(tmp_path, patience=60)
    lock.release(tmp_path)
