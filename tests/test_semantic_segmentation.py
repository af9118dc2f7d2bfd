"""semantic_segmentation.py as a user runs it: its masks against the network's own logits, batches, tiles, overlays."""

from absl.testing import flagsaver
import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from evaluation import palette
from models import checkpoint
from models.deeplab import DeepLabConfig, build_deeplab, enlarged
from models.resnet import build_resnet
import semantic_segmentation
from tests.detector_worlds import pixels
from tests.scripts import run_script

NAMES = ["background", "cat", 'dog, "é"', "person"]
# Height and width; two that share a padded size, and one that is seen in tiles.
SIZES = {"a.png": (64, 96), "in/b.jpg": (60, 80), "in/c.bmp": (63, 66), "in/d.png": (1, 1), "e.png": (200, 300)}
TILE = 129 * 193


def image_of(folder, name):
    with Image.open(folder / "images" / name) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    for name, size in SIZES.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(*size, seed=size[0])).save(folder / "images" / name)
    model = build_deeplab(10, len(NAMES), config=DeepLabConfig(8, True))
    variables, rng = checkpoint.model_variables(model), np.random.default_rng(0)
    kernel = variables["segmentation/logits/conv2d/kernel"]
    kernel.assign(rng.normal(size=kernel.shape))
    names = "".join(f"{k}\t{name}\n" for k, name in enumerate(NAMES))
    said = checkpoint.Metadata("masks", "segmentation", 65, names, output_stride=8, decoder=True)
    checkpoint.save(folder / "network", 7, variables, 1, said)
    return folder, model


def segment(folder, **options):
    """Runs the script in this process; returns the masks by their names."""
    files = {"images": folder / "images", "model_dir": folder / "network", "result": folder / "own"}
    options = {name: str(value) for name, value in ({"data_format": "NHWC"} | files | options).items()}
    semantic_segmentation.FLAGS.mark_as_parsed()
    with flagsaver.as_parsed(**options):
        semantic_segmentation.main([])


def scores_of(model, image):
    """Logits of each pixel of the image, padded by NumPy to sides of 64 k + 1 pixels."""
    height, width = image.shape[:2]
    padded = np.zeros([1, *(-(-(side - 1) // 64) * 64 + 1 for side in (height, width)), 3], np.float32)
    padded[0, :height, :width] = image / 127.5 - 1
    return enlarged(model(tf.constant(padded)), padded.shape[1:3])[0, :height, :width].numpy()


def assert_best(mask, scores, share=1.0):
    """That a mask has the class of the highest score, but for roundings, in so many of the pixels."""
    best = np.take_along_axis(scores, mask[..., None].astype(int), -1)[..., 0]
    assert (best >= scores.max(-1) - 1e-3).mean() >= share


def test_masks_are_the_networks_classes_and_depend_on_no_batch(world, tmp_path, capsys):
    folder, model = world
    segment(folder, result=tmp_path / "masks", overlay=tmp_path / "drawn", max_pixels=10**6)
    out = capsys.readouterr().out
    assert out.startswith("DeepLab v3+ on ResNet-10, 4 classes, step 7; output stride 8, at most 1,000,000 pixels")
    found = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.*"))
    assert found == ["a.png", "e.png", "in/b.png", "in/c.png", "in/d.png"]
    segment(folder, result=tmp_path / "alone", batch_size=1, max_pixels=10**6)
    seen = set()
    for name, size in SIZES.items():
        path = (tmp_path / "masks" / name).with_suffix(".png")
        mask = palette.read(path, size)
        with Image.open(path) as image:
            assert image.mode == "P"
        scores = scores_of(model, image_of(folder, name))
        assert_best(mask, scores)
        assert_best(palette.read((tmp_path / "alone" / name).with_suffix(".png")), scores)
        seen |= set(np.unique(mask).tolist())
        drawn = tmp_path / "drawn" / (name if name.endswith(("png", "jpg")) else f"{name}.png")
        with Image.open(drawn) as image:
            assert image.format == ("JPEG" if name.endswith("jpg") else "PNG")
            if name == "a.png":
                expected = palette.overlay(image_of(folder, name), mask, NAMES)
                np.testing.assert_array_equal(np.asarray(image), expected)
                share = (mask == mask[0, 0]).mean()
                assert f"{NAMES[mask[0, 0]]} {share:.1%}" in out
    assert len(seen) > 1
    assert f"written: {tmp_path}/masks, masks of 5 images" in out


def test_large_images_by_tiles(world, tmp_path):
    folder, model = world
    segment(folder, result=tmp_path, max_pixels=TILE, images=folder / "images" / "e.png")
    mask = palette.read(tmp_path / "e.png", SIZES["e.png"])
    # The network looks at what is around, so that a tile's scores are not the whole image's.
    assert_best(mask, scores_of(model, image_of(folder, "e.png")), share=0.5)
    assert len(np.unique(mask)) > 1


def test_scales_and_the_mirror_image(world, tmp_path):
    folder, _ = world
    segment(folder, result=tmp_path, scales="0.5,1,1.5", flip="true", images=folder / "images" / "a.png")
    assert palette.read(tmp_path / "a.png").shape == SIZES["a.png"]


def test_a_list_with_files_that_cannot_be_read(world, tmp_path, capsys):
    folder, _ = world
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    paths = [f"{folder}/images/a.png", "cut.jpg", f"{folder}/images/in/b.jpg", "none.png", f"{folder}/images/a.png"]
    (tmp_path / "list.txt").write_text("\n".join(paths))
    with pytest.raises(ValueError, match="^2 of 5 images were left out"):
        segment(folder, images=tmp_path / "list.txt", result=tmp_path / "out")
    said = capsys.readouterr()
    assert "left out: cut.jpg: " in said.err and "left out: none.png: No such file" in said.err
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("given_flags", "message"),
    [
        ({"result": "images/masks"}, "^--result=.* lies in .*images, and would be read with it"),
        ({"overlay": "images/drawn"}, "^--overlay=.* lies in .*images, and would be read with it"),
        ({"overlay": "own"}, "^--overlay=.*own: .*png is to be a mask already; name another folder"),
        ({"max_pixels": 9000}, "^--max_pixels=9000 is less than a tile has"),
        ({"scales": "1,x"}, "^--scales=1,x: give numbers above 0"),
        ({"class_num": 7}, "--class_num=7, but .* 4"),
        ({"images": ""}, "--images is missing"),
        ({"model_dir": "."}, "this folder holds 0 checkpoints"),
    ],
)
def test_flags_that_cannot_be_met(world, given_flags, message):
    folder, _ = world
    paths = {name: folder / given_flags[name] for name in ("result", "overlay", "model_dir") if name in given_flags}
    with pytest.raises(ValueError, match=message):
        segment(folder, **given_flags | paths)
    assert not (folder / "own").exists()


def test_another_networks_checkpoint_is_refused(world, tmp_path):
    folder, _ = world
    checkpoint.save(tmp_path, 1, checkpoint.model_variables(build_resnet(10, 3)), 1, checkpoint.Metadata("softmax"))
    with pytest.raises(checkpoint.CheckpointError, match="is of no segmentation"):
        segment(folder, model_dir=tmp_path)


def test_the_script(world, tmp_path):
    folder, _ = world
    options = [f"--images={folder}/images/in/b.jpg", f"--model_dir={folder}/network"]
    done = run_script("semantic_segmentation.py", *options, cwd=tmp_path)
    assert "masks of 1 images" in done.stdout and (tmp_path / "masks" / "b.png").exists()
    done = run_script("semantic_segmentation.py", "--images=none.jpg", options[1], cwd=tmp_path, status=1)
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
