"""Runs scripts of the repository as a user would."""

import contextlib
import os
from pathlib import Path
import shlex
import subprocess
import sys

ROOT = Path(__file__).parents[1]


def run_script(script, log=None, environment=None, **arguments):
    """Runs a script with flags; its command line and output are shown or, with a path `log`, added to that file.

    Raises ValueError if the script ends with an error.
    """
    command = [script, *(f"--{name}={value}" for name, value in arguments.items())]
    with open(log, "a", encoding="utf-8") if log else contextlib.nullcontext() as file:
        print(f"\n$ python {shlex.join(command)}", file=file, flush=True)
        done = subprocess.run(
            [sys.executable, ROOT / script, *command[1:]],
            stdout=file,
            stderr=file and subprocess.STDOUT,
            env=os.environ | (environment or {}),
        )
    if done.returncode:
        where = f"stands at the end of {log}" if log else "stands above"
        raise ValueError(f"{script} ended with status {done.returncode}; its message {where}")
