"""Images in files as batches: which, in what order, with which pixels, and what is said of bad ones."""

import functools
import os
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline import file_batches
from data_processing.input_pipeline.file_batches import FileConfig, ImageFile
from data_processing.input_pipeline.transforms import evaluation_image
from data_processing.lists.image_list import ImageListError
from distributed import Ranks

SIZE = 56  # short side 64: an image of 64 pixels' height is not resized


def mosaic(seed, height=64, width=80):
    """Tiles of 8 x 8 pixels, which a JPEG holds almost exactly."""
    tiles = np.random.default_rng(seed).integers(0, 256, [height // 8, width // 8, 3], dtype=np.uint8)
    return tiles.repeat(8, axis=0).repeat(8, axis=1)


def read_batches(paths, crop="center", transform=None, **options):
    transform = transform or functools.partial(evaluation_image, image_size=SIZE, crop=crop)
    config = FileConfig(batch_size=4)._replace(**options)
    return list(file_batches.file_batches(paths, transform, config).as_numpy_iterator())


def test_pixels_and_order(tmp_path):
    """PNGs, so that the pixels are known: the centre of each, in order, from many threads."""
    paths = []
    for k in range(10):
        height, width = (64, 64 + 8 * k) if k % 2 else (64 + 8 * k, 64)
        paths.append(str(tmp_path / f"{9 - k}.png"))
        Image.fromarray(mosaic(k, height, width)).save(paths[-1])
    batches = read_batches(paths, num_preprocess_threads=8)
    assert [len(batch["index"]) for batch in batches] == [4, 4, 2]
    assert [k for batch in batches for k in batch["index"]] == list(range(10))
    assert all(error == b"" for batch in batches for error in batch["error"])
    images = np.concatenate([batch["input"] for batch in batches])
    assert images.dtype == np.float32 and images.shape == (10, SIZE, SIZE, 3)
    for image, path in zip(images, paths, strict=True):
        pixels = np.asarray(Image.open(path), np.float32)
        top, left = (pixels.shape[0] - SIZE) // 2, (pixels.shape[1] - SIZE) // 2
        np.testing.assert_allclose(image, pixels[top : top + SIZE, left : left + SIZE] / 127.5 - 1, atol=1e-6)


def test_ten_crops(tmp_path):
    path = str(tmp_path / "a.png")
    pixels = mosaic(1)
    Image.fromarray(pixels).save(path)
    (batch,) = read_batches([path], crop="10crop")
    assert batch["input"].shape == (1, 10, SIZE, SIZE, 3)
    cuts = [pixels[y : y + SIZE, x : x + SIZE] for y, x in ((0, 0), (0, 24), (8, 0), (8, 24), (4, 12))]
    expected = np.stack(cuts + [np.fliplr(cut) for cut in cuts])
    np.testing.assert_allclose(batch["input"][0], expected / 127.5 - 1, atol=1e-6)


def test_bad_files_keep_their_place(tmp_path):
    Image.fromarray(mosaic(1)).save(tmp_path / "good.jpg")
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-300])
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    Image.new("L", (1, 101)).save(tmp_path / "thin.png")
    Image.new("L", (101, 101)).save(tmp_path / "large.png")
    expected = {
        "good.jpg": "",
        "page.jpg": "HTML",
        "empty.jpg": "empty file",
        "cut.jpg": "damaged or truncated",
        "folder.jpg": "not a file",
        "pipe.jpg": "not a file",
        "missing.jpg": "No such file",
        "null\0.jpg": "null",
        "thin.png": "1 x 101 pixels, more than 100 times as long as wide",
        "large.png": "101 x 101 pixels, more than 10200",
    }
    paths = [str(tmp_path / name) for name in [*expected, "good.jpg"]]
    batches = read_batches(paths, max_pixels=10_200)
    errors = [error.decode() for batch in batches for error in batch["error"]]
    for reason, error in zip([*expected.values(), ""], errors, strict=True):
        assert error.startswith(reason) if reason != "null" else "null" in error
        assert bool(error) == bool(reason)
    images = np.concatenate([batch["input"] for batch in batches])
    assert (images[1:-1] == -1).all()
    np.testing.assert_array_equal(images[0], images[-1])
    (batch,) = read_batches(paths[1:2], crop="10crop")
    assert batch["input"].shape == (1, 10, SIZE, SIZE, 3) and (batch["input"] == -1).all()


