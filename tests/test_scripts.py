"""Scripts in forked processes behave as in processes of their own."""

import subprocess

import pytest

from tests.scripts import run_script

POOLS = """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing

def add(x):
    return x + 1

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            print(list(pool.map(add, range(3))))
"""
WHERE = """
import atexit, os, sys
atexit.register(print, "at exit")
print(__name__, sys.argv[1:], os.getcwd(), os.environ, sys.path[0], sys.stdin.read())
os.system("echo from a shell")
"""


@pytest.fixture
def run(tmp_path):
    def run(text, *args, **options):
        (tmp_path / "script.py").write_text(text)
        return run_script(tmp_path / "script.py", *args, **options)

    return run


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ("import sys; sys.exit('no such folder')", 1, "no such folder\n"),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit()", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
    ],
)
def test_status(run, text, status, error):
    done = run(text, status=status)
    assert done.stderr.endswith(error) and done.stdout == ""
    assert ("Traceback" in done.stderr) == (text == "1 / 0")


def test_surroundings(run, tmp_path):
    (tmp_path / "folder").mkdir()
    done = run(WHERE, 1, "b c", cwd=tmp_path / "folder", env={"PATH": "/usr/bin:/bin"})
    expected = f"__main__ ['1', 'b c'] {tmp_path}/folder environ({{'PATH': '/usr/bin:/bin'}}) {tmp_path} \n"
    assert sorted(done.stdout.splitlines(True)) == sorted([expected, "from a shell\n", "at exit\n"])


def test_pools_of_processes(run):
    assert run(POOLS).stdout == "[1, 2, 3]\n" * 3


def test_a_script_that_hangs_is_killed(run):
    with pytest.raises(subprocess.TimeoutExpired):
        run("import time; time.sleep(60)", timeout=0.5)
