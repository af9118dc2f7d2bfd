"""Images of every kind, made with Pillow, and files that only claim to be images."""

import io
import os
from pathlib import Path
import struct
import subprocess
import sys
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from data_processing.images import image_files

# Pillow's remarks on odd metadata; that users do not see them has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ROOT = Path(__file__).parents[3]
WIDTH, HEIGHT = 40, 24
# A JPEG's error on a smooth image, in grey levels.
TOLERANCE = 6


def smooth(height=HEIGHT, width=WIDTH):
    """Colours that change slowly, differently along each side: RGB uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 4 * x, 30 + 7 * y, 200 - 2 * x - y], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(**options):
    return encoded(Image.fromarray(smooth()), "JPEG", quality=95, subsampling=0, **options)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[image_files.EXIF_ORIENTATION] = orientation
    return jpeg(exif=exif.tobytes())


def png_header(width, height):
    """A PNG of a few bytes that says it is as large as this."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


GREEN = Image.new("P", (9, 9), 2)
FORMATS = {
    "baseline": jpeg(),
    "progressive": jpeg(progressive=True),
    "png": encoded(Image.fromarray(smooth()), "PNG"),
    "png with alpha": encoded(Image.fromarray(smooth()).convert("RGBA"), "PNG"),
    "bmp": encoded(Image.fromarray(smooth()), "BMP"),
    "webp lossless": encoded(Image.fromarray(smooth()), "WEBP", lossless=True),
    "webp": encoded(Image.fromarray(smooth()), "WEBP", quality=95),
}


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
    assert stored.getexif().get(image_files.EXIF_ORIENTATION, 1) == 1
    np.testing.assert_allclose(np.asarray(stored).astype(int), expected, atol=2 * TOLERANCE)


# EXIF, in its forms of TIFF: no TIFF, only begun, entries missing, a first entry past the end, orientation 6 before
# damage, a text for an orientation.
DAMAGED_EXIF = [
    b"Exif\0\0no TIFF at all",
    b"Exif\0\0II",
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    b"Exif\0\0MM\0*\xff\xff\xff\xff",
    bytes.fromhex("457869660000 4d4d002a00000008 0002 0112000300000001 00060000 011a000500000001 ffffffff"),
    bytes.fromhex("457869660000 4d4d002a00000008 0001 0112000200000002 41000000 00000000"),
]


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


@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation_is_noticed(name):
    """At the end of a PNG, a BMP or a WebP nothing may be missing; of a JPEG, no more than its end mark."""
    data = FORMATS[name]
    for length in {1, 3, 12, 30, len(data) // 4, len(data) // 2, len(data) * 3 // 4}:
        for function in (image_files.decode, image_files.as_jpeg):
            with pytest.raises(image_files.ImageError):
                function(data[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html><body>404", "HTML"),
        (b"\n  <HTML>", "HTML"),
        (bytes(1000), "not an image in one of the formats JPEG"),
        (b"%PDF-1.7", "not an image"),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "not an image"),
        (encoded(Image.new("RGB", (9, 9)), "PPM"), "not an image"),
        (jpeg()[:-200], "damaged or truncated"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(image_files.ImageError, match=reason) as error:
        image_files.decode(data)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_too_many_pixels_are_refused_before_decoding():
    """100 megapixels in a hundred bytes. Decoding would say that rows are missing, the size comes first."""
    with pytest.raises(image_files.ImageError, match="10000 x 10000 pixels, more than 50000000"):
        image_files.decode(png_header(10_000, 10_000))
    with pytest.raises(image_files.ImageError, match="pixels, more than"):
        image_files.as_jpeg(png_header(2**31 - 1, 2**31 - 1))
    assert image_files.decode(jpeg(), max_pixels=WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(image_files.ImageError, match="40 x 24 pixels, more than 959"):
        image_files.decode(jpeg(), max_pixels=WIDTH * HEIGHT - 1)


def huge_canvases():
    """Small files of each format whose header, or first frame, is of hundreds of millions of pixels."""
    gif = encoded(Image.new("P", (9, 9)), "GIF")
    frame = gif.index(b",\0\0\0\0") + 5
    bmp = encoded(Image.new("RGB", (9, 9)), "BMP")
    red_and_blue = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    webp = encoded(red_and_blue[0], "WEBP", save_all=True, append_images=red_and_blue[1:])
    canvas = webp.index(b"VP8X") + 12
    sides = struct.pack("<I", 19_999)[:3] * 2
    jpeg_size = jpeg().index(b"\xff\xc0") + 5
    return {
        "png": png_header(20_000, 20_000),
        "gif": gif[:6] + struct.pack("<HH", 20_000, 20_000) + gif[10:],
        "gif frame": gif[:frame] + struct.pack("<HH", 20_000, 20_000) + gif[frame + 4 :],
        "bmp": bmp[:18] + struct.pack("<ii", 20_000, 20_000) + bmp[26:],
        "webp": webp[:canvas] + sides + webp[canvas + 6 :],
        "jpeg": jpeg()[:jpeg_size] + struct.pack(">HH", 20_000, 20_000) + jpeg()[jpeg_size + 4 :],
    }


ALONE = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import resource, sys
from data_processing.images import image_files

def use(path):
    refused = []
    for function in (image_files.decode, image_files.as_jpeg):
        try:
            function(path.read_bytes())
        except image_files.ImageError as error:
            assert "20000 x 20000 pixels" in str(error), (path, error)
            refused.append(path.name)
    return refused

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as pool:
    refused = sum(pool.map(use, sorted(Path(sys.argv[1]).iterdir()) * 5), [])
print(*refused, sep="\\n")
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"
"""


def test_huge_canvases_take_no_memory_and_odd_metadata_no_word(tmp_path):
    """In a process of its own: its memory is measured, and nothing else chooses what is done with warnings."""
    for name, data in huge_canvases().items():
        (tmp_path / f"huge {name}").write_bytes(data)
    for k, exif in enumerate(DAMAGED_EXIF):
        (tmp_path / f"exif {k}").write_bytes(jpeg(exif=exif, dpi=(72, 72)))
    command = [sys.executable, "-c", ALONE, tmp_path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert sorted(run.stdout.splitlines()) == sorted(10 * [f"huge {name}" for name in huge_canvases()])


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


def check_total(data):
    """Pixels or an ImageError, nothing else, for bytes that may be anything."""
    try:
        image = image_files.decode(data, max_pixels=100_000)
    except image_files.ImageError:
        image = None
    try:
        again, width, height = image_files.as_jpeg(data, max_pixels=100_000)
    except image_files.ImageError:
        assert image is None or max(image.shape) > image_files.JPEG_MAX_SIDE
    else:
        assert image.dtype == np.uint8 and image.shape == (height, width, 3)
        assert image_files.decode(again).shape == image.shape


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"GIF89a", b"BM", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\x00\x00\x00WEBPVP8 "]
    ),
    data=st.binary(max_size=400),
)
def test_random_bytes(start, data):
    check_total(start + data)


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from(
        [*FORMATS.values(), with_orientation(6), jpeg(exif=DAMAGED_EXIF[4], dpi=(72, 72)), encoded(GREEN, "GIF")]
    ),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    header=st.booleans(),
)
def test_changed_images(data, changes, header):
    changed = bytearray(data)
    for position, value in changes:
        changed[int(position * min(len(data), 300 if header else len(data)))] = value
    check_total(bytes(changed))


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
