"""What stands beside the shards of several splits in a folder."""

from concurrent.futures import ThreadPoolExecutor
import json

import pytest

from data_processing.records import manifest


def settings(split, **others):
    return {"split": split, "class_num": 3, "num_shards": 1, **others}


def test_the_first_split_has_the_plain_names_and_keeps_them(tmp_path):
    train = manifest.claim(tmp_path, settings("train"))
    val = manifest.claim(tmp_path, settings("val"))
    assert [path.name for path in train] == ["settings.json", "manifest.json", "rejected.tsv"]
    assert [path.name for path in val] == ["settings-val.json", "manifest-val.json", "rejected-val.tsv"]
    for split, places in (("train", train), ("val", val)):
        assert manifest.begun(tmp_path, settings(split)) == manifest.claim(tmp_path, settings(split)) == places
        assert json.loads(places.settings.read_text()) == settings(split)
    assert manifest.begun(tmp_path, settings("test")) is None
    # Also where the first one is gone.
    train.settings.unlink()
    assert manifest.begun(tmp_path, settings("val")) == val and manifest.begun(tmp_path, settings("train")) is None


def test_two_splits_that_begin_together_have_names_of_their_own(tmp_path):
    for number in range(20):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        splits = ["train", "val", "test"] * 2  # two processes each
        with ThreadPoolExecutor(len(splits)) as pool:
            places = list(pool.map(manifest.claim, [folder] * len(splits), map(settings, splits)))
        for split, place in zip(splits, places, strict=True):
            assert json.loads(place.settings.read_text())["split"] == split
            assert place == manifest.begun(folder, settings(split))
        assert len(set(places)) == 3 and sum(place.settings.name == "settings.json" for place in set(places)) == 1


def test_records_bind_their_own_split_only(tmp_path):
    manifest.claim(tmp_path, settings("train"))
    (tmp_path / "train-00000-of-00001.tfrecords").touch()
    message = r"made with other settings \(num_shards 1, now 2\); give another folder, or delete its train-\*"
    for function in (manifest.begun, manifest.claim):
        with pytest.raises(ValueError, match=message):
            function(tmp_path, settings("train", num_shards=2))
    # A beginning without shards binds nobody.
    manifest.claim(tmp_path, settings("val"))
    assert manifest.begun(tmp_path, settings("val", num_shards=2)) is None
    assert manifest.claim(tmp_path, settings("val", num_shards=2)).settings.name == "settings-val.json"
    (tmp_path / "val-extra-00000-of-00001.tfrecords").touch()
    manifest.claim(tmp_path, settings("val", num_shards=3))


def test_settings_of_before_a_setting_came_still_hold(tmp_path):
    manifest.claim(tmp_path, settings("train"))
    (tmp_path / "train-00000-of-00001.tfrecords").touch()
    assert manifest.begun(tmp_path, settings("train", keep_unlabeled=False))
    with pytest.raises(ValueError, match=r"\(keep_unlabeled False, now True\)"):
        manifest.begun(tmp_path, settings("train", keep_unlabeled=True))


def write_manifest(path, class_num):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": {"class_num": class_num}}))


def test_the_number_of_classes_of_all_manifests(tmp_path):
    assert manifest.class_num(tmp_path, tmp_path / "train") is None
    write_manifest(tmp_path / "manifest.json", 7)
    write_manifest(tmp_path / "manifest-val.json", 7)
    assert manifest.class_num(tmp_path, tmp_path / "train") == 7
    write_manifest(tmp_path / "manifest-val.json", 8)
    with pytest.raises(ValueError) as error:
        manifest.class_num(tmp_path)
    first, second = f"{tmp_path}/manifest-val.json is of records of 8", f"{tmp_path}/manifest.json of 7"
    assert first in str(error.value) and second in str(error.value)
    write_manifest(tmp_path / "train/manifest.json", 7)
    assert manifest.class_num(tmp_path / "train") == 7


@pytest.mark.parametrize(
    "text, message", [("{", "damaged"), ("[]", "does not say"), ('{"settings": 3}', "does not say")]
)
def test_a_damaged_manifest_is_named(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=f"manifest.json:? {message}"):
        manifest.class_num(tmp_path)