def test_rows_of_predictions_find_their_images(tmp_path):
    files = []
    for k in range(7):
        Image.new("RGB", (64, 64), (30 * k, 0, 0)).save(tmp_path / f"{k}.png")
        files.append(ImageFile(f"name {k}", "", str(tmp_path / (f"{k}.png" if k not in (0, 4) else "none.png"))))
    config = FileConfig(batch_size=3, num_preprocess_threads=2)
    transform = functools.partial(evaluation_image, image_size=SIZE)
    predictions = file_batches.predictions(lambda images: images[:, 0, 0, :1], files, transform, config)
    batches = list(file_batches.by_image(predictions, files))
    assert [[image.name for image in read] for read, _, _ in batches] == [
        ["name 1", "name 2"],
        ["name 3", "name 5"],
        ["name 6"],
    ]
    rows = np.concatenate([rows for _, rows, _ in batches])
    np.testing.assert_allclose(rows[:, 0], np.array([1, 2, 3, 5, 6]) * 30 / 127.5 - 1, atol=1e-6)
    left_out = [(image.name, reason) for _, _, unreadable in batches for image, reason in unreadable]
    assert left_out == [(f"name {k}", "No such file or directory") for k in (0, 4)]


def test_images_of_other_sizes_come_in_other_batches(tmp_path):
    """Several tensors of an image; each size in its order, and a file that cannot be used stands for a black pixel."""
    sizes = [(8, 6), (6, 8), (8, 6), (8, 6), (6, 8), (8, 6), (8, 6), (1, 1)]
    paths = [str(tmp_path / f"{k}.png") for k in range(len(sizes))]
    for k, (path, (height, width)) in enumerate(zip(paths, sizes, strict=True)):
        Image.new("RGB", (width, height), (k, 0, 0)).save(path)
    paths[2] = "none.png"

    def transform(image):
        return {"image": image, "size": tf.shape(image)[:2]}

    def grouped(**options):
        config = FileConfig(2, num_preprocess_threads=3)
        return list(file_batches.file_batches(paths, transform, config, **options).as_numpy_iterator())

    batches = grouped()
    assert sorted(batch["index"].tolist() for batch in batches) == [[0, 3], [1, 4], [2, 7], [5, 6]]
    for batch in batches:
        for row, k in enumerate(batch["index"]):
            size = (1, 1) if k == 2 else sizes[k]
            assert tuple(batch["input"]["size"][row]) == batch["input"]["image"].shape[1:3] == size
            assert (batch["input"]["image"][row] == ([k, 0, 0] if k != 2 else 0)).all()
            assert (batch["error"][row] == b"") == (k != 2)
    shares = [[k for batch in grouped(ranks=Ranks(rank, 2)) for k in batch["index"]] for rank in (0, 1)]
    assert [sorted(share) for share in shares] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    files = [ImageFile(path, "", path) for path in paths]
    predictions = file_batches.predictions(
        lambda given: {"area": tf.reduce_prod(given["size"], 1)}, files, transform, FileConfig(2)
    )
    found = {
        int(image.file[-5]): area
        for read, rows, _ in file_batches.by_image(predictions, files)
        for image, area in zip(read, rows["area"], strict=True)
    }
    assert found == {k: height * width for k, (height, width) in enumerate(sizes) if k != 2}


