"""What is refused as a single-label dataset, in a line that says what to do."""

import shutil

import pytest

from data_processing.images import archives
from data_processing.records.build_dataset import DatasetConfig, build, described
from data_processing.sources import single_label
from data_processing.sources.labeled_images import SourceError
from tests.archives import WNIDS, archive, caltech, imagenet
from tests.class_folders import class_folders


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("caltech256", "write it as one of folder:FOLDER"),
        ("flickr:x", "write it as one of"),
        ("folder:{}/nowhere", "there is no .*nowhere"),
        ("folder:{}/flat", "flat: no folders in it; make one for each class"),
        ("folder:{}/holey", "holey/empty: no images in this class folder; fill it, or take it away"),
        ("caltech256:{}/flat", "no images like 256_ObjectCategories/001.ak47"),
        ("caltech256:{}/flat/a.zip", "no .tar; give 256_ObjectCategories.tar"),
        ("imagenet:{}/flat", "ILSVRC2012_img_train.tar is missing; fetch it"),
    ],
)
def test_says_what_is_wrong(tmp_path, source, message):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/a.zip").write_bytes(b"")
    class_folders(tmp_path / "holey")
    (tmp_path / "holey/empty").mkdir()
    with pytest.raises(SourceError, match=message):
        build(source.format(tmp_path), tmp_path / "out", DatasetConfig())
    assert "class_num" not in (described(tmp_path / "out") or {})


def test_imagenet_that_does_not_fit_together(tmp_path):
    imagenet(tmp_path, "folders and devkit")
    (tmp_path / "val/ILSVRC2012_val_00000004.JPEG").unlink()
    with pytest.raises(SourceError, match="3 validation images, but ILSVRC2012_validation_ground_truth.txt has 4"):
        single_label.read(f"imagenet:{tmp_path}", None)


def moved_away(path, elsewhere):
    """Moves a folder or file, and puts a link in its place."""
    elsewhere.mkdir(exist_ok=True)
    shutil.move(path, elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)


def test_class_folders_that_are_links_are_refused_in_one_message(tmp_path):
    source = class_folders(tmp_path / "source")
    moved_away(source / "class 0", tmp_path / "elsewhere")
    moved_away(source / "class 2", tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="source/class 0, .*source/class 2: 2 links that lead out of .*source, where"):
        single_label.read(f"folder:{source}", None)
    # A link to a place within is as good as a folder.
    (source / "class 0").unlink()
    (source / "class 2").unlink()
    shutil.move(tmp_path / "elsewhere", source / ".elsewhere")
    for name in ("class 0", "class 2"):
        (source / name).symlink_to(source / ".elsewhere" / name)
    dataset = single_label.read(f"folder:{source}", None)
    assert len(dataset.train) == 18
    assert all(archives.read_file(source, row.path, 10**6).startswith(b"\xff\xd8") for row in dataset.train)


@pytest.mark.parametrize("part", [f"train/{WNIDS[1]}", f"val/{WNIDS[2]}", "train", "val"])
def test_links_in_imagenet_are_refused_in_one_message(tmp_path, part):
    folder = tmp_path / "imagenet"
    folder.mkdir()
    imagenet(folder, "folders")
    moved_away(folder / part, tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=f"imagenet/{part}.* links that lead out of .*imagenet, where no image"):
        single_label.read(f"imagenet:{folder}", None)


def test_archives_that_are_links_are_refused_in_one_message(tmp_path):
    folder = tmp_path / "imagenet"
    folder.mkdir()
    imagenet(folder, "archives")
    moved_away(folder / "ILSVRC2012_img_val.tar", tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="ILSVRC2012_img_val.tar: 1 links that lead out of"):
        single_label.read(f"imagenet:{folder}", None)
    (tmp_path / "256_ObjectCategories.tar").write_bytes(archive(caltech()))
    (folder / "256_ObjectCategories.tar").symlink_to(tmp_path / "256_ObjectCategories.tar")
    with pytest.raises(SourceError, match="256_ObjectCategories.tar: 1 links that lead out of"):
        single_label.read(f"caltech256:{folder}", None)
