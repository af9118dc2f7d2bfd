"""Runs scripts of the repository as a user would."""

import contextlib
import os
from pathlib import Path
import shlex
import subprocess
import sys

ROOT = Path(__file__).parents[1]
# That of the environment, which Horovod was built for; processes that wait for others leave them the core.
MPIRUN = [Path(sys.executable).parent / "mpirun", *"--oversubscribe --bind-to none --mca mpi_yield_when_idle 1".split()]


def check_mpirun():
    """Raises ValueError if several processes could not be started: better at once than after hours."""
    if not MPIRUN[0].exists():
        raise ValueError(f"there is no {MPIRUN[0]}, which starts several processes; `make horovod` brings it")
    allowing = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    if os.geteuid() == 0 and not all(os.environ.get(name) for name in allowing):
        raise ValueError(f"mpirun runs as root only with {'=1 '.join(allowing)}=1 in the environment; set them")


def run_script(script, log=None, environment=None, processes=1, **arguments):
    """Runs a script with flags; its command line and output are shown or, with a path `log`, added to that file.

    Raises ValueError if the script ends with an error.
    """
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    launcher = [] if processes == 1 else [*MPIRUN, "-np", str(processes)]
    with open(log, "a", encoding="utf-8") if log else contextlib.nullcontext() as file:
        shown = [f"mpirun -np {processes} python" if launcher else "python", shlex.join([script, *flags])]
        print(f"\n$ {' '.join(shown)}", file=file, flush=True)
        status = start(script, flags, file, os.environ | (environment or {}), launcher)
    if status:
        where = f"stands at the end of {log}" if log else "stands above"
        raise ValueError(f"{script} ended with status {status}; its message {where}")


def run_on_one_core(folder, script, **arguments):
    """Runs a script as `run_script` does, each process on one core; its log.txt is in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    one_core = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run_script(script, folder / "log.txt", one_core, **arguments)


def start(script, flags, file, environment, launcher=()):
    """Runs a script as a process of its own, which writes into `file` or, if None, where this one does.

    Returns its exit status.
    """
    command = [*launcher, sys.executable, ROOT / script, *flags]
    return subprocess.run(command, stdout=file, stderr=file and subprocess.STDOUT, env=environment).returncode
