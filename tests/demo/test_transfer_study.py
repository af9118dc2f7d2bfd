"""The study of pre-trainings, in small; what it compares is a matter of minutes."""

import csv
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from data_processing.input_pipeline import file_batches
from data_processing.lists import dictionary, image_list
from data_processing.sources.labeled_images import single_label
from data_processing.sources.splits import split
from demo import transfer_study, world
from tests.archives import jpeg

ROOT = Path(__file__).parents[2]


def test_a_scene_s_one_label_is_its_surest_thing():
    classes = world.read().classes
    ancestors = dictionary.ancestors(classes)
    first, second = world.read().things[0], world.read().things[5]
    labels = dict.fromkeys(second.labels, 0.4) | dict.fromkeys(first.labels, 0.9)
    row = image_list.Row("a.jpg", tuple(labels), tuple(labels.values()))
    assert transfer_study.surest_label(row, ancestors, 3) == image_list.Row("a.jpg", (first.label,), (1.0,))
    # Of equal ones lots are drawn, the same ones each time.
    equal = row._replace(confidences=(1.0,) * len(labels))
    drawn = [transfer_study.surest_label(equal, ancestors, k).labels[0] for k in range(200)]
    assert drawn == [transfer_study.surest_label(equal, ancestors, k).labels[0] for k in range(200)]
    assert set(drawn) == {first.label, second.label} and 70 < drawn.count(first.label) < 130


def test_fine_tuning_and_probe_learn_from_the_same_images(tmp_path):
    for k in range(3):
        (tmp_path / f"classes/{k}").mkdir(parents=True)
        for n in range(8):
            (tmp_path / f"classes/{k}/{n}.jpg").write_bytes(jpeg([k, n]))
    single_label.build(f"folder:{tmp_path}/classes", tmp_path / "records", train_per_class=5, seed=2)
    names = [row.path for row in image_list.read(tmp_path / "records/train.txt")]
    paths = [Path(image.name) for image in file_batches.list_image_files(str(tmp_path / "classes"))]
    chosen, _ = split(np.array([path.parent.name for path in paths]).astype(int), 5, 0.2, 2)
    assert sorted(names) == sorted(str(paths[k].relative_to(tmp_path / "classes")) for k in chosen)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_small_study(tmp_path):
    command = [sys.executable, "demo/transfer_study.py", f"--output_dir={tmp_path}/out", "--seeds=2", "--num_images=60"]
    command += ["--class_images=6", "--pretrain_steps=10", "--finetune_steps=10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["pre-training"] for row in rows] == list(transfer_study.TITLES.values())
    for row in rows:
        for title in transfer_study.MEASURES.values():
            values = [float(value) for value in row[f"{title}, seeds"].split()]
            assert len(values) == 2 and all(0 <= value <= 1 for value in values)
            assert float(row[title]) == pytest.approx(np.mean(values), abs=1e-4)
            assert f"{row[title]} ± {row[f'{title}, standard deviation']}" in done.stdout
    assert (tmp_path / "out/figure.png").read_bytes().startswith(b"\x89PNG")
    # What is done is not done again.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.index")}
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.index")}
    other = subprocess.run([*command, "--pretrain_steps=12"], cwd=ROOT, capture_output=True, text=True)
    assert other.returncode == 1 and "of a study with other settings" in other.stderr