def test_a_folder_and_one_image(tmp_path):
    for name in ("b/2.JPG", "a.png", "b/1.webp", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths = [str(tmp_path / name) for name in ("a.png", "b/1.webp", "b/2.JPG")]
    assert file_batches.list_image_files(str(tmp_path)) == [ImageFile(path, "", path) for path in paths]
    assert file_batches.list_image_files(paths[0]) == [ImageFile(paths[0], "", paths[0])]


def test_links_that_are_left_out_are_counted(tmp_path, capsys):
    folder, outside = tmp_path / "images", tmp_path / "outside"
    for path in (folder / "in/a.png", outside / "b.png"):
        path.parent.mkdir(parents=True)
        path.touch()
    (folder / "same.png").symlink_to("in/a.png")
    paths = [str(folder / "in/a.png"), str(folder / "same.png")]
    assert [image.file for image in file_batches.list_image_files(str(folder))] == paths
    assert capsys.readouterr().out == ""
    for k in range(6):
        (folder / f"out {k}.png").symlink_to(outside / "b.png")
    (folder / "folder\t").symlink_to(outside)
    (folder / "out.txt").symlink_to(outside / "b.png")  # no image, by its name
    assert [image.file for image in file_batches.list_image_files(str(folder))] == paths
    shown = ", ".join([f"{folder}/folder\\t", *(f"{folder}/out {k}.png" for k in range(4))])
    assert capsys.readouterr().out == f"warning: 7 links left out, to folders or out of {folder}: {shown}, …\n"
    file_batches.list_image_files(str(folder), quiet=True)
    assert capsys.readouterr().out == ""


def test_a_list(tmp_path, monkeypatch):
    """Paths from the working directory come before paths from the list's folder."""
    lists, work = tmp_path / "lists", tmp_path / "work"
    for folder in (lists, work):
        folder.mkdir()
        (folder / "both.jpg").touch()
    (lists / "beside.jpg").touch()
    (work / "here.jpg").touch()
    monkeypatch.chdir(work)
    text = "\ufeffboth.jpg 7\r\n\nbeside.jpg\t two  words \there.jpg\nhere.jpg\nwith space.jpg\t\nmissing.jpg a b\n"
    (lists / "list.txt").write_text(text, encoding="utf-8")
    expected = [
        ImageFile("both.jpg", "7", "both.jpg"),
        ImageFile("beside.jpg", "two words here.jpg", str(lists / "beside.jpg")),
        ImageFile("here.jpg", "", "here.jpg"),
        ImageFile("with space.jpg", "", "with space.jpg"),
        ImageFile("missing.jpg", "a b", "missing.jpg"),
    ]
    assert file_batches.list_image_files(str(lists / "list.txt")) == expected
    (lists / "list.CSV").write_text("here.jpg,3\n/a b.jpg , 4\nboth.jpg\t1,2\n")
    assert [image[:2] for image in file_batches.list_image_files(str(lists / "list.CSV"))] == [
        ("here.jpg", "3"),
        ("/a b.jpg", "4"),
        ("both.jpg", "1,2"),
    ]


def test_odd_file_names_stand_escaped(tmp_path):
    names = [b"tab\there.jpg", b"line\nend.jpg", b"latin \xe9.jpg", "grün.jpg".encode()]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()
    files = file_batches.list_image_files(str(tmp_path))
    shown = sorted(os.path.relpath(image.name, tmp_path) for image in files)
    assert shown == ["grün.jpg", r"latin \xe9.jpg", r"line\nend.jpg", r"tab\there.jpg"]
    assert all(os.path.exists(image.file) for image in files)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        (None, None, ValueError, "--images is missing"),
        ("none.jpg", None, FileNotFoundError, "none.jpg"),
        ("none.txt", None, FileNotFoundError, "none.txt"),
        ("list.txt", b"\n \n", ValueError, "the list is empty"),
        ("list.txt", b"a.jpg\n\xff.jpg\n", ImageListError, "list.txt:2: not UTF-8"),
        (".", None, ValueError, "no file ends in .jpg"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, error, message):
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        file_batches.list_image_files(str(tmp_path / name) if name else "")


PIECES = ["a.jpg", "\t", ",", " ", "\n", "\r\n", "/", "..", "\0", "\ufeff", "é"]
FUZZED = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES)).map("".join).map(str.encode))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(FUZZED, st.sampled_from(["list.txt", "list.csv"]))
@example(b"\t3", "list.txt")
@example(b",", "list.csv")
@example(b"\0" + b"a" * 5000, "list.txt")
def test_any_list_is_read_or_refused(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        files = file_batches.list_image_files(str(path))
    except ValueError as error:  # ImageListError is one
        assert str(error).startswith(f"{path}:")
        return
    assert files and not any("\t" in image.name or "\n" in image.name for image in files)
    for image in files:
        with pytest.raises(image_files.ImageError):
            file_batches.decode_file(image.file, max_pixels=100)
