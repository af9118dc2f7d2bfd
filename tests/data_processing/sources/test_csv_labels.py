"""CSVs of paths and labels, as spreadsheets and scripts write them, and as nobody should."""

import csv
import io
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from data_processing.sources.csv_labels import CsvConfig, read
from data_processing.sources.labeled_images import SourceError

NAMES = ["dog, brown", 'say "cat"', "Größe", "猫", "a;b", "  two  blanks ", "Mission: Impossible", "'", "-", "0"]


def write(folder, rows, **how):
    text = io.StringIO()
    csv.writer(text, **how).writerows(rows)
    path = folder / "labels.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def labels(table):
    return {row.path: row.labels for row in table.rows}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("lineterminator", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_names_and_paths_are_kept_as_written(tmp_path, delimiter, lineterminator, bom):
    expected = {f"folder, {k}/ü {name}.jpg": {name: 1.0, "other": 1.0} for k, name in enumerate(NAMES)}
    rows = [["Image Path", "Labels"], *([path, "|".join(names)] for path, names in expected.items())]
    path = write(tmp_path, rows, delimiter=delimiter, lineterminator=lineterminator)
    path.write_bytes(bom + path.read_bytes())
    table = read(path, CsvConfig())
    assert labels(table) == expected
    assert table.names == [NAMES[0], "other", *NAMES[1:]]
    assert [row.where for row in table.rows] == [f"{path}:{k + 2}" for k in range(len(NAMES))]


def test_confidences(tmp_path):
    cells = ["dog:0.8|cat:-1|sea", "dog:1|Mission: 2|16:9:1|:0.5", "16:9|a:nan|b:1e-9|c: 0.5 |dog:0", "x:.5|x:0.7|x"]
    path = write(tmp_path, [["file", "tags"], *([f"{k}.jpg", cell] for k, cell in enumerate(cells))])
    table = read(path, CsvConfig())
    assert labels(table) == {
        "0.jpg": {"dog": 0.8, "cat": -1.0, "sea": 1.0},
        "1.jpg": {"dog": 1.0, "Mission: 2": 1.0, "16:9": 1.0, ":0.5": 1.0},
        "2.jpg": {"16:9": 1.0, "a:nan": 1.0, "b:1e-9": 1.0, "c: 0.5 ": 1.0},
        "3.jpg": {"x": 1.0},
    }
    kept = next(places for what, places in table.notes.items() if "keep it" in what)
    assert kept == [f"{path}:3: 'Mission: 2'", *(f"{path}:4: {part!r}" for part in ("16:9", "b:1e-9", "c: 0.5 "))]
    assert table.notes["labels that come twice in a row, merged"] == [f"{path}:5: 'x'"] * 2
    assert table.notes["labels with confidence 0, left out"] == [f"{path}:4: 'dog:0'"]


def test_what_is_odd_is_counted_with_its_line_and_the_rest_is_read(tmp_path):
    rows = [["path", "label"], ["a.jpg", "x|y"], ["b.jpg", ""], ["a.jpg", "y:0.5|z"], ["", "x"], ["c\td.jpg", "x"]]
    path = write(tmp_path, [*rows, ["e.jpg", "x||y"], [" ", " "], ["f.jpg", "new\nline"]])
    table = read(path, CsvConfig())
    assert labels(table) == {
        "a.jpg": {"x": 1.0, "y": 1.0, "z": 1.0},
        "b.jpg": {},
        "e.jpg": {"x": 1.0, "y": 1.0},
        "f.jpg": {"new line": 1.0},
    }
    found = {what.split()[0]: places for what, places in table.notes.items()}
    assert table.notes["images that came before, whose labels are merged"] == [f"{path}:4: 'a.jpg'"]
    assert table.notes["images left out, whose path is empty or holds a tab or line end"] == [
        f"{path}:5: ''",
        f"{path}:6: 'c\\td.jpg'",
    ]
    assert found["empty"] == [f"{path}:7"] and found["class"] == ["'new\\nline'"]


def test_columns_that_are_named(tmp_path):
    path = write(tmp_path, [["id", "Bild", "was", "x"], ["1", "a.jpg", "dog/cat", ""], ["2", "b.jpg", "cat", "", ""]])
    config = CsvConfig(path_column="Bild", label_column="was", separator="/")
    assert labels(read(path, config)) == {"a.jpg": {"dog": 1.0, "cat": 1.0}, "b.jpg": {"cat": 1.0}}
    listed = "no column that must be the one of paths; its first line names the columns: 'id', 'Bild', 'was', 'x'. Name"
    with pytest.raises(SourceError, match=f"labels.csv:1: {listed} them with --path_column and --label_column, or"):
        read(path, CsvConfig())
    with pytest.raises(SourceError, match="labels.csv:1: --label_column=nothing: no such column; .*'was'"):
        read(path, CsvConfig(path_column="Bild", label_column="nothing"))
    with pytest.raises(SourceError, match="one column for two things"):
        read(path, CsvConfig(path_column="Bild", label_column="Bild"))
    path = write(tmp_path, [["image", "path", "label"], ["a", "b", "c"]])
    with pytest.raises(SourceError, match="more than one column that must be the one of paths"):
        read(path, CsvConfig())
    assert labels(read(path, CsvConfig(path_column="path"))) == {"b": {"c": 1.0}}


def test_one_hot(tmp_path):
    names = ["dog, brown", "Katze|Kater", "none"]
    rows = [["a.jpg", "1", "0", "0"], ["b.jpg", "", "0.25", "False"], ["c.jpg", "-1", "True", "0.0"]]
    table = read(write(tmp_path, [["filename", *names], *rows]), CsvConfig(one_hot=True))
    assert table.names == names
    assert labels(table) == {
        "a.jpg": {names[0]: 1.0},
        "b.jpg": {names[1]: 0.25},
        "c.jpg": {names[0]: -1.0, names[1]: 1.0},
    }
    path = write(tmp_path, [["filename", "x", "y"], ["a.jpg", "2", "0"], ["b.jpg", "0", "nan"], ["c.jpg", "yes", "1"]])
    with pytest.raises(SourceError) as error:
        read(path, CsvConfig(one_hot=True))
    for place in (f"{path}:2: 'x': '2'", f"{path}:3: 'y': 'nan'", f"{path}:4: 'x': 'yes'"):
        assert place in str(error.value)
    with pytest.raises(SourceError, match="labels.csv:1: columns without a name, or of one name: 'x'"):
        read(write(tmp_path, [["filename", "x", "x"], ["a.jpg", "1", "0"]]), CsvConfig(one_hot=True))


def test_splits(tmp_path, capsys):
    rows = [["a.jpg", "x", "Train"], ["b.jpg", "x", "valid"], ["c.jpg", "x", "test"], ["d.jpg", "x", " validation "]]
    path = write(tmp_path, [["path", "label", "Split"], *rows])
    table = read(path, CsvConfig(split_column="Split"))
    assert table.splits == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test", "d.jpg": "val"}
    assert read(path, CsvConfig()).splits == {}
    assert "column 'Split' is not used; --split_column=Split keeps that split" in capsys.readouterr().out
    path = write(tmp_path, [["path", "label", "Split"], *rows, ["a.jpg", "y", "val"], ["e.jpg", "x", "holdout"]])
    with pytest.raises(SourceError) as error:
        read(path, CsvConfig(split_column="Split"))
    assert f"images that are in several splits; keep one of train and val: {path}:6" in str(error.value)
    assert f"1 rows whose split is not one of train, val and test: {path}:7: 'holdout'" in str(error.value)


def test_ten_thousand_classes(tmp_path):
    names = [f"class {k}, of many" for k in range(10_000)]
    rows = [["a.jpg", "|".join(names)], *([f"{name}.jpg", name] for name in names)]
    table = read(write(tmp_path, [["path", "labels"], *rows]), CsvConfig())
    assert table.names == names and len(table.rows) == 10_001 and len(table.rows[0].labels) == 10_000


BAD = {
    b"": "labels.csv:1: no column .*: none",
    b"path,label\n": "labels.csv: no images in it",
    b"path,label\na.jpg,\n": "labels.csv: no image has a label",
    b"path,label\na.jpg,x\nb.jpg\n": "1 rows with fewer fields than the 2 columns.*labels.csv:3",
    b"path,label\na.jpg,x,y\nb.jpg,x\nc.jpg,x,y\n": "2 rows with more .*; quote .*labels.csv:2, .*labels.csv:4",
    b'path,label\na.jpg,x\nb.jpg,"x\nc.jpg,y\n': "labels.csv:3: here or soon after it is not CSV: .*for one",
    b'path,label\na.jpg,"x"y\n': "labels.csv:2: here or soon after it is not CSV",
    "path,label\na.jpg,x\nb.jpg,Größe\n".encode(
        "latin-1"
    ): "labels.csv:3: not UTF-8 at byte 9; save it as CSV in UTF-8",
    "path,label\na.jpg,x\n".encode("utf-16"): "labels.csv:1: not UTF-8 at byte 1",
    b"path,label\na.jpg,x\nb\0.jpg,x\n": "labels.csv:3: a null byte",
}


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_says_what_is_wrong_and_where(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=re.compile(BAD[content], re.DOTALL)):
        read(path, CsvConfig())


def test_line_ends_of_old_and_in_quotes(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b'\n\n"path",label\r\ra.jpg,"x\r\ny"\rb.jpg,z')
    table = read(path, CsvConfig())
    assert labels(table) == {"a.jpg": {"x y": 1.0}, "b.jpg": {"z": 1.0}}
    assert [row.where for row in table.rows] == [f"{path}:5", f"{path}:7"]


# Names as people have them, and any text.
TEXT = st.text(st.sampled_from("aZ ,;:|\"'\t\n\r0.8-üßé猫🐶\u0301\ufeff\u2028\x85\x1c\\#"), max_size=6) | st.text(
    max_size=8
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=3)), min_size=1, max_size=6), st.sampled_from(",;\t"))
@example([("\ufeffa", ["x"])], ",")
@example([("a", ["\x85", "\x1c"])], "\t")
def test_what_python_writes_is_read_or_named(tmp_path_factory, images, delimiter):
    """Every image comes out with its labels; those that no list can hold are named with their line."""
    path = write(
        tmp_path_factory.mktemp("csv"),
        [["path", "labels"], *([image, "|".join(names)] for image, names in images)],
        delimiter=delimiter,
        quoting=csv.QUOTE_ALL,
    )
    try:
        table = read(path, CsvConfig())
    except SourceError as error:
        assert re.match(rf"{path}(:\d+)?: |1 .*{path}", str(error))
        return
    wanted = {image for image, _ in images if image.strip() and not re.search("^\ufeff|[\t\r\n\0]", image)}
    assert {row.path for row in table.rows} == wanted
    expected = {
        re.sub("\r\n|[\t\r\n]", " ", part)
        for image, names in images
        if image in wanted
        for part in "|".join(names).split("|")
        if part.strip() and not re.search(r":\s*[+-]?[\d.]", part)
    }
    assert expected <= set(table.names)
    assert not any(set(name) & set("\t\r\n") for name in table.names)


