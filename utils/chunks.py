"""A long text file, worked on by all cores: chunk by chunk, in its order, with memory that does not grow with it."""

from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import itertools
import multiprocessing
import os
import signal

from tqdm import tqdm

from utils.processes import exit_with_parent

# What a process works on at a time, in bytes.
CHUNK_BYTES = 4 * 2**20


def map_chunks(function, path, arguments=(), workers=None):
    """Yields `function(lines, *arguments)` for each chunk of the file `path`, in order, and shows the progress.

    `lines` is an iterable of the lines, bytes, that begin in the chunk. Function and arguments must pickle; a worker
    gets the arguments once. A file of one chunk is worked on here. Raises OSError if a worker was killed.
    """
    size = os.path.getsize(path)
    if size <= CHUNK_BYTES:
        if size:
            yield function(lines(path, 0, size), *arguments)
        return
    places = [(begin, min(begin + CHUNK_BYTES, size)) for begin in range(0, size, CHUNK_BYTES)]
    workers = min(workers or len(os.sched_getaffinity(0)), len(places))
    context = multiprocessing.get_context("spawn")
    with (
        tqdm(total=size, unit="B", unit_scale=True, mininterval=1, desc=os.path.basename(path)) as bar,
        ProcessPoolExecutor(workers, context, _start, (function, path, arguments)) as pool,
    ):
        try:
            ahead, waiting = deque(), iter(places)
            for begin, end in places:
                for place in itertools.islice(waiting, 3 * workers - len(ahead)):
                    ahead.append(pool.submit(_work, *place))
                yield ahead.popleft().result()
                bar.update(end - begin)
        except BrokenProcessPool as error:
            raise OSError(f"{path}: a worker was killed, for lack of memory perhaps; start again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start(function, path, arguments):
    global _function, _path, _arguments
    # Ctrl-C reaches all processes of a terminal. The main one says so, and ends when the chunks at hand are done; a
    # worker that died of it might be noticed first, and taken for one that was killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _function, _path, _arguments = function, path, arguments
    exit_with_parent()


def _work(begin, end):
    return _function(lines(_path, begin, end), *_arguments)


def lines(path, begin, end):
    """Yields the lines, bytes, that begin in [begin, end) of a file, in bytes."""
    with open(path, "rb") as file:
        if begin:
            # The line that reaches into the chunk belongs to the one before.
            file.seek(begin - 1)
            begin += len(file.readline()) - 1
        while begin < end and (line := file.readline()):
            begin += len(line)
            yield line
