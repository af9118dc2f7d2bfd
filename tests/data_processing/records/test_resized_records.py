"""Records at the size of training: what was drawn into an image lies where its boxes and its mask say it does."""

import io
import json

import numpy as np
from PIL import Image
import pytest

from data_processing.images import image_files
from data_processing.lists import box_list, image_list, mask_list
from data_processing.records import build_dataset, image_record, schema, shard_writer
from data_processing.sources import datasets
from tests.mask_files import png
from tests.scripts import run_script

SHORT = 40
CONFIG = shard_writer.ShardConfig("train", "boxes", 3, num_shards=1, random_seed=1, max_rejected=0.0)
BOXES = [(30, 20, 150, 110), (200, 60, 290, 190)]  # of an image of 320 x 200 pixels


def drawn(boxes=BOXES, size=(320, 200), orientation=None):
    pixels = np.zeros([size[1], size[0]], np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = 255
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue(), pixels // 255


def grey(encoded):
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("L")).astype(float)


@pytest.mark.parametrize("orientation", [None, 6, 8])
def test_boxes_are_of_the_image_in_the_record(tmp_path, orientation):
    data, _ = drawn(orientation=orientation)
    (tmp_path / "a.jpg").write_bytes(data)
    row = box_list.Row("a.jpg", (320, 200), tuple(box_list.Box(1, *box) for box in BOXES))
    made = image_record.make(row, tmp_path, CONFIG._replace(resize_short=SHORT))
    _, encoded, boxes = schema.decode(made.record, "boxes")
    pixels = grey(encoded)
    assert pixels.shape[::-1] == ((64, 40) if orientation is None else (40, 64))
    assert made.is_portrait == (orientation is not None) and len(boxes) == 2
    for box in boxes:
        left, top, right, bottom = box.edges
        # What is bright there has the area of the box, and its center.
        around = np.s_[max(0, int(top) - 2) : int(bottom) + 4, max(0, int(left) - 2) : int(right) + 4]
        bright = pixels[around] / 255
        np.testing.assert_allclose(bright.sum(), (right - left) * (bottom - top), rtol=0.03)
        y, x = np.indices(bright.shape) + 0.5
        y, x = (bright * y).sum() / bright.sum() + around[0].start, (bright * x).sum() / bright.sum() + around[1].start
        np.testing.assert_allclose([x, y], [(left + right) / 2, (top + bottom) / 2], atol=0.15)


def test_a_mask_has_the_size_of_the_image_and_no_other_classes(tmp_path):
    data, classes = drawn()
    classes = np.where(np.arange(320) < 160, 2 * classes, 255 * classes).astype(np.uint8)
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "a.png").write_bytes(png(classes))
    row = mask_list.Row("a.jpg", str(tmp_path), "a.png")
    config = CONFIG._replace(label_format="masks", resize_short=SHORT)
    made = image_record.make(row, tmp_path, config)
    features = schema.decode(made.record, "masks")
    encoded, mask = (next(x for x in features if isinstance(x, bytes) and x.startswith(b)) for b in (b"\xff", b"\x89"))
    mask = grey(mask)
    assert mask.shape == grey(encoded).shape == (40, 64) and made.row.labels == (0, 2)
    assert set(np.unique(mask)) == {0, 2, 255}
    np.testing.assert_array_equal(mask, classes[2::5, 2::5])  # a factor of 5: the pixel in the middle
    assert (((grey(encoded) > 127) == (mask > 0)).mean()) > 0.99


def test_what_is_small_keeps_its_bytes(tmp_path):
    data, classes = drawn()
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "a.png").write_bytes(png(classes))
    rows = {
        "boxes": box_list.Row("a.jpg", None, (box_list.Box(1, 30, 20, 150, 110),)),
        "masks": mask_list.Row("a.jpg", str(tmp_path), "a.png"),
        "sparse": image_list.Row("a.jpg", (1,), (1.0,)),
    }
    for kind, row in rows.items():
        config = CONFIG._replace(label_format=kind)
        made = [image_record.make(row, tmp_path, config._replace(resize_short=short)).record for short in (0, 200, 500)]
        assert made[0] == made[1] == made[2] and data in made[0]


def test_as_a_user_builds_and_resumes(tmp_path):
    """Small, large and damaged images; the same command goes on, another one is refused."""
    small, large = drawn(size=(60, 40), boxes=[(5, 5, 20, 20)])[0], drawn()[0]
    for name, data in {"small": small, "large": large, "cut": large[:-500]}.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    image_list.write(
        tmp_path / "list.txt", [image_list.Row(f"{n}.jpg", (1,), (1.0,)) for n in ("small", "large", "cut")]
    )
    command = ["data_processing/build_tfrecords.py", f"--image_list={tmp_path}/list.txt", f"--images={tmp_path}"]
    command += [f"--output_dir={tmp_path}/out", "--class_num=3", "--num_shards=1", "--max_rejected=0.5"]
    run_script(*command, f"--resize_short={SHORT}", "--jpeg_quality=80")
    [shard] = (tmp_path / "out").glob("*.tfrecords")
    found = shard.read_bytes()
    assert small in found and large not in found
    assert image_files.as_jpeg(large, resize_short=SHORT, quality=80)[0] in found
    assert (tmp_path / "out/rejected.tsv").read_text().startswith("cut.jpg\tdamaged or truncated")
    settings = json.loads((tmp_path / "out/manifest.json").read_text())["settings"]
    assert (settings["resize_short"], settings["jpeg_quality"]) == (SHORT, 80)
    shard.with_suffix(".json").unlink()
    run_script(*command, f"--resize_short={SHORT}", "--jpeg_quality=80")
    assert shard.read_bytes() == found
    refused = run_script(*command, status=1).stderr
    assert f"made with other settings (resize_short {SHORT}, now 0; jpeg_quality 80, now 95)" in refused


def test_a_dataset_is_bound_to_its_size(tmp_path):
    config = datasets.DatasetConfig(resize_short=SHORT)
    of_before = datasets.settings("folder:x", datasets.DatasetConfig())
    del of_before["resize_short"], of_before["jpeg_quality"]  # as earlier versions wrote it
    (tmp_path / "train").mkdir()
    (tmp_path / "train/train-00000-of-00001.tfrecords").touch()
    (tmp_path / "dataset.json").write_text(json.dumps(of_before | {"class_num": 2, "train": 3, "val": 1}))
    assert build_dataset.build("folder:x", tmp_path, datasets.DatasetConfig()) == (2, 3, 1)
    with pytest.raises(ValueError, match=f"resize_short 0, now {SHORT}"):
        build_dataset.build("folder:x", tmp_path, config)
