"""From positions to examples: which come, in which order, and that neither errors nor threads are lost."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_processing.input_pipeline import read_ahead, reading
from tests.data_processing.input_pipeline.test_read_ahead import COUNTS, RECORDS, index_of, wait_for_their_end
from tests.scripts import ROOT

BAD = (0, 5, 6, 7, 310, RECORDS - 2, RECORDS - 1)


@pytest.fixture
def index(tmp_path):
    return index_of(tmp_path, COUNTS, lambda k: b"no number" if k in BAD else b"%d" % k)


def load(index, windows):
    """Examples of a record's number, which some records lack."""

    def parse(position, record):
        return {"number": tf.strings.to_number(record, tf.int64), "position": position, "name": "a name"}

    blank = {"number": tf.constant(-1, tf.int64), "position": tf.constant(-1, tf.int64), "name": ""}
    return reading.load(windows, index, parse, blank, threads=3)


def test_each_record_gives_one_example_and_bad_ones_blanks(index):
    """At the beginning and the end, one by one and many together, in windows of any size."""
    order = np.random.default_rng(0).permutation(RECORDS)
    order = np.concatenate([BAD[:3], np.setdiff1d(order, BAD, assume_unique=True), BAD[3:]])
    windows = [(7 + 2 * part, order[part]) for part in np.split(np.arange(RECORDS), [1, 40, 41, 300])]
    examples = list(load(index, lambda: iter(windows)).as_numpy_iterator())
    assert [example["number"] for example in examples] == [-1 if k in BAD else k for k in order]
    for place, (k, example) in enumerate(zip(order, examples, strict=True)):
        assert example["valid"] == (k not in BAD)
        assert example["position"] == (-1 if k in BAD else 7 + 2 * place)
        name = f"{index.paths[index.shard[k]]}, byte {index.offset[k]}" if k in BAD else "a name"
        assert example["name"].decode() == name


def endless():
    while True:
        yield np.arange(RECORDS), np.arange(RECORDS)


def test_threads_end_with_the_iterator(index):
    iterator = iter(load(index, endless))
    for _ in range(10):
        next(iterator)
    del iterator
    wait_for_their_end()


def test_an_error_of_the_reader_ends_no_epoch_silently(index, monkeypatch):
    """It is not left out, as that of an image is, nor taken for the end."""
    load_run = read_ahead._load

    def failing(path, begins, ends):
        if path == index.paths[2]:
            raise MemoryError("too little of it")
        return load_run(path, begins, ends)

    monkeypatch.setattr(read_ahead, "_load", failing)
    with pytest.raises(tf.errors.OpError, match="too little of it"):
        list(load(index, endless))


def test_a_process_ends_while_it_reads(tmp_path):
    """At the end of a script, with examples that nobody took and reads that take long."""
    code = f"""
import time
from pathlib import Path
from data_processing.input_pipeline import read_ahead
from tests.data_processing.input_pipeline.test_reading import COUNTS, endless, index_of, load
index = index_of(Path({str(tmp_path)!r}), COUNTS, lambda k: b"%d" % k)
load_run = read_ahead._load
def slow(path, begins, ends):
    time.sleep(0 if path == index.paths[0] else 2)
    return load_run(path, begins, ends)
read_ahead._load = slow
iterator = iter(load(index, endless))
print(next(iterator)["number"].numpy(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout == "0\n", done.stderr[-2000:]
