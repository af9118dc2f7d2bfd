"""Masks of results in the devkit's layout: what they are worth, what is written is read, and what is refused."""

import json
import re
import sys

import numpy as np
from PIL import Image
import pytest
from sklearn.metrics import confusion_matrix

from data_processing.images.image_files import ImageError
from data_processing.sources.labeled_images import SourceError
from evaluation import palette, voc_segmentation_results
from evaluation.voc_segmentation_results import CLASSES, MaskFiles, Source
from tests.helpers import run
from tests.voc_devkit import jpeg, packed, unpacked

FOLDER = "VOC2012/Segmentation/comp6_val_cls"
IDS = [f"2007_{k:06d}" for k in range(25)]


def truth_of(k):
    """A mask of some classes, with void; of random size."""
    rng = np.random.default_rng(k)
    return rng.choice([0, 0, 3, 15, 20, 255], rng.integers(20, 40, 2)).astype(np.uint8)


def found_in(k):
    rng = np.random.default_rng(100 + k)
    return np.where(rng.random(truth_of(k).shape) < 0.5, truth_of(k) % 255, rng.integers(0, 21)).astype(np.uint8)


@pytest.fixture
def world(tmp_path):
    """A devkit with 25 masks and results for them, of which every other is of grey or of another palette."""
    files = {"VOC2012/ImageSets/Segmentation/val.txt": "".join(f"{name}\n" for name in IDS).encode()}
    unpacked(tmp_path / "VOCdevkit", files)
    for k, name in enumerate(IDS):
        palette.write(tmp_path / f"VOCdevkit/VOC2012/SegmentationClass/{name}.png", truth_of(k))
        palette.write(tmp_path / f"results/{FOLDER}/{name}.png", found_in(k))
        if k % 2:
            image = Image.fromarray(found_in(k))
            if k % 4 == 1:
                image.putpalette(bytes(range(63)))
            image.save(tmp_path / f"results/{FOLDER}/{name}.png")
    height, width = truth_of(0).shape
    unpacked(tmp_path / "VOCdevkit", {f"VOC2012/JPEGImages/{IDS[0]}.jpg": jpeg(0, width, height)})
    return tmp_path


def judged(world, **options):
    source = Source(f"voc2012seg:{world}/VOCdevkit", "val")
    voc_segmentation_results.judge(world / "results", source, world / "out", **options)
    return json.loads((world / "out/metrics.json").read_text())


def expected(ids=range(len(IDS))):
    """IoU by scikit-learn's confusion matrix."""
    truth, found = (np.concatenate([of(k).ravel() for k in ids]) for of in (truth_of, found_in))
    counts = confusion_matrix(truth[truth < 255], found[truth < 255], labels=range(21))
    either = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return {CLASSES[k]: counts[k, k] / either[k] if either[k] else None for k in range(21)}


def test_they_are_worth_what_an_independent_matrix_says(world, capsys):
    found, iou = judged(world), expected()
    assert found["IoU"] == pytest.approx(iou, abs=1e-9, nan_ok=True)
    assert found["mIoU"] == pytest.approx(np.mean([v for v in iou.values() if v is not None]), abs=1e-9)
    assert found["images"] == 25 and list(found["IoU"])[0] == "background"
    assert {p.name for p in (world / "out").iterdir()} == {"metrics.json", "per_class.tsv", "report.html", "worst.html"}
    assert "25 images; " in capsys.readouterr().out


def test_the_truth_itself_is_right(world, capsys):
    """Void in the results, too, where the truth is void: it does not count."""
    for k, name in enumerate(IDS):
        palette.write(world / f"results/{FOLDER}/{name}.png", truth_of(k))
    assert judged(world)["mIoU"] == 1
    assert "25 masks have values above 20 in void pixels; they do not count" in capsys.readouterr().out


def test_missing_masks_are_named(world):
    for name in IDS[:2]:
        (world / "results" / FOLDER / f"{name}.png").unlink()
    with pytest.raises(ValueError, match=f"2 of 25 masks are missing: {IDS[0]}.png, {IDS[1]}.png; there must be one"):
        judged(world)
    for name in IDS[2:]:
        (world / "results" / FOLDER / f"{name}.png").unlink()
    with pytest.raises(ValueError, match="25 of 25 .*_000019.png and 5 more; "):
        judged(world)
    assert not (world / "out").exists()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros([3, 4], np.uint8), r"_000004\.png: .*4 x 3 pixels, the image has "),
        (np.where(truth_of(4) == 255, 0, 21).astype(np.uint8), r"_000004\.png: .* pixels of value 21, but the classes"),
        (np.full_like(truth_of(4), 255), r"_000004\.png: .* pixels of value 255, .*write the background, 0"),
        (np.zeros([*truth_of(4).shape, 3], np.uint8), r"_000004\.png: .*RGB"),
    ],
)
def test_masks_that_are_refused(world, mask, message):
    Image.fromarray(mask).save(world / f"results/{FOLDER}/{IDS[4]}.png")
    with pytest.raises(ImageError, match=message):
        judged(world)
    assert not (world / "out").exists()


