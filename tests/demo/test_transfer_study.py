"""The study of pre-trainings, in small; what it compares is a matter of minutes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from data_processing.input_pipeline import file_batches
from data_processing.lists import dictionary, image_list
from data_processing.records import build_dataset
from data_processing.sources.splits import split
from demo import pretrainings, transfer_study, world
from tests.archives import jpeg
from tests.demo.forked import run_main


def test_a_scene_s_one_label_is_its_surest_thing():
    _, classes, grounds = world.read("large")
    ancestors = dictionary.ancestors(classes)
    first, second = world.read("large").things[0], world.read("large").things[5]
    assert second.label not in first.labels and first.label not in second.labels
    labels = dict.fromkeys(second.labels, 0.4) | dict.fromkeys(first.labels, 0.9) | dict.fromkeys(grounds["grass"], 1.0)
    row = image_list.Row("a.jpg", tuple(labels), tuple(labels.values()))
    assert transfer_study.surest_thing(row, ancestors, 3) == image_list.Row("a.jpg", (first.label,), (1.0,))
    # Of equal ones lots are drawn, the same ones each time.
    equal = row._replace(confidences=(1.0,) * len(labels))
    drawn = [transfer_study.surest_thing(equal, ancestors, k).labels[0] for k in range(200)]
    assert drawn == [transfer_study.surest_thing(equal, ancestors, k).labels[0] for k in range(200)]
    assert set(drawn) == {first.label, second.label} and 70 < drawn.count(first.label) < 130


def test_fine_tuning_and_probe_learn_from_the_same_images(tmp_path):
    for k in range(3):
        (tmp_path / f"classes/{k}").mkdir(parents=True)
        for n in range(8):
            (tmp_path / f"classes/{k}/{n}.jpg").write_bytes(jpeg([k, n]))
    config = build_dataset.DatasetConfig(train_per_class=5, random_seed=2)
    build_dataset.build(f"folder:{tmp_path}/classes", tmp_path / "records", config)
    names = [row.path for row in image_list.read(tmp_path / "records/train.txt")]
    paths = [Path(image.name) for image in file_batches.list_image_files(str(tmp_path / "classes"))]
    chosen, _ = split(np.array([path.parent.name for path in paths]).astype(int), 5, 0.2, 2)
    assert sorted(names) == sorted(str(paths[k].relative_to(tmp_path / "classes")) for k in chosen)


NAMES = {kind: pretraining.title for kind, pretraining in pretrainings.ALL.items()}
# Some that differ in how they are trained, so that the study in small trains each way once.
ONLY = ("none_longer", "single", "rank", "part", "two_way")


def planted(kind):
    """Returns results as of a network: those of no pre-training lack what needs scenes, and one has no probe twice."""
    lacking = {"none": ("map",), "none_longer": ("map", "probe")}.get(kind, ())
    names = [name for name in transfer_study.METRICS if not name.startswith(lacking)]
    return {name: (k + 1 + list(NAMES).index(kind)) / 32 for k, name in enumerate(names)}


def plant(out, kinds, seed):
    """Leaves the results of networks, as a study does that was stopped."""
    for kind in kinds:
        pretraining = pretrainings.ALL[kind]
        folder = out / f"{kind}-{seed}-{pretraining.rate:g}"
        folder.mkdir(parents=True)
        result = {"metrics": planted(kind), "minutes": 3.0}
        (folder / f"result-{pretraining.finetune_rate:g}.json").write_text(json.dumps(result))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_small_study(tmp_path):
    small = dict(output_dir="out", seeds=2, num_images=60, class_images=12, resnet_size=10)
    small |= dict(pretrain_steps=10, finetune_steps=10)
    plant(tmp_path / "out", NAMES, 2)
    plant(tmp_path / "out", NAMES.keys() - set(ONLY), 1)
    # In two pieces, the second of which makes the table.
    run_main(transfer_study.main, tmp_path, **small, only=["none_longer", "rank"])
    assert not (tmp_path / "out/table.tsv").exists()
    output = run_main(transfer_study.main, tmp_path, **small)
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = {row["pre-training"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert list(rows) == list(NAMES.values())
    for kind, name in NAMES.items():
        for metric, title in transfer_study.METRICS.items():
            if metric not in planted(kind):
                assert not rows[name][title]
                continue
            values = [float(value) for value in rows[name][f"{title}, seeds"].split()]
            assert len(values) == 2 and 0 <= values[0] <= 1
            assert values[1] == pytest.approx(planted(kind)[metric], abs=1e-4)
            assert float(rows[name][title]) == pytest.approx(np.mean(values), abs=1e-4)
            assert f"{rows[name][title]} ± {rows[name][f'{title}, standard deviation']}" in output
    assert (tmp_path / "out/figure.png").read_bytes().startswith(b"\x89PNG")
    # What is done is not done again.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.index")}
    run_main(transfer_study.main, tmp_path, **small)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.index")}
    with pytest.raises(ValueError, match="of a study with other settings"):
        run_main(transfer_study.main, tmp_path, **small | dict(pretrain_steps=12))


def test_rates_are_tried_until_the_best_is_between_others():
    def peak_at(best):
        return lambda rate: -abs(np.log(rate / best))

    assert list(transfer_study.search(peak_at(0.01), 0.01)) == [0.01, 0.003, 0.03]
    assert list(transfer_study.search(peak_at(0.1), 0.01)) == [0.01, 0.003, 0.03, 0.1, 0.3]
    assert list(transfer_study.search(peak_at(0.001), 0.01)) == [0.01, 0.003, 0.03, 0.001, 0.0003]
    # No more than these, and none beyond the table.
    assert list(transfer_study.search(peak_at(9), 0.01)) == [0.01, 0.003, 0.03, 0.1, 0.3]
    assert list(transfer_study.search(peak_at(9), 0.3)) == [0.3, 0.1, 1.0]


def test_names_of_pre_trainings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="--only=weigthed: choose from none, none_longer, single"):
        run_main(transfer_study.main, tmp_path, output_dir="out", only=["weigthed"])
