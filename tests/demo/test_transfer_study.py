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
from demo import transfer_study, world
from tests.archives import jpeg
from tests.demo.forked import run_main


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
    config = build_dataset.DatasetConfig(train_per_class=5, random_seed=2)
    build_dataset.build(f"folder:{tmp_path}/classes", tmp_path / "records", config)
    names = [row.path for row in image_list.read(tmp_path / "records/train.txt")]
    paths = [Path(image.name) for image in file_batches.list_image_files(str(tmp_path / "classes"))]
    chosen, _ = split(np.array([path.parent.name for path in paths]).astype(int), 5, 0.2, 2)
    assert sorted(names) == sorted(str(paths[k].relative_to(tmp_path / "classes")) for k in chosen)


TITLES = [(kind, metric) for kind in transfer_study.TITLES.values() for metric in transfer_study.METRICS.values()]
SECOND = {title: (k + 1) / 16 for k, title in enumerate(TITLES)}


def plant_second_seed(out, steps):
    """Leaves what a study leaves that was ended after its second seed: networks, and the results in SECOND."""
    for kind, (pretrain_rate, finetune_rate) in transfer_study.BEST.items():
        model = out / f"{kind}-2-{pretrain_rate:g}"
        tuned = model / f"finetuned-{finetune_rate:g}"
        tuned.mkdir(parents=True)
        (model / f"model.ckpt-{0 if kind == transfer_study.SCRATCH else steps}.index").touch()
        top_1, probe = (SECOND[transfer_study.TITLES[kind], title] for title in transfer_study.METRICS.values())
        (tuned / "validation.json").write_text(json.dumps({"metrics": {"40, center": {"top_1": top_1}}}))
        (model / "probe.json").write_text(json.dumps({"results": [{"splits": [{"accuracy": probe}]}]}))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_small_study(tmp_path):
    small = dict(output_dir="out", seeds=2, num_images=60, class_images=6, resnet_size=10)
    small |= dict(pretrain_steps=10, finetune_steps=10)
    plant_second_seed(tmp_path / "out", small["pretrain_steps"])
    output = run_main(transfer_study.main, tmp_path, **small)
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["pre-training"] for row in rows] == list(transfer_study.TITLES.values())
    for row in rows:
        for title in transfer_study.METRICS.values():
            values = [float(value) for value in row[f"{title}, seeds"].split()]
            assert len(values) == 2 and 0 <= values[0] <= 1 and values[1] == SECOND[row["pre-training"], title]
            assert float(row[title]) == pytest.approx(np.mean(values), abs=1e-4)
            assert f"{row[title]} ± {row[f'{title}, standard deviation']}" in output
    assert (tmp_path / "out/figure.png").read_bytes().startswith(b"\x89PNG")
    # What is done is not done again.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.index")}
    run_main(transfer_study.main, tmp_path, **small)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.index")}
    with pytest.raises(ValueError, match="of a study with other settings"):
        run_main(transfer_study.main, tmp_path, **small | dict(pretrain_steps=12))
