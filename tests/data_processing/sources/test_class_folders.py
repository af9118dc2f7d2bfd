"""Folders of classes, split already or not, and every other nesting, which is refused."""

from pathlib import Path
import re
import shutil

import pytest

from data_processing.sources import class_folders, single_label
from data_processing.sources.labeled_images import SourceError


def make(folder, *paths):
    """Empty files, and folders where a path ends in "/"."""
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir() if path.endswith("/") else place.write_bytes(b"")
    return folder


def classes_of(source, rows):
    assert all(row.confidences == (1.0,) for row in rows)
    return {row.path: source.names[row.labels[0]] for row in rows}


NAMES = ["Größe", "dog, brown", "two  blanks", "train", "猫"]


@pytest.mark.parametrize("val_name", ["val", "valid", "Validation", "test"])
def test_a_split_is_kept_to_the_image(tmp_path, val_name, capsys):
    train = {f"train/{name}/{k}.jpg": name for name in NAMES for k in range(3)}
    val = {f"{val_name}/{name}/{k}.PNG": name for name in NAMES[1:] for k in range(2)}
    make(tmp_path, *train, *val, f"{val_name}/Größe/", "README.txt", "train/list.csv", ".hidden/a/b.jpg")
    source = class_folders.read(tmp_path)
    assert source.names == sorted(NAMES)
    assert classes_of(source, source.train) == train and classes_of(source, source.val) == val
    printed = capsys.readouterr().out
    assert printed == (f"{tmp_path}/test is used for validation: there is no val/\n" if val_name == "test" else "")


def test_test_is_left_out_where_there_is_val(tmp_path, capsys):
    make(tmp_path, "train/a/1.jpg", "val/a/2.jpg", "test/3.jpg", "test/b/c/4.jpg")
    source = class_folders.read(tmp_path)
    assert classes_of(source, source.train + source.val) == {"train/a/1.jpg": "a", "val/a/2.jpg": "a"}
    assert capsys.readouterr().out == f"{tmp_path}/test is left out\n"


def test_a_test_of_unknown_classes_does_not_count(tmp_path, capsys):
    """As competitions have it."""
    make(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/3.jpg")
    source = class_folders.read(tmp_path)
    assert source.val is None and len(source.train) == 2
    assert capsys.readouterr().out == f"{tmp_path}/test is left out: it has no folders of classes\n"


def test_without_a_split(tmp_path):
    """Of vehicles, say: a class may be called as a split."""
    make(tmp_path, "bus/1.jpg", "train/2.jpg", "test/3.jpg", "bus/.ipynb_checkpoints/1.jpg", "__MACOSX/bus/._1.jpg")
    source = class_folders.read(tmp_path)
    assert source.val is None
    assert classes_of(source, source.train) == {"bus/1.jpg": "bus", "train/2.jpg": "train", "test/3.jpg": "test"}


REFUSED = [
    ([], "no folders in it; make one for each class"),
    (["1.jpg", "2.jpg"], "no folders in it"),
    (["a/1.jpg", "2.jpg"], "2.jpg lies beside the folders"),
    (["a/1.jpg", "b/c/2.jpg"], "b/c/2.jpg lies deeper than in the folder of a class"),
    (["a/1.jpg", "a/c/2.jpg"], "a/c/2.jpg lies deeper"),
    (["pets/cat/1.jpg", "pets/dog/2.jpg"], "pets/cat/1.jpg lies deeper .*; is it folder:{}/pets"),
    (["pets/train/cat/1.jpg", "pets/val/cat/2.jpg"], "pets/train/cat/1.jpg lies deeper .*is it folder:{}/pets"),
    (["train/a/1.jpg", "val/a/x/2.jpg"], "val/a/x/2.jpg lies deeper"),
    (["train/1.jpg", "val/2.jpg"], "no folders of classes in train/"),
    (["train/1.jpg"], "no folders of classes in train/"),
    (["train/a/1.jpg", "train/2.jpg"], "train/2.jpg lies beside the folders of classes"),
    (["train/a/1.jpg", "val/2.jpg"], "no folders of classes in val/"),
    (["train/a/1.jpg", "val/a/2.jpg", "cat/3.jpg"], "cat/ lies beside the folders of a split"),
    (["train/a/1.jpg", "val/a/2.jpg", "valid/a/3.jpg"], "val/ and valid/ are one split"),
    (["val/a/1.jpg", "test/a/2.jpg"], "no train/ beside test/"),
]


@pytest.mark.parametrize(("paths", "problem"), REFUSED, ids=[" ".join(paths) for paths, _ in REFUSED])
def test_any_other_nesting_is_refused_with_what_is_there(tmp_path, paths, problem):
    make(tmp_path, *paths)
    with pytest.raises(SourceError, match=f"^{tmp_path}: {problem.replace('{}', str(tmp_path))}") as error:
        single_label.read(f"folder:{tmp_path}", None)
    lines = str(error.value).splitlines()
    assert lines[-1] == "expected: CLASS/IMAGE, or train/CLASS/IMAGE and val/CLASS/IMAGE"
    for folder in {str(Path(path).parent) for path in paths}:
        assert any(re.fullmatch(rf"  {folder}/ +\d images", line) for line in lines)


def test_a_tree_is_shown_in_a_few_lines(tmp_path):
    make(tmp_path, *(f"set {k}/class {n}/{n}.jpg" for k in range(9) for n in range(9)))
    with pytest.raises(SourceError) as error:
        class_folders.read(tmp_path)
    assert len(str(error.value).splitlines()) == 12 and "  and 73 more folders" in str(error.value)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["train/a/1.jpg", "val/a/2.jpg", "val/b/3.jpg"],
            "val/b: no such class in .*train; 1 of the classes in val/ .*: b",
        ),
        (
            ["train/a/1.jpg", "train/b/", "val/a/2.jpg"],
            "train/b: no images in this class folder; fill it, or take it away",
        ),
        (["a/1.jpg", "b/", "c/"], "/b: no images in this class folder; .* [(]and in 1 more[)]"),
        (["train/a/1.jpg", "val/a/"], "val: no images in its class folders"),
    ],
)
def test_classes_without_images_are_named(tmp_path, paths, message):
    with pytest.raises(SourceError, match=message):
        class_folders.read(make(tmp_path, *paths))


def test_links_of_a_split_that_lead_out_are_refused(tmp_path):
    folder = make(tmp_path / "data", "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg")
    shutil.move(folder / "train/b", tmp_path / "b")
    (folder / "train/b").symlink_to(tmp_path / "b")
    with pytest.raises(SourceError, match="train/b: 1 links that lead out of"):
        class_folders.read(folder)
    (folder / "train/b").unlink()
    shutil.move(tmp_path / "b", folder / ".b")
    (folder / "train/b").symlink_to(folder / ".b")
    source = class_folders.read(folder)
    assert classes_of(source, source.train) == {"train/a/1.jpg": "a", "train/b/2.jpg": "b"}


def test_links_to_images_elsewhere_are_counted(tmp_path, capsys):
    folder = make(tmp_path / "data", "a/1.jpg", "b/2.jpg")
    make(tmp_path, "other.jpg")
    (folder / "a/out.jpg").symlink_to(tmp_path / "other.jpg")
    (folder / "b/same.jpg").symlink_to(folder / "b/2.jpg")
    source = class_folders.read(folder)
    assert classes_of(source, source.train) == {"a/1.jpg": "a", "b/2.jpg": "b", "b/same.jpg": "b"}
    printed = capsys.readouterr().out
    assert printed == f"{folder}: 1 links to folders, or out of those of classes, are left out: {folder}/a/out.jpg\n"
