"""Runs the repository's scripts in processes that are forked from one which has TensorFlow loaded already.

Most of a small run's time would else be TensorFlow's start. The server has imported what the scripts import and nothing
of ours, and has done nothing with it: TensorFlow starts its threads with its first operation, in the forked process.
Each process of tests has one server, which starts with the first script and ends with that process.
"""

import atexit
import multiprocessing
from multiprocessing import forkserver
import os
from pathlib import Path
import runpy
import subprocess
import sys
import tempfile

ROOT = Path(__file__).parents[1]
LOADED = "numpy tensorflow keras h5py PIL.Image scipy.io sklearn.linear_model sklearn.svm sklearn.neighbors"
LOADED += " matplotlib.figure matplotlib.backends.backend_agg tensorflow_datasets tqdm absl.app"
CONTEXT = multiprocessing.get_context("forkserver")


def start_server():
    """Starts the server, if it does not run, and leaves it to load; `run_script` does it too."""
    CONTEXT.set_forkserver_preload(LOADED.split())
    forkserver.ensure_running()


def run_script(script, *args, cwd=ROOT, env=None, status=0, timeout=300):
    """Runs a script of the repository, e.g. "train.py", as `python script args` would, and waits for its end.

    Its standard input is empty. What Python or TensorFlow read from the environment at their import (PYTHONPATH, TF_…)
    is as it was at the server's start. A process that is sent signals or started by a launcher must be a true one.

    Args:
      script: its path from the repository's root.
      args: its arguments; any objects that have a text.
      cwd: folder to run it in.
      env: its environment variables; None: those of this process.
      status: the exit status that it must end with; None: any.
      timeout: seconds after which it is killed, and TimeoutExpired raised.

    Returns:
      A `CompletedProcess` with args, returncode, stdout and stderr (text).
    """
    start_server()
    command = [str(ROOT / script), *map(str, args)]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        environment = dict(os.environ if env is None else env)
        process = CONTEXT.Process(target=_run, args=(command, str(cwd), environment, *map(str, outputs)))
        process.start()
        try:
            process.join(timeout)
            if process.is_alive():
                raise subprocess.TimeoutExpired(command, timeout)
        finally:
            process.kill()
            process.join()
        texts = [output.read_text() for output in outputs]
    done = subprocess.CompletedProcess(command, process.exitcode, *texts)
    if status is not None:
        said = f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == status, f"status {done.returncode} of {said}"
    return done


def _run(command, cwd, environment, stdout, stderr):
    """In the forked process: what the interpreter does with a script."""
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    # Where a script starts processes of its own, it chooses how. A fork server for them is there: this one's parent.
    multiprocessing.set_start_method(None, force=True)
    forkserver._forkserver.ensure_running = lambda: None
    # Tests have the repository on their path; a script has its own folder.
    sys.path[:] = [str(Path(command[0]).parent), *filter(_of_python, sys.path)]
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # (processes of `multiprocessing` leave these out)


def _of_python(path):
    return bool(path) and (Path(path).is_relative_to(sys.prefix) or not Path(path).is_relative_to(ROOT))
