"""Where files that belong to images are to be: one each, none of them an image, all in their folder."""

from collections import namedtuple
import os

import pytest

from evaluation import copies

File = namedtuple("File", "file")


def names(folder, files, name_of=copies.same_ending, images=None):
    made = copies.targets([File(str(folder / name)) for name in files], images or "list.txt", "out", "--draw", name_of)
    return [str(path.relative_to("out")) for path in made]


def test_names_of_copies(tmp_path):
    files = ["a.jpg", "b.png.png", "in/a.bmp", "in/c.PNG", "b.bmp", "b.bmp.png", "a.jpg"]
    assert names(tmp_path, files) == [
        "a.jpg",
        "b.png.png",
        "in/a.bmp.png",
        "in/c.PNG",
        "b.bmp.png.png",
        "b.bmp.png",
        "a.jpg",
    ]


def test_names_of_masks(tmp_path):
    files = ["a.jpg", "in/a.webp", "b.jpg", "b.png", "c.jpg", "c.gif", "c", "a.jpg"]
    found = names(tmp_path, files, copies.png)
    assert found == ["a.png", "in/a.png", "b.jpg.png", "b.png", "c.png", "c.gif.png", "c.png.png", "a.png"]


def test_what_would_be_overwritten_or_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="^--draw=images/out lies in images, and would be read with it"):
        copies.targets([File("images/a.png")], "images", "images/out", "--draw")
    with pytest.raises(ValueError, match="^--result=images: images/a.png is one of the images that are read"):
        copies.targets([File("images/a.png")], "list.txt", "images", "--result", copies.png)
    os.mkdir("out")
    os.symlink(tmp_path / "images", "out/in")
    files = [File("x/in/a.png"), File("x/b.png")]
    with pytest.raises(ValueError, match="a link in it leads out/in/a.png out of it"):
        copies.targets(files, "list.txt", "out", "--draw")