def test_masks_of_other_images_and_of_comp5(world, capsys):
    folder = world / "results" / FOLDER
    (folder / "other.png").write_bytes(b"no png")
    folder.rename(folder.with_name("comp5_val_cls"))
    assert judged(world)["IoU"] == pytest.approx(expected())
    assert "1 masks in " in capsys.readouterr().out
    folder.mkdir()
    with pytest.raises(ValueError, match="comp6_val_cls and .*comp5_val_cls are both there"):
        judged(world)


def test_bad_masks_of_the_truth_are_left_out(world):
    bad = world / f"VOCdevkit/VOC2012/SegmentationClass/{IDS[7]}.png"
    bad.write_bytes(b"")
    found = judged(world)
    assert found["IoU"] == pytest.approx(expected([k for k in range(25) if k != 7]))
    assert len(found["skipped"]) == 1 and re.fullmatch(f"{bad}: .*empty file", found["skipped"][0])
    Image.fromarray(np.full([9, 9], 21, np.uint8)).save(world / f"VOCdevkit/VOC2012/SegmentationClass/{IDS[8]}.png")
    with pytest.raises(ValueError, match="2 of 25 masks of the ground truth cannot be used, more than --max_skipped"):
        judged(world)
    assert len(judged(world, max_skipped=0.1)["skipped"]) == 2


@pytest.mark.parametrize(
    ("dataset", "split", "error", "message"),
    [
        ("voc2012:x", "val", ValueError, "name what --voc_results are of, as voc2012seg:VOCdevkit"),
        ("voc2012seg:", "val", ValueError, "name what --voc_results are of"),
        ("voc2012seg:none", "val", SourceError, "there is no "),
        ("voc2012seg:{}/VOCdevkit", "test", ValueError, "test.txt: missing; it must list the images of --split=test"),
    ],
)
def test_what_is_no_truth(world, dataset, split, error, message):
    with pytest.raises(error, match=message):
        voc_segmentation_results.read_truth(Source(dataset.format(world), split))


def test_no_masks_at_all(world):
    with pytest.raises(ValueError, match="there is no VOC2012/Segmentation/comp6_train_cls in it"):
        voc_segmentation_results.result_paths(world, Source("voc2012seg:x", "train"), IDS)


def test_what_is_written_is_read(world):
    masks = MaskFiles(world / "results", "val", {})
    for k, name in enumerate(IDS):
        masks.write(f"VOC2012/JPEGImages/{name}.jpg", truth_of(k).astype(np.int16))
        np.testing.assert_array_equal(masks.read(f"VOC2012/JPEGImages/{name}.jpg"), truth_of(k))
    assert judged(world)["mIoU"] == 1
    masks = MaskFiles(world / "other", "val", {}, year=2012)
    masks.write(f"voc/JPEGImages/{IDS[0]}.jpg", truth_of(0))
    assert (world / "other" / FOLDER / f"{IDS[0]}.png").is_file()


def test_masks_of_images_that_are_not_vocs_stay_in_their_folder(tmp_path):
    masks = MaskFiles(tmp_path / "in", "val", {})
    names = ["a/b.jpg", "a/b.png", "../../x.jpg", "/etc/y.jpg", "a b\n.jpg", "", "..", "VOC2012/JPEGImages/...jpg"]
    for k, name in enumerate(names):
        masks.write(name, np.full([2, 3], k))
    for k, name in enumerate(names):
        assert (masks.read(name) == k).all()
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == len(names)
    assert all(path.is_relative_to(tmp_path / "in/Segmentation/comp6_val_cls") for path in made)


def test_no_tensorflow_is_needed(world):
    code = (
        "import sys; from pathlib import Path; from evaluation import voc_segmentation_results as v\n"
        f"v.judge({str(world / 'results')!r}, v.Source('voc2012seg:{world}/VOCdevkit', 'val'), Path({str(world)!r}))\n"
        "assert 'tensorflow' not in sys.modules"
    )
    assert "mIoU" in run([sys.executable, "-c", code]).stdout


def test_a_devkit_in_its_tar(world):
    devkit = world / "VOCdevkit"
    content = {str(path.relative_to(devkit)): path.read_bytes() for path in devkit.rglob("*.*")}
    tar = packed(world / "VOCtrainval_11-May-2012.tar", content)
    voc_segmentation_results.judge(world / "results", Source(f"voc2012seg:{tar}", "val"), world / "out")
    assert json.loads((world / "out/metrics.json").read_text())["IoU"] == pytest.approx(expected())
