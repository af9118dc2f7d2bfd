"""The profile of some steps, read as TensorBoard's plugin reads it."""

import re

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.helpers import train_flags, write_shard
from tests.scripts import run_script
from training.profile import profiled
from utils import flag_values


def steps_in(folder):
    """{step: duration in ps} of each profile below a folder, and all names of events."""
    found, names = {}, set()
    for path in folder.rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            for event in (event for line in plane.lines for event in line.events):
                name = plane.event_metadata[event.metadata_id].name
                names.add(name)
                stats = {plane.stat_metadata[stat.metadata_id].name: stat.int64_value for stat in event.stats}
                if name == "train":
                    found[stats["step_num"]] = event.duration_ps
    return found, names


def test_a_run_leaves_a_profile_of_its_steps_and_goes_on(tmp_path):
    write_shard(tmp_path / "records/train-00000-of-00001.tfrecords")

    def run(*options):
        return run_script(
            "train.py", *train_flags(tmp_path / "records", tmp_path, "--test_interval=0", *options)
        ).stdout

    def line(output):
        return re.findall(r"^profiled steps (\d+) to (\d+), in (\S+)/plugins/profile; .*--logdir=(\S+)$", output, re.M)

    output = run("--max_iter=2")
    assert not line(output) and not list(tmp_path.rglob("*.pb"))
    folder = f"{tmp_path}/log"
    # Resumed before the range, and at its end in it.
    assert line(run("--max_iter=5", "--profile=4:900")) == [("4", "5", folder, folder)]
    durations, names = steps_in(tmp_path / "log")
    assert sorted(durations) == [4, 5] and min(durations.values()) > 0
    assert any("ResourceApplyMomentum" in name for name in names)
    # Resumed after the range.
    assert not line(run("--max_iter=7", "--profile=4:5")) and sorted(steps_in(tmp_path / "log")[0]) == [4, 5]


@pytest.mark.parametrize("way", ["stopped", "failed", "last", "none"])
def test_whatever_ends_the_steps_the_profile_is_written(tmp_path, way, capsys):
    seen = []

    def work():
        for k in profiled(range(10), "" if way == "none" else "3:4" if way == "last" else "3:9", str(tmp_path)):
            seen.append(k)
            tf.linalg.matmul(tf.ones([8, 8]), tf.ones([8, 8])).numpy()
            if k == 5 and way == "stopped":
                break
            if k == 5 and way == "failed":
                raise ValueError("not finite")

    if way == "failed":
        with pytest.raises(ValueError, match="not finite"):
            work()
    else:
        work()
    expected = {"stopped": [3, 4, 5, 6], "failed": [3, 4, 5, 6], "last": [3, 4], "none": []}[way]
    assert sorted(steps_in(tmp_path)[0]) == expected
    assert seen == list(range(6 if way in ("stopped", "failed") else 10))
    assert ("profiled steps 3 to" in capsys.readouterr().out) == bool(expected)
    # Another one can begin.
    assert list(profiled(range(2), "1:1", str(tmp_path / "again"))) == [0, 1]
    assert sorted(steps_in(tmp_path / "again")[0]) == [1]


@pytest.mark.parametrize("text", ["5", "5:", "0:3", "7:5", "a:b", "1:2:3", "-1:4", "1:٣", " 1:2", "1:2\n"])
def test_what_are_no_steps(text):
    assert not flag_values.are_steps(text)
    with pytest.raises(ValueError, match="is not FIRST:LAST"):
        flag_values.steps(text)


def test_a_bad_range_is_said_at_once():
    done = run_script("finetune.py", "--profile=7:5", status=1)
    assert "flag --profile=7:5: give two numbers of steps, from 1 on, as in 10:20" in done.stderr
    assert list(flag_values.steps("7:9")) == [7, 8, 9] and not flag_values.steps("")
