"""The script that builds shards on ranks, killed and started again."""

import hashlib
import json
import os
from pathlib import Path
import signal
import time

import numpy as np
from PIL import Image
import pytest

from data_processing.lists import image_list
from data_processing.lists.image_list import Row
from tests.build_tfrecords_runs import CLASSES, files, finish, start


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A world of images that take long enough to be interrupted, and the files that two ranks make of it."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        noise = rng.integers(0, 256, (700, 700, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{k}.png", compress_level=1)
    rows = [Row(f"{k % 4}.png" if k % 30 else f"lost{k}.png", (k % CLASSES,), (1.0,)) for k in range(72)]
    image_list.write(folder / "list.txt", rows)
    ranks = [{"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2"} for rank in range(2)]
    processes = [start(*slow_arguments(folder, "ranks"), environment=rank) for rank in ranks]
    outputs = [finish(process)[0] for process in processes]
    return folder, outputs, files(folder / "ranks")


def slow_arguments(folder, output):
    return folder / "images", folder / "list.txt", folder / output, "--num_shards=6", "--max_rejected=0.1"


def test_ranks_divide_the_shards(slow):
    _, outputs, made = slow
    for rank, out in enumerate(outputs):
        assert f"process {rank} of 2: 72 images; of 3 shards 0 are there already" in out
    manifest = json.loads(made["manifest.json"])
    assert (manifest["records"], manifest["rejected"]) == (69, 3)
    assert made["rejected.tsv"].decode().split("\n")[0].startswith("lost0.png\tNo such file")
    assert len(made["rejected.tsv"].split(b"\n")) == 4
    shards = [f"train-0000{k}-of-00006" for k in range(6)]
    expected = {"manifest.json", "rejected.tsv", "settings.json", "label_counts-train.json"}
    assert set(made) == expected | {f"{shard}.{end}" for shard in shards for end in ("tfrecords", "json", "offsets")}
    images = {hashlib.sha256(data).hexdigest() for name, data in made.items() if name.endswith(".tfrecords")}
    assert len(images) == 6


def session_members(session):
    """The processes of a session that still run, by Linux's /proc."""
    members = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, its = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if its == str(session) and state not in "ZX":
            members.append(entry.name)
    return members


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_killed_and_started_again_makes_the_same_bytes(slow):
    folder, _, expected = slow
    output = folder / "killed"
    process = start(*slow_arguments(folder, "killed"))
    wait_until(lambda: any(output.glob("train-*.json")), 60)
    process.send_signal(signal.SIGKILL)
    process.wait(10)  # not `communicate`: workers that live on would keep the pipes open
    try:
        wait_until(lambda: not session_members(process.pid), 20)
    finally:
        for member in session_members(process.pid):
            os.kill(int(member), signal.SIGKILL)
    complete = [path for path in output.glob("*.tfrecords") if path.with_suffix(".json").exists()]
    assert 0 < len(complete) < 6
    assert all(path.read_bytes() == expected[path.name] for path in output.glob("*.tfrecords"))
    assert not (output / "manifest.json").exists()
    times = {path: path.stat().st_mtime_ns for path in complete}
    out, _ = finish(start(*slow_arguments(folder, "killed")))
    assert f"of 6 shards {len(complete)} are there already" in out
    assert files(output) == expected
    assert {path: path.stat().st_mtime_ns for path in complete} == times
