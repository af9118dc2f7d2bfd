"""Many processes, started by the real mpirun, against one process."""

import os
from pathlib import Path
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import distributed
from models.resnet import build_resnet
from tests import helpers
from tests.helpers import (
    CLASSES,
    ENVIRONMENT,
    MPIRUN,
    RECORDS,
    ROOT,
    STEPS,
    jpeg,
    mpirun,
    python,
    run,
    train_flags,
    write_shard,
)
from tests.scripts import run_script


def command(records, out, *options):
    return python("train.py", *train_flags(records, out, *options))


def tensors(folder, step=STEPS):
    return helpers.tensors(folder / f"checkpoint/model.ckpt-{step}")


@pytest.fixture(scope="module")
def steps_of_one(records, tmp_path_factory):
    result = tmp_path_factory.mktemp("one") / "steps.npz"
    run_script("tests/distributed_steps.py", records, result, 8, 1, "none")
    return dict(np.load(result))


def _steps(processes, records, folder, batch_size, parts=1, compression="none"):
    arguments = [records, folder / "steps.npz", batch_size, parts, compression]
    mpirun(processes, python("tests/distributed_steps.py", *arguments))
    return dict(np.load(folder / "steps.npz"))


@pytest.mark.parametrize("processes, batch_size, parts", [(2, 4, 2), (4, 2, 1)])
def test_weights_are_those_of_one_process(records, steps_of_one, tmp_path, processes, batch_size, parts):
    """20 steps of N processes with batches of B / N, or in parts, to float32 rounding."""
    results = _steps(processes, records, tmp_path, batch_size, parts)
    np.testing.assert_allclose(results.pop("losses"), steps_of_one["losses"], rtol=1e-6)
    for name, value in results.items():
        expected = steps_of_one[name]
        if name.startswith("loss|"):
            np.testing.assert_array_equal(value, expected)
        else:
            # What began at zero is a sum of gradients alone, which have lost digits where they nearly cancel.
            tolerance = 1e-3 if name.endswith(("Momentum", "beta", "bias")) else 1e-5
            assert np.linalg.norm(value - expected) <= tolerance * np.linalg.norm(expected), name
    assert len(results) > 100 and results["loss|step"] == 20 and steps_of_one["loss|neg_count"].max() > 0


@pytest.mark.slow
def test_compressed_gradients_stay_near(records, steps_of_one, tmp_path):
    results = _steps(2, records, tmp_path, 4, compression="fp16")
    np.testing.assert_allclose(results["losses"], steps_of_one["losses"], rtol=0.01)
    assert (results["logits|dense|kernel"] != steps_of_one["logits|dense|kernel"]).any()


def test_groups_go_from_the_last_to_the_first_and_are_bounded():
    sizes = [5, 1, 1, 12, 3, 3, 3]
    assert distributed.groups(sizes, limit=7) == [[6, 5], [4], [3], [2, 1, 0]]
    assert distributed.groups([], limit=7) == []


def test_what_is_wider_on_another_process_is_filled_up_and_what_is_not_is_kept():
    boxes, names = [np.full([2, 3, 4], 5.0, np.float32), np.zeros([1, 6, 4], np.float32)], [["a", "b"], ["c"]]
    together = distributed._concatenated(*boxes)
    assert together.shape == (3, 6, 4) and together.dtype == np.float32
    assert (together[:2, :3] == 5).all() and (together[:2, 3:] == -1).all() and not together[2].any()
    assert distributed._concatenated(*map(np.array, names)).tolist() == ["a", "b", "c"]


@pytest.fixture(scope="module")
def two(records, tmp_path_factory):
    """An uninterrupted run of two processes."""
    out = tmp_path_factory.mktemp("two")
    return out, mpirun(2, command(records, out, "--snapshot=4", "--test_interval=6", "--batch_size=4"))


def test_first_process_alone_writes_and_says_what_all_do(two):
    out, output = two
    assert f"{3 * RECORDS} records (sparse labels) in 3 shards; batch 8 = 2 processes x 4, 11.2 steps" in output
    assert re.findall(r"^step (\d+)  epoch", output, re.M) == ["4", "8", "12"]
    assert re.findall(r"^step (\d+): saved", output, re.M) == ["4", "8", "12"]
    assert re.findall(r"^step (\d+)  validation  macro_map 0\.\d+", output, re.M) == ["6", "12"]
    assert len(re.findall(r"data stall \d+% to \d+% \(process [01]\)", output)) == 3
    assert len(list((out / "log").iterdir())) == 1