@settings(deadline=None, max_examples=500)
@given(
    st.binary(max_size=80) | st.lists(TEXT, max_size=12).map(lambda texts: ",".join(texts).encode()),
    st.sampled_from([b"", b"path,label\n", b"path;x;y\n", b'"path"\tlabel\tsplit\n']),
    st.booleans(),
    st.sampled_from(["", "split"]),
)
def test_any_bytes_give_a_table_or_an_error_that_names_the_file(tmp_path_factory, content, header, one_hot, split):
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_bytes(header + content)
    try:
        table = read(path, CsvConfig(one_hot=one_hot, split_column=split))
    except SourceError as error:
        assert str(path) in str(error)
    else:
        assert table.rows and len({row.path for row in table.rows}) == len(table.rows)
        assert {name for row in table.rows for name in row.labels} <= set(table.names)


def test_names_between_something_else_are_noticed(tmp_path):
    """Only where none stands between what is looked for, and most names would be odd."""
    for text, separators in (
        ('path,labels\na.jpg,"dog,cat"\nb.jpg,"cat,bird"\nc.jpg,dog\n', [","]),
        ("path,labels\na.jpg,dog;cat\nb.jpg,cat;bird\n", [";"]),
        ('path,labels\na.jpg,"snail, or slug"\nb.jpg,dog|cat\nc.jpg,"x, y"\n', []),
        ('path,labels\na.jpg,"snail, or slug"\nb.jpg,dog\nc.jpg,cat\n', []),
    ):
        (tmp_path / "labels.csv").write_text(text)
        notes = " ".join(read(tmp_path / "labels.csv", CsvConfig()).notes)
        assert [c for c in ",;/" if f"--separator='{c}'" in notes] == separators, text
