"""Tables of Open Images, read."""

import pytest

from data_processing.sources import labeled_images


def test_neighbouring_ids_keep_their_labels(tmp_path):
    """2^60 and 2^60 + 1 are one number in floating point."""
    (tmp_path / "images.csv").write_text(
        "ImageID,OriginalURL\n1000000000000000,http://a/dog.jpg\n1000000000000001,http://a/sea.jpg\n"
    )
    (tmp_path / "machine.csv").write_text(
        "ImageID,LabelName,Confidence\n1000000000000001,/m/sea,0.5\n1000000000000000,/m/dog,0.75\n"
    )
    images, machine = tmp_path / "images.csv", tmp_path / "machine.csv"
    assert list(labeled_images.open_images(images, [machine])) == [
        ("http://a/dog.jpg", {"/m/dog": 0.75}, f"{images}:2"),
        ("http://a/sea.jpg", {"/m/sea": 0.5}, f"{images}:3"),
    ]


def test_imagenet_s_folders_that_link_elsewhere_are_refused_in_one_message(tmp_path):
    for wnid in ("n00000001", "n00000002"):
        (tmp_path / "elsewhere" / wnid).mkdir(parents=True)
        (tmp_path / "imagenet").mkdir(exist_ok=True)
        (tmp_path / "imagenet" / wnid).symlink_to(tmp_path / "elsewhere" / wnid)
    with pytest.raises(labeled_images.SourceError, match=r"n00000001, .*n00000002: 2 links that lead out of"):
        next(labeled_images.imagenet(tmp_path / "imagenet"))
