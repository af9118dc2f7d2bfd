"""Runs a main function of demo/ in this process, and the scripts that it starts in forked ones (tests/scripts.py)."""

import contextlib
import io
import os

from flags import FLAGS
from absl.testing import flagsaver
import pytest

from demo import scripts
from demo.scripts import start as start_processes
from tests.helpers import ENVIRONMENT
from tests.scripts import run_script


def run_main(main, folder, start=None, **flags):
    """Calls `main` in `folder` with flags; returns what it and, without a log, its scripts print.

    `start` is what a module other than `demo.scripts` starts processes with: the module, the function's name, and what
    stands for it.
    """
    if not FLAGS.is_parsed():
        FLAGS.mark_as_parsed()
    output = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        flagsaver.flagsaver(**flags),
        contextlib.redirect_stdout(output),
    ):
        patch.chdir(folder)
        for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
            patch.setenv(name, ENVIRONMENT[name])
        patch.setattr(*(start or (scripts, "start", _start)))
        main([])
    return output.getvalue()


def _start(script, flags, file, environment, launcher=()):
    if launcher:
        return start_processes(script, flags, file, ENVIRONMENT | environment, launcher)
    done = run_script(script, *flags, cwd=os.getcwd(), env=environment, status=None)
    print(done.stdout, done.stderr, file=file)
    return done.returncode
