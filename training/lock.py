"""One run a folder: a lock on --model_dir, which the system releases when the process that holds it dies.

It is `flock`, which Linux's NFS and most other shared file systems hand on to all machines; where there are no locks, a
line says so. All processes of `mpirun` and of elastic training are one run, for which the first one holds the lock.
"""

import errno
import fcntl
import os
from pathlib import Path
import socket
import time

FILE = ".lock"
# What a file system says that has no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_held = {}


def hold(folder, patience=0.0):
    """Takes the lock of `folder` for this process, until it ends or calls `release`.

    `patience` is how many seconds to wait for another that gives it up. Raises ValueError, which says who holds it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = os.path.realpath(Path(folder, FILE))
    if path in _held:
        return
    file = open(path, "a+", encoding="utf-8")
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(f"warning: {folder} cannot be locked ({error.strerror}); see that no other run writes into it")
                break
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if time.monotonic() > end:
                file.seek(0)
                holder = file.read().strip() or "another process"
                file.close()
                raise ValueError(
                    f"--model_dir={folder} is in use by {holder}; stop that run, or give another folder"
                ) from error
        time.sleep(0.1)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()
    _held[path] = file


def release(folder):
    """Gives the lock of `folder` up, if this process holds it."""
    file = _held.pop(os.path.realpath(Path(folder, FILE)), None)
    if file:
        file.truncate(0)
        file.close()
