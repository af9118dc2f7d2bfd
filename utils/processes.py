"""What every process of a pool does at its start."""

import multiprocessing
import os
import threading


def exit_with_parent():
    """Ends this process when the one that started it does, whichever way: a worker would wait for work for ever."""
    threading.Thread(target=_end_after, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_after(process):
    process.join()
    os._exit(1)
