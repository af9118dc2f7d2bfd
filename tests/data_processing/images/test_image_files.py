"""Images of every kind, made with Pillow."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image
import pytest

from data_processing.images import bare, image_files
from tests.encoded_images import (
    DAMAGED_EXIF,
    FORMATS,
    HEIGHT,
    TOLERANCE,
    WIDTH,
    encoded,
    jpeg,
    smooth,
    with_orientation,
)

# Pillow's remarks on odd metadata; that users do not see them has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", FORMATS)
def test_colour_formats(name):
    image = image_files.decode(FORMATS[name])
    assert image.dtype == np.uint8 and image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(image.astype(int), smooth(), atol=2 * TOLERANCE if name == "webp" else TOLERANCE)


def test_grey_and_bilevel():
    grey = Image.fromarray(smooth()).convert("L")
    for form in ("PNG", "JPEG", "BMP"):
        image = image_files.decode(encoded(grey, form))
        np.testing.assert_allclose(image.astype(int), np.asarray(grey)[..., None].repeat(3, 2), atol=TOLERANCE)
    bilevel = grey.point(lambda value: 255 * (value > 100), "1")
    expected = (np.asarray(grey)[..., None].repeat(3, 2) > 100) * 255
    np.testing.assert_array_equal(image_files.decode(encoded(bilevel, "PNG")), expected)


def test_cmyk_is_not_inverted():
    """Adobe stores CMYK inverted; to a decoder that forgets it, this image is nearly black."""
    ink = Image.merge("CMYK", [Image.new("L", (WIDTH, HEIGHT), value) for value in (0, 200, 100, 20)])
    image = image_files.decode(encoded(ink, "JPEG", quality=95))
    expected = [(255 - value) * (255 - 20) / 255 for value in (0, 200, 100)]
    np.testing.assert_allclose(image.reshape(-1, 3).mean(0), expected, atol=TOLERANCE)


# From a stored image to the upright one, by the definition of EXIF: where row 0 and column 0 are seen.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation(orientation):
    expected = UPRIGHT[orientation](smooth()).astype(int)
    data = with_orientation(orientation)
    np.testing.assert_allclose(image_files.decode(data).astype(int), expected, atol=TOLERANCE)
    again, width, height = image_files.as_jpeg(data)
    assert (height, width) == expected.shape[:2] and (again == data) == (orientation == 1)
    stored = Image.open(io.BytesIO(again))
    assert stored.getexif().get(bare.ORIENTATION, 1) == 1
    np.testing.assert_allclose(np.asarray(stored).astype(int), expected, atol=2 * TOLERANCE)


@pytest.mark.parametrize("exif", DAMAGED_EXIF, ids=range(len(DAMAGED_EXIF)))
@pytest.mark.parametrize("form", ["JPEG", "JPEG with density", "PNG", "WEBP"])
def test_damaged_exif_costs_no_image(exif, form):
    """Pillow reads EXIF as soon as it opens a JPEG without a density, otherwise only when it is asked to."""
    options = {"dpi": (72, 72)} if "density" in form else {"lossless": True} if form == "WEBP" else {"quality": 95}
    data = encoded(Image.fromarray(smooth()), form.split()[0], exif=exif, **options)
    rotated = exif is DAMAGED_EXIF[4]
    expected = UPRIGHT[6](smooth()) if rotated else smooth()
    image = image_files.decode(data)
    np.testing.assert_allclose(image.astype(int), expected, atol=2 * TOLERANCE)
    again, width, height = image_files.as_jpeg(data)
    assert (height, width) == image.shape[:2]
    assert (again == data) == (form.startswith("JPEG") and not rotated)


def test_alpha_is_laid_on_white():
    alpha = np.linspace(0, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)
    image = image_files.decode(encoded(Image.fromarray(np.dstack([smooth(), alpha])), "PNG"))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(image, smooth() * share + 255 * (1 - share), atol=1.01)


def test_transparent_palette_and_grey_with_alpha():
    indices = np.indices((HEIGHT, WIDTH)).sum(0).astype(np.uint8) % 2
    image = Image.fromarray(indices, "P")
    image.putpalette([10, 200, 30, 90, 60, 220])
    decoded = image_files.decode(encoded(image, "PNG", transparency=0))
    np.testing.assert_array_equal(decoded, np.array([[255, 255, 255], [90, 60, 220]])[indices])
    grey = Image.fromarray(np.dstack([np.full((2, 2), 7, np.uint8), np.array([[0, 255], [255, 0]], np.uint8)]), "LA")
    np.testing.assert_array_equal(image_files.decode(encoded(grey, "PNG"))[..., 1], [[255, 7], [7, 255]])


def test_16_bit_grey_keeps_its_range():
    values = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, 0)
    image = image_files.decode(encoded(Image.fromarray(values), "PNG"))
    np.testing.assert_allclose(image, (values / 257)[..., None].repeat(3, 2), atol=1.01)


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(form):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    np.testing.assert_allclose(image_files.decode(data).reshape(-1, 3).mean(0), [255, 0, 0], atol=TOLERANCE)


@pytest.mark.parametrize("size", [(65_501, 9), (9, 65_501)])
def test_too_long_for_a_jpeg(size):
    data = encoded(Image.new("RGB", size, "red"), "PNG")
    assert image_files.decode(data).shape == (size[1], size[0], 3)
    with pytest.raises(image_files.ImageError, match="a JPEG's sides are at most 65500"):
        image_files.as_jpeg(data)


@pytest.mark.parametrize("name", FORMATS)
def test_as_jpeg(name):
    data, width, height = image_files.as_jpeg(FORMATS[name])
    assert (width, height) == (WIDTH, HEIGHT)
    assert (data == FORMATS[name]) == (name in ("baseline", "progressive"))
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG" and image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image).astype(int), smooth(), atol=3 * TOLERANCE)


def test_as_jpeg_keeps_grey_and_converts_cmyk():
    grey = encoded(Image.fromarray(smooth()).convert("L"), "JPEG")
    assert image_files.as_jpeg(grey) == (grey, WIDTH, HEIGHT)
    ink = encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    image = Image.open(io.BytesIO(image_files.as_jpeg(ink)[0]))
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image).astype(int), smooth(), atol=3 * TOLERANCE)


def test_image_paths(tmp_path):
    for name in ("b.jpg", "a/z.PNG", "a/notes.txt", "c/d/e.webp", "noending"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    paths = image_files.image_paths(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in paths] == ["a/z.PNG", "b.jpg", "c/d/e.webp"]
    # The folder itself may be a link; one in it may lead about, not out.
    (tmp_path / "a" / "inside.jpg").symlink_to("../b.jpg")
    for name, target in (("out.jpg", tmp_path / "b.jpg"), ("loop.jpg", "loop.jpg"), ("gone.jpg", "/nowhere.jpg")):
        (tmp_path / "a" / name).symlink_to(target)
    (tmp_path / "link").symlink_to("a")
    paths = image_files.image_paths(tmp_path / "link")
    assert [os.path.relpath(path, tmp_path) for path in paths] == ["link/loop.jpg", "link/z.PNG"]
    paths = image_files.image_paths(tmp_path)
    assert {"a/inside.jpg", "a/out.jpg"} <= {os.path.relpath(path, tmp_path) for path in paths}
    with pytest.raises(FileNotFoundError):
        image_files.image_paths(tmp_path / "none")


def test_read_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert image_files.read_file(tmp_path / "a.jpg") == jpeg()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "long.jpg").touch()
    os.truncate(tmp_path / "long.jpg", 10**9)
    for name, reason in (("pipe.jpg", "not a file"), (".", "not a file"), ("long.jpg", "1000000000 bytes, too many")):
        with pytest.raises(image_files.ImageError, match=reason):
            image_files.read_file(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        image_files.read_file(tmp_path / "none.jpg")


def test_safe_join(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"")
    (root / "link.jpg").symlink_to(outside / "secret.jpg")
    (root / "folder").symlink_to(outside)
    (root / "inner").symlink_to(root / "sub")
    for path in ("a.jpg", "sub/../a.jpg", "sub/b.jpg", "inner/c.jpg", root / "d.jpg"):
        assert image_files.safe_join(root, path).resolve().is_relative_to(root)
    for path in ("../outside/secret.jpg", "sub/../../x", "/etc/passwd", "link.jpg", "folder/secret.jpg", "../root2/x"):
        with pytest.raises(image_files.ImageError, match="leaves the folder"):
            image_files.safe_join(root, path)
    (root / "loop").symlink_to("loop")
    with pytest.raises(image_files.ImageError, match="null byte"):
        image_files.safe_join(root, "a\0.jpg")
    with pytest.raises(OSError, match="symbolic links"):
        image_files.read_file(image_files.safe_join(root, "loop/a.jpg"))
