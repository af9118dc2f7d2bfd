"""Where files that belong to images are to be: one each, none of them an image, all in their folder."""

from collections import namedtuple
import os

import pytest

from evaluation import copies

File = namedtuple("File", "file")


def files(*names):
    return [File(name) for name in names]


def names(folder, some, name_of=copies.same_ending, images=None):
    made = copies.targets([File(str(folder / name)) for name in some], images or "list.txt", "out", "--draw", name_of)
    return [str(path.relative_to("out")) for path in made]


def test_names_of_copies(tmp_path):
    some = ["a.jpg", "b.png.png", "in/a.bmp", "in/c.PNG", "b.bmp", "b.bmp.png", "a.jpg"]
    assert names(tmp_path, some) == [
        "a.jpg",
        "b.png.png",
        "in/a.bmp.png",
        "in/c.PNG",
        "b.bmp.png.png",
        "b.bmp.png",
        "a.jpg",
    ]


def test_names_of_masks(tmp_path):
    some = ["a.jpg", "in/a.webp", "b.jpg", "b.png", "c.jpg", "c.gif", "c", "a.jpg"]
    found = names(tmp_path, some, copies.png)
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
    with pytest.raises(ValueError, match="a link in it leads out/in/a.png out of it"):
        copies.targets(files("x/in/a.png", "x/b.png"), "list.txt", "out", "--draw")


def test_no_copy_lies_among_images(tmp_path):
    """It could have the name of another image there, which is not read."""
    with pytest.raises(ValueError, match="would lie among images; name another folder"):
        copies.targets(files(str(tmp_path / "a.jpg")), "list.txt", str(tmp_path), "--result", copies.png)


def test_where_copies_go(tmp_path):
    inside = files(*(str(tmp_path / "images" / name) for name in ("a.JPG", "b/c.webp", "b/d.png", "b/e")))
    for image in inside:
        path = tmp_path / image.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = ["a.JPG", "b/c.webp.png", "b/d.png", "b/e.png"]
    made = copies.targets(inside, str(tmp_path / "images"), str(tmp_path / "drawn"), "--draw")
    assert made == [tmp_path / "drawn" / name for name in names]
    # Of a list, below what all have in common; of one image, itself.
    made = copies.targets(inside[1:], str(tmp_path / "list.txt"), "drawn", "--draw")
    assert [str(path) for path in made] == ["drawn/c.webp.png", "drawn/d.png", "drawn/e.png"]
    made = copies.targets(inside[:1], inside[0].file, "drawn", "--draw")
    assert [str(path) for path in made] == ["drawn/a.JPG"]
    (copy,) = copies.targets(files("null\0.jpg"), "list.txt", "drawn", "--draw")
    assert str(copy) == "drawn/null_.jpg"
    (copy,) = copies.targets(files("../../../../../../../x.jpg"), "list.txt", "drawn", "--draw")
    assert str(copy) == "drawn/x.jpg"


def test_no_two_images_have_one_copy(tmp_path):
    """Though the copy of one would be called as another; an image that stands in a list twice has one."""
    names = ["a.bmp", "a.bmp.png", "a.bmp.png.png", "b.JPG", "b.JPG.png", "c", "c.png", "a.bmp"]
    made = [str(path) for path in copies.targets(files(*names), "list.txt", "drawn", "--draw")]
    kept = {name: f"drawn/{name}" for name in names if name not in ("a.bmp", "c")}
    expected = kept | {"a.bmp": "drawn/a.bmp.png.png.png", "c": "drawn/c.png.png"}
    assert dict(zip(names, made, strict=True)) == expected and made[0] == made[-1]


def test_a_copy_replaces_no_image_through_a_link(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "a.png").symlink_to("../images/a.png")
    image = files(str(tmp_path / "images" / "a.png"))
    with pytest.raises(ValueError, match="is one of the images that are read"):
        copies.targets(image, image[0].file, str(tmp_path / "drawn"), "--draw")
