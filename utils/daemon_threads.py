"""Threads that nobody waits for at the end: neither a decoder nor a look-up of a name can be stopped in the middle."""

from concurrent.futures import Executor, Future
import queue
import threading


class DaemonThreads(Executor):
    """An executor whose unfinished work keeps no process alive, unlike that of `ThreadPoolExecutor`."""

    def __init__(self, count, name):
        """Args: how many threads there are at most, and their name."""
        self._count, self._name, self._threads, self._work = count, name, 0, queue.SimpleQueue()

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        self._work.put((future, function, args, kwargs))
        if self._threads < self._count:
            self._threads += 1
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Lets the threads end when they have done what was submitted; does not wait for them."""
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self):
        while work := self._work.get():
            future, function, args, kwargs = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