def _started(processes, args):
    """Starts mpirun and waits for its fourth step; returns it and the process numbers of its ranks, in no order."""
    started = subprocess.Popen(
        [*MPIRUN, "-np", str(processes), *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    for line in started.stdout:
        if "step 4: saved" in line:
            break
    children = subprocess.run(["pgrep", "-P", str(started.pid)], capture_output=True, text=True, check=True).stdout
    return started, [int(number) for number in children.split()]


def test_a_killed_process_ends_the_others_and_the_same_command_resumes(two, records, tmp_path):
    args = command(records, tmp_path, "--snapshot=4", "--test_interval=6", "--batch_size=4")
    started, ranks = _started(2, args)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    began = time.monotonic()
    output, _ = started.communicate(timeout=120)
    assert started.returncode != 0 and time.monotonic() - began < 60
    assert "signal 9" in output
    assert "resuming after step" in mpirun(2, args)
    helpers.assert_same_tensors(tensors(tmp_path), tensors(two[0]))


DONE = r"; batch {}, .*; done: (\d+) steps, (\d+) records"


def _until(output, pattern):
    """Reads lines of `output` until one has `pattern`; returns the match."""
    lines = []
    for line in output:
        lines.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"never came: {pattern}\n{''.join(lines)}")


@pytest.mark.slow
def test_elastic_training_resumes_with_fewer_and_takes_a_new_one_in(records, tmp_path):
    """One of two processes is killed, another joins. The weights are those of runs of 2, 1 and 2 processes."""
    hosts, discover = tmp_path / "hosts", tmp_path / "discover.sh"
    hosts.write_text("localhost:1\n127.0.0.1:1\n")  # one machine, under as many names as there are processes
    discover.write_text(f"#!/bin/sh\ncat {hosts}\n")
    discover.chmod(0o755)
    # Large images, so that not too many steps are done while a process starts.
    options = ["--batch_size=4", "--lr=0.0001", "--log_interval=2", "--image_size=96"]
    args = command(records, tmp_path, *options, "--max_iter=100000")
    horovodrun = ["horovodrun", "--gloo", "-np", "2", "--min-np", "1", "--max-np", "2", "--host-discovery-script"]
    started = subprocess.Popen(
        [*horovodrun, discover, *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        # What a step reports is printed before the processes agree on it: at 6, that of 4 is kept.
        _until(started.stdout, "step 6  epoch")
        os.kill(_worker(tmp_path, "127.0.0.1"), signal.SIGKILL)
        alone = _until(started.stdout, DONE.format(4))
        _until(started.stdout, "step .*  epoch")
        hosts.write_text(f"localhost:1\n{socket.gethostname()}:1\n")
        together = _until(started.stdout, DONE.format("8 = 2 processes x 4"))
        _until(started.stdout, "step .*  epoch")
        os.kill(_worker(tmp_path, "localhost"), signal.SIGTERM)
        stopped = _until(started.stdout, r"asked to stop after step (\d+)")
        started.communicate(timeout=120)
    finally:
        started.kill()
    steps = [int(match[1]) for match in (alone, together, stopped)]
    assert 4 <= steps[0] < steps[1] < steps[2] and steps[0] % 2 == steps[1] % 2 == 0
    seen = [8 * steps[0], 8 * steps[0] + 4 * (steps[1] - steps[0])]
    assert [int(match[2]) for match in (alone, together)] == seen

    one_by_one = tmp_path / "one_by_one"
    for processes, step in zip((2, 1, 2), steps, strict=True):
        flags = train_flags(records, one_by_one, *options, f"--max_iter={step}")
        run_script("train.py", *flags) if processes == 1 else mpirun(processes, python("train.py", *flags))
    expected, actual = tensors(one_by_one, steps[2]), tensors(tmp_path, steps[2])
    assert actual["records_seen"] == expected["records_seen"] == seen[1] + 8 * (steps[2] - steps[1])
    helpers.assert_same_tensors(actual, expected, rtol=1e-4)


def _worker(folder, host):
    """The number of the process that `horovodrun` started on `host` to train into `folder`."""
    pgrep = subprocess.run(["pgrep", "-f", f"^{sys.executable} train.py.*{folder}"], capture_output=True, text=True)
    for number in pgrep.stdout.split():
        if f"HOROVOD_HOSTNAME={host}\0" in Path("/proc", number, "environ").read_text():
            return int(number)
    raise AssertionError(f"nothing runs on {host}")


def test_a_process_with_slow_input_is_named_and_a_signal_to_any_stops_all_at_the_same_step(records, tmp_path):
    """The second process reads images that take longer to decode than a step takes to train."""
    large = tmp_path / "large"
    image = jpeg(1, np.random.default_rng(0), enlarged=150)
    for k in range(3):
        write_shard(large / f"train-{k:05d}-of-00003.tfrecords", image=image)
    options = ["--snapshot=4", "--batch_size=4", "--max_iter=100000", "--num_preprocess_threads=1"]
    fast, slow = (command(folder, tmp_path, *options) for folder in (records, large))
    started, ranks = _started(1, [*fast, ":", "-np", "1", *slow])
    # What was read ahead is used up by now.
    stalls = _until(started.stdout, r"step 16 .*data stall (\d+)% to (\d+)% \(process 1\)")
    assert int(stalls[1]) + 20 < int(stalls[2]), stalls[0]
    os.kill(ranks[1], signal.SIGTERM)
    output, _ = started.communicate(timeout=120)
    assert started.returncode == 0, output
    stopped = re.search(r"asked to stop after step (\d+); the same command resumes from here", output)
    assert f"step {stopped[1]}: saved" in output
    assert int(tensors(tmp_path, stopped[1])["loss/step"]) == int(stopped[1])


def test_moving_averages_are_means_over_processes(records, tmp_path):
    """With a decay of 0 they are the statistics of the last batch, and each process has another."""
    options = ["--batch_norm_decay=0.0", "--max_iter=1", "--lr=0"]
    together = tmp_path / "together"
    mpirun(2, command(records, together, "--batch_size=4", *options))
    whole = tmp_path / "whole"
    run_script("train.py", *train_flags(records, whole, *options))
    name = "stages_0_block_0/conv1_b2_bn/batch_normalization/moving_mean"
    np.testing.assert_allclose(tensors(together, 1)[name], tensors(whole, 1)[name], rtol=1e-4, atol=1e-5)


def test_several_processes_without_horovod_are_an_error(records, tmp_path):
    hidden = tmp_path / "horovod"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('hidden')")
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
    args = command(records, tmp_path, "--max_iter=1")
    done = subprocess.run(
        [*MPIRUN, "-np", "2", *args], cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 1
    assert "error: started as 2 processes, but Horovod is not installed here: run `make horovod`" in done.stderr
    alone = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
    assert alone.returncode == 0 and "step 1: saved" in alone.stdout


def test_dry_run_says_what_a_run_of_many_would_be(records, tmp_path):
    options = ["--num_gpus=4", "--lr_scaling=linear", "--accumulate_steps=3", "--lr_decay_step=5", "--dry_run"]
    output = run_script("train.py", *train_flags(records, tmp_path, *options)).stdout
    assert "batch 96 = 4 processes x 3 times x 8, 0.9 steps an epoch; 12 steps = 12.8 epochs" in output
    assert "learning rates are those of the flags times 12" in output and "--lr_decay_step=5" in output
    boundaries = [line.split() for line in output.splitlines() if re.fullmatch(r" +\d+ +[\d.]+ +[\d.]+", line)]
    assert boundaries == [["0", "0.00", "0.12"], ["6", "6.40", "0.012"], ["11", "11.73", "0.0012"]]
    values = sum(v.shape.num_elements() for v in build_resnet(10, CLASSES).trainable_variables)
    assert f"{2 * 3 / 4 * 4 * values / 1e6:.1f} MB of gradients" in output
    assert not list(tmp_path.iterdir())


def _small_files_only():
    """As on a full disk: no file may become larger than 1 MB, and a checkpoint is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))


def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(records, tmp_path):
    run_script("train.py", *train_flags(records, tmp_path, "--max_iter=4"))
    done = run(command(records, tmp_path, "--snapshot=4"), status=1, preexec_fn=_small_files_only)
    assert len(re.findall(r"warning: .*step (?:8|12) could not be saved", done.stdout)) >= 2
    assert re.search(r"error: .*step 12 could not be saved .*make room there.*model\.ckpt-4$", done.stderr, re.M | re.S)
    assert "resuming after step 4" in done.stdout and tensors(tmp_path, 4)["loss/step"] == 4


def test_a_damaged_newest_checkpoint_is_passed_over_and_one_process_resumes_for_two(two, records, tmp_path):
    shutil.copytree(two[0] / "checkpoint", tmp_path / "checkpoint")
    newest = tmp_path / f"checkpoint/model.ckpt-{STEPS}.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:1000])
    output = run_script("train.py", *train_flags(records, tmp_path, "--max_iter=9")).stdout
    assert re.search(rf"warning: .*model\.ckpt-{STEPS}: damaged", output) and "resuming after step 8" in output
    assert "; batch 8, 11.2 steps an epoch; 9 steps = 0.8 epochs; done: 8 steps, 64 records" in output
