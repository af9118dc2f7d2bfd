"""The studies of detection and segmentation, in small; what they compare is a matter of minutes."""

import csv
import json

from PIL import Image
import pytest

from demo import detection, segmentation, study
from tests.demo.forked import run_main

SMALL = dict(output_dir="out", seeds=2, num_images=60, voc_images=12, resnet_size=10, pretrain_steps=10)
# Of each its main function, flags, metric, sheet of pictures, and rows in it.
STUDIES = {
    "detection": (detection.main, dict(detection_steps=2), "mAP", "boxes.png", 2),
    "segmentation": (segmentation.main, dict(segmentation_steps=2), "mIoU", "masks.png", 3),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", STUDIES)
def test_small_study(tmp_path, name):
    main, steps, metric, sheet_name, rows_shown = STUDIES[name]
    # What a study leaves that was ended after its second seed.
    planted = {"pretrained": 0.75, "random": 0.25}
    (tmp_path / "out/network-2").mkdir(parents=True)
    (tmp_path / "out/network-2/model.ckpt-10.index").touch()
    for kind, value in planted.items():
        (tmp_path / f"out/{kind}-2").mkdir()
        (tmp_path / f"out/{kind}-2/validation.json").write_text(json.dumps({"metrics": {"whole": {metric: value}}}))
    output = run_main(main, tmp_path, **SMALL, **steps)
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = {row["pre-training"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert list(rows) == list(study.TITLES.values())
    for kind, title in study.TITLES.items():
        first, second = map(float, rows[title][f"{metric}, seeds"].split())
        assert 0 <= first <= 1 and second == planted[kind]
        assert float(rows[title][metric]) == pytest.approx((first + second) / 2, abs=1e-4)
        assert f"{rows[title][metric]} ± " in output
    # The networks begin as they should: one with the other network, one with none.
    logs = {kind: (tmp_path / f"out/{kind}-1/log.txt").read_text() for kind in study.TITLES}
    assert "starting from the weights of out/network-1/model.ckpt-10" in logs["pretrained"]
    assert "begins with random weights" in logs["random"]
    with Image.open(tmp_path / "out" / sheet_name) as sheet:
        assert sheet.width / study.SHOWN == sheet.height / rows_shown > study.SCENE_SIZE
    assert (tmp_path / "out/figure.png").read_bytes().startswith(b"\x89PNG")
