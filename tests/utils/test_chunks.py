"""Long files, worked on by several processes."""

import os
from pathlib import Path
import signal
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from utils import chunks

ROOT = Path(__file__).parents[2]


@given(st.lists(st.text("ab\t ", max_size=9), min_size=1), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_chunks_are_the_file(tmp_path_factory, lines, size):
    path = tmp_path_factory.mktemp("chunks") / "a"
    path.write_text("\n".join(lines))
    length = path.stat().st_size
    lines = [line for k in range(0, length, size) for line in chunks.lines(path, k, min(k + size, length))]
    assert lines == path.read_bytes().splitlines(keepends=True)


def number_of_lines(lines, offset):
    return [int(line) + offset for line in lines]


def test_a_file_of_one_chunk_needs_no_other_process(tmp_path):
    (tmp_path / "a").write_text("1\n2\n")
    assert list(chunks.map_chunks(lambda lines: (os.getpid(), list(lines)), tmp_path / "a")) == [
        (os.getpid(), [b"1\n", b"2\n"])
    ]
    (tmp_path / "a").write_text("")
    assert list(chunks.map_chunks(list, tmp_path / "a")) == []


def test_chunks_come_in_order_from_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
    (tmp_path / "a").write_text("".join(f"{k}\n" for k in range(5000)))
    parts = list(chunks.map_chunks(number_of_lines, tmp_path / "a", (7,), workers=2))
    assert len(parts) > 20 and sum(parts, []) == list(range(7, 5007))


# (A shell that runs tests in the background has SIGINT ignored, and Python leaves that as it is.)
ENDLESS = """
import signal, sys, time
sys.path.insert(0, {root!r})
from flags import run
from utils import chunks

def work(lines):
    print("begun", flush=True)
    time.sleep({seconds})

if __name__ == "__main__":
    chunks.CHUNK_BYTES = 100
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(lambda _: list(chunks.map_chunks(work, __file__, workers=1)))
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_main_process(tmp_path, signum):
    script = tmp_path / "endless.py"
    # After Ctrl-C the chunks at hand are worked on to their end.
    script.write_text(ENDLESS.format(root=str(ROOT), seconds=2 if signum == signal.SIGINT else 1000))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "begun\n"
    # Ctrl-C reaches all processes.
    os.killpg(process.pid, signum) if signum == signal.SIGINT else process.send_signal(signum)
    # It ends when the last one that has the pipe does.
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert signum != signal.SIGINT or process.returncode == 1 and errors.endswith("stopped\n")
