"""The study of detection, in small; what it compares is a matter of minutes."""

import csv
import json

from PIL import Image
import pytest

from demo import detection
from tests.demo.forked import run_main

SMALL = dict(output_dir="out", seeds=2, num_images=60, voc_images=12, resnet_size=10)
SMALL |= dict(pretrain_steps=10, detection_steps=2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_small_study(tmp_path):
    # What a study leaves that was ended after its second seed.
    planted = {"pretrained": 0.75, "random": 0.25}
    (tmp_path / "out/network-2").mkdir(parents=True)
    (tmp_path / "out/network-2/model.ckpt-10.index").touch()
    for kind, value in planted.items():
        (tmp_path / f"out/{kind}-2").mkdir()
        (tmp_path / f"out/{kind}-2/validation.json").write_text(json.dumps({"metrics": {"128": {"mAP": value}}}))
    output = run_main(detection.main, tmp_path, **SMALL)
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = {row["pre-training"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert list(rows) == list(detection.TITLES.values())
    for kind, title in detection.TITLES.items():
        first, second = map(float, rows[title]["mAP, seeds"].split())
        assert 0 <= first <= 1 and second == planted[kind]
        assert float(rows[title]["mAP"]) == pytest.approx((first + second) / 2, abs=1e-4)
        assert f"{rows[title]['mAP']} ± " in output
    # The detectors begin as they should: one with the network, the other with none.
    logs = {kind: (tmp_path / f"out/{kind}-1/log.txt").read_text() for kind in detection.TITLES}
    assert "starting from the weights of out/network-1/model.ckpt-10" in logs["pretrained"]
    assert "begins with random weights" in logs["random"]
    with Image.open(tmp_path / "out/boxes.png") as sheet:
        assert sheet.width / detection.SHOWN == sheet.height / len(detection.TITLES) > detection.SCENE_SIZE
    assert (tmp_path / "out/figure.png").read_bytes().startswith(b"\x89PNG")
