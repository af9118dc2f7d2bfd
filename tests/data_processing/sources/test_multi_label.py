"""From labels by name to indices, a dictionary and a split."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from data_processing.lists import dictionary, image_list
from data_processing.sources import csv_labels, multi_label
from data_processing.sources.labeled_images import Labeled, SourceError
from data_processing.sources.table import Collector, Table
from tests.tar_files import archive


def table_of(images, splits=()):
    """A `Table` of {path: {name: confidence}}."""
    names = list(dict.fromkeys(name for labels in images.values() for name in labels))
    rows = [Labeled(path, labels, f"labels.csv:{k + 2}") for k, (path, labels) in enumerate(images.items())]
    return Table(rows, names, dict(splits), {})


def source_of(table, folder, order="appearance", **config):
    entries = multi_label.entries_of(table, order)
    return multi_label.to_source(table, entries, folder / "labels.csv", multi_label.Images(**config))


def test_indices_by_appearance_or_frequency(tmp_path):
    table = table_of({"a": {"z": 1.0}, "b": {"y": 0.5, "x": 1.0}, "c": {"x": 0.2, "y": -1.0}, "d": {"w": -1.0}})
    assert [entry.names for entry in multi_label.entries_of(table, "appearance")] == ["z", "y", "x", "w"]
    assert [entry.names for entry in multi_label.entries_of(table, "frequency")] == ["x", "z", "y", "w"]
    source = source_of(table, tmp_path, "frequency", val_fraction=0.0)
    assert source.entries[0] == (0, "x", -1, "x") and source.names == ["x", "z", "y", "w"]
    assert source.train == [
        ("a", (1,), (1.0,)),
        ("b", (0, 2), (1.0, 0.5)),
        ("c", (0, 2), (0.2, -1.0)),
        ("d", (3,), (-1.0,)),
    ]


NAMES = st.text(min_size=1, max_size=8).filter(str.strip)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.sampled_from([1.0, 0.3, -1.0]), max_size=3), min_size=1))
@example({"\ufeffa.jpg": {"\ufeffname": 1.0}})
@example({"a.jpg": {"\x85\x1c": 1.0, "#": 0.3}, "http://b c": {}})
def test_lists_and_dictionary_hold_all_and_can_be_read(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("lists")
    found = Collector("labels.csv")
    for path, labels in images.items():
        if image_list.can_hold(path):
            found.add(path, {found.name(name): value for name, value in labels.items()}, "labels.csv:1")
    try:
        table = found.table()
    except SourceError:
        return
    source = source_of(table, folder)
    dictionary.write(folder / "dictionary.txt", source.entries)
    assert dictionary.read_names(folder / "dictionary.txt") == table.names == source.names
    image_list.write(folder / "list.txt", source.train + source.val)
    rows = list(image_list.read(folder / "list.txt", len(table.names), require_labels=False))
    by_name = {row.path: {table.names[k]: value for k, value in zip(*row[1:], strict=True)} for row in rows}
    assert len(rows) == len(by_name) and by_name == {row.path: row.labels for row in table.rows}
    assert len(rows) < 2 or source.train and source.val


def test_the_split_of_the_user(tmp_path, capsys):
    images = {path: {"x": 1.0} for path in "abcdef"}
    splits = dict(zip("abcdef", ["train", "val", "test", "train", "val", "train"], strict=True))
    source = source_of(table_of(images, splits), tmp_path)
    assert ["".join(row.path for row in rows) for rows in (source.train, source.val, source.test)] == ["adf", "be", "c"]
    no_val = {path: split for path, split in splits.items() if split != "val"}
    source = source_of(table_of({path: images[path] for path in no_val}, no_val), tmp_path)
    assert ["".join(row.path for row in rows) for rows in (source.train, source.val, source.test)] == ["adf", "c", ""]
    assert "no images for validation: the 1 of test are used for it" in capsys.readouterr().out
    source = source_of(table_of(images, dict.fromkeys(images, "train")), tmp_path, val_fraction=0.5)
    assert source.train and source.val and len(source.train + source.val) == 6
    with pytest.raises(SourceError, match="no images for training"):
        source_of(table_of(images, dict.fromkeys(images, "val")), tmp_path)


def test_images_that_are_missing_are_named(tmp_path):
    for name in ("images/a.jpg", "images/folder/b.jpg", "c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    archive(tmp_path / "images/packed.tar", {"in/d.jpg": b"x"})
    there = ["a.jpg", "./a.jpg", f"{tmp_path}/images/a.jpg", "folder/../a.jpg", "folder/b.jpg", "packed/in/d.jpg"]
    missing = ["b.jpg", "folder", "packed/e.jpg", "x" * 5000, "nowhere/f.jpg"]
    outside = ["../c.jpg", f"{tmp_path}/c.jpg"]
    table = table_of({path: {"x": 1.0} for path in [*there, *missing, *outside, "https://a/b.jpg"]})
    source = source_of(table, tmp_path, images=f"{tmp_path}/images")
    assert source.absent == {*missing, *outside, "https://a/b.jpg"}
    assert {row.path for row in source.train + source.val} == {row.path for row in table.rows}
    found = {" ".join(what.split()[:3]): places for what, places in table.notes.items()}
    assert found["images that are"] == [f"labels.csv:{k + 8}: {path!r}" for k, path in enumerate(missing)]
    assert found["images outside of"][0] == "labels.csv:13: '../c.jpg'"
    assert len(found["images outside of"]) == 2 and len(found["URLs, to be"]) == 1
    with pytest.raises(SourceError, match="--images=.*nowhere is no folder"):
        source_of(table, tmp_path, images=f"{tmp_path}/nowhere")


def test_names_that_look_alike_stay_apart_and_are_named(tmp_path):
    table = table_of(
        {"a": {"Dog": 1.0, "dog ": 1.0, "d  og": 1.0}, "b": {"dog": 1.0, "Größe": 1.0, "Gro\u0308ße": 1.0}}
    )
    assert len(source_of(table, tmp_path).names) == 6
    [alike] = [places for what, places in table.notes.items() if what.startswith("names that differ only")]
    assert alike == ["'Dog' and 'dog ' and 'dog'", "'Größe' and 'Gro\u0308ße'"]


def test_classes_of_another_dictionary(tmp_path):
    entries = [dictionary.Entry(0, "n1", 1, "dog"), dictionary.Entry(1, "n2", -1, "animal")]
    table = table_of({"a": {"dog": 0.5, "ufo": 1.0}, "b": {"n2": 1.0}})
    config = multi_label.Images(val_fraction=0.0)
    source = multi_label.to_source(table, entries, tmp_path / "labels.csv", config)
    assert source.train == [("a", (0, 1), (0.5, 0.5)), ("b", (1,), (1.0,))]
    assert table.notes["labels left out, which are not in the dictionary"] == ["labels.csv:2: 'ufo'"]


def test_a_csv_prints_what_was_found(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("path,label\na.jpg,x\nb.jpg,\na.jpg,y\n")
    source = multi_label.read_csv(tmp_path / "labels.csv", csv_labels.CsvConfig(), multi_label.Images())
    assert source.images == tmp_path and source.absent == {"b.jpg"}
    printed = capsys.readouterr().out
    for line in (
        f"1 images that came before, whose labels are merged: {tmp_path}/labels.csv:4: 'a.jpg'",
        f"which stay in the lists; --keep_unlabeled makes records of them: {tmp_path}/labels.csv:3",
        f"1 images that are not in {tmp_path}, of which no record will be made: {tmp_path}/labels.csv:3: 'b.jpg'",
    ):
        assert line in printed
