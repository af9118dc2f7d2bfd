"""Image lists: what is read, what is refused and with which words, and that nothing else than ImageListError comes."""

import itertools
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from data_processing.lists.image_list import (
    MIN_CONFIDENCE,
    ImageListError,
    Row,
    line_offsets,
    parse_line,
    read,
    read_with_lines,
    write,
)

PUBLISHED_HEAD = Path(__file__).parents[4] / "shared/data/train_urls_head.txt"


def written(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "line, row",
    [
        ("a.jpg\t3:0.5\t7", Row("a.jpg", (3, 7), (0.5, 1.0))),
        ("a.jpg 3:0.5 7", Row("a.jpg", (3, 7), (0.5, 1.0))),
        ("a.jpg   3  7:1", Row("a.jpg", (3, 7), (1.0, 1.0))),
        ("my image.jpg\t0:-1", Row("my image.jpg", (0,), (-1.0,))),
        ("a.jpg\t9\t", Row("a.jpg", (9,), (1.0,))),
        ("https://host/x:80.jpg\t1:1e-3", Row("https://host/x:80.jpg", (1,), (0.001,))),
        ("a.jpg\t3:0.5\t7\t3:0.75\t3:0.25", Row("a.jpg", (3, 7), (0.75, 1.0))),
        ("a.jpg 3:-1 3:0.000001 7:-1 7:-1", Row("a.jpg", (3, 7), (1e-6, -1.0))),
    ],
)
def test_both_separators(line, row):
    assert parse_line(line, 10, "list:1") == row


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.jpg\t3\t12:0.5", "list.txt:2: field 3 ('12:0.5'): the class is not below class_num 10"),
        ("a.jpg 3 10", "list.txt:2: field 3 ('10'): the class is not below class_num 10"),
        ("a.jpg\t-3", "list.txt:2: field 2 ('-3'): not a class index"),
        ("a.jpg\tdog", "list.txt:2: field 2 ('dog'): not a class index"),
        ("a.jpg\t\u0663", "list.txt:2: field 2 ('\u0663'): not a class index"),
        ("a.jpg\t1\t\t2", "list.txt:2: field 3 (''): not a class index"),
        ("a.jpg\t" + "9" * 5000, "list.txt:2: field 2 ('" + "9" * 40 + "'): the class is not below"),
        ("a.jpg\t3:high", "list.txt:2: field 2 ('3:high'): the confidence must be a number from 1e-06 to 1,"),
        ("a.jpg\t3:1e-11", "list.txt:2: field 2 ('3:1e-11'): the confidence must be a number from 1e-06"),
        ("a.jpg\t3:", "list.txt:2: field 2 ('3:'): the confidence"),
        ("a.jpg\t3:0", "list.txt:2: field 2 ('3:0'): the confidence"),
        ("a.jpg\t3:1.5", "list.txt:2: field 2 ('3:1.5'): the confidence"),
        ("a.jpg\t3:-0.5", "list.txt:2: field 2 ('3:-0.5'): the confidence"),
        ("a.jpg\t3:nan", "list.txt:2: field 2 ('3:nan'): the confidence"),
        ("a.jpg\t3:0.5:0.5", "list.txt:2: field 2 ('3:0.5:0.5'): the confidence"),
        ("a.jpg", "list.txt:2: no labels after the path 'a.jpg'"),
        ("a.jpg\t", "list.txt:2: no labels after the path 'a.jpg'"),
        ("\t3", "list.txt:2: field 1 is empty"),
        (" \t3", "list.txt:2: field 1 is empty"),
        (b"a.jpg\t3\nb\xff.jpg\t3", "list.txt:2: not UTF-8 at byte 2"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, line, message):
    path = written(tmp_path, line if isinstance(line, bytes) else f"ok.jpg\t0\n{line}\n")
    with pytest.raises(ImageListError) as error:
        list(read(path, 10))
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_labels_may_be_missing_when_not_required(tmp_path):
    path = written(tmp_path, "a.jpg\nb c.jpg\t\nd.jpg\t5\n")
    assert list(read(path, 10, require_labels=False)) == [
        Row("a.jpg", (), ()),
        Row("b c.jpg", (), ()),
        Row("d.jpg", (5,), (1.0,)),
    ]


def test_byte_order_mark_empty_lines_and_windows_line_ends(tmp_path):
    path = written(tmp_path, b"\xef\xbb\xbfa.jpg\t1\r\n\r\n  \nb.jpg\t2:0.5")
    assert list(read(path, 10)) == [Row("a.jpg", (1,), (1.0,)), Row("b.jpg", (2,), (0.5,))]
    # The error counts the empty lines, as an editor does.
    path = written(tmp_path, "a.jpg\t1\n\n\nb.jpg\tx\n")
    with pytest.raises(ImageListError, match="list.txt:4: field 2"):
        list(read(path))


def test_published_lists_read(tmp_path):
    text = "https://host/1_o.jpg\t4097:1\t2:1\t4132:1\nhttps://host/2_o.jpg 4767:0.9 4765:0.9\n"
    rows = list(read(written(tmp_path, text), 11166))
    assert [row.labels for row in rows] == [(4097, 2, 4132), (4767, 4765)]
    if PUBLISHED_HEAD.exists():
        rows = list(read(PUBLISHED_HEAD, 11166))
        text = PUBLISHED_HEAD.read_text().split("\n")
        assert len(rows) == sum(bool(line) for line in text)
        assert sum(len(row.labels) for row in rows) == sum(max(len(line.split()) - 1, 0) for line in text)
        assert rows[1].confidences == (0.9, 0.9)


def test_reading_streams(tmp_path):
    """The first rows come although a later line is wrong, and without the file being read to its end."""
    path = written(tmp_path, "a.jpg\t1\n" * 10 + "wrong\tx\n" + "a.jpg\t1\n" * 200_000)
    assert len(list(itertools.islice(read(path, 10), 10))) == 10
    rows = read_with_lines(path, 10)
    assert [where for where, _ in itertools.islice(rows, 10)] == [f"{path}:{k}" for k in range(1, 11)]
    consumed = rows.gi_frame.f_locals["file"].raw.tell()
    assert consumed < path.stat().st_size / 2
    with pytest.raises(ImageListError, match="list.txt:11:"):
        next(rows)


PATHS = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)
CONFIDENCES = st.one_of(st.just(-1.0), st.floats(MIN_CONFIDENCE, 1))
ROWS = st.builds(
    lambda path, labels: Row(path, tuple(labels), tuple(labels.values())),
    PATHS,
    st.dictionaries(st.integers(0, 99), CONFIDENCES, max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round_trip.txt"
    write(path, rows)
    assert list(read(path, 100, require_labels=False)) == rows
    assert not Path(f"{path}.part").exists()


def test_confidences_of_numpy_are_written_as_numbers(tmp_path):
    write(tmp_path / "list.txt", [Row("a.jpg", (1, 2), (np.float32(0.5), np.float64(1)))])
    assert (tmp_path / "list.txt").read_text() == "a.jpg\t1:0.5\t2\n"


@pytest.mark.parametrize("path", ["a\tb.jpg", "a\nb.jpg", "", "  ", "a.jpg\r"])
def test_a_path_that_could_not_be_read_again_is_not_written(tmp_path, path):
    with pytest.raises(ImageListError, match="list.txt"):
        write(tmp_path / "list.txt", [Row(path, (1,), (1.0,))])
    assert not (tmp_path / "list.txt").exists()


@pytest.mark.parametrize("confidence", [0.0, 1e-11, 1.5, float("nan")])
def test_a_confidence_that_could_not_be_read_again_is_not_written(tmp_path, confidence):
    with pytest.raises(ImageListError, match="list.txt:1: 'a.jpg' has a confidence that is neither from 1e-06 to 1"):
        write(tmp_path / "list.txt", [Row("a.jpg", (1,), (confidence,))])


FUZZED = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.text("a 1:.\t-\n", max_size=40).map(str.encode),
    # Nearly right lines: their fields, in any order and number.
    st.lists(st.sampled_from(["a.jpg", "\t", " ", "3", "3:0.5", ":", "-1", "1e-400", "nan", "\n", "\r", "\ufeff"]))
    .map("".join)
    .map(str.encode),
)


def check_any_bytes(path, content, require_labels):
    path.write_bytes(content)
    try:
        rows = list(read(path, 10, require_labels))
    except ImageListError as error:
        assert str(error).startswith(f"{path}:")
        return
    offsets, labeled = line_offsets(path)
    assert len(rows) == len(offsets) and labeled.tolist() == [bool(row.labels) for row in rows]
    for row in rows:
        assert row.path.strip() and (row.labels or not require_labels)
        assert len(set(row.labels)) == len(row.labels) == len(row.confidences)
        assert all(0 <= label < 10 for label in row.labels)
        assert all(MIN_CONFIDENCE <= confidence <= 1 or confidence == -1 for confidence in row.confidences)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(FUZZED, st.booleans())
@example(b"a.jpg\t1:1e-46", True)
@example(b"a.jpg\t" + b"9" * 5000, False)
@example(b"\xef\xbb\xbf\n\xef\xbb\xbfa.jpg\t\x1c\n", False)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, require_labels):
    check_any_bytes(tmp_path_factory.getbasetemp() / "fuzz.txt", content, require_labels)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(FUZZED, st.booleans())
def test_many_more_bytes_are_read_or_refused(tmp_path_factory, content, require_labels):
    check_any_bytes(tmp_path_factory.getbasetemp() / "fuzz.txt", content, require_labels)


def test_line_offsets_lead_to_the_lines(tmp_path):
    content = b"\xef\xbb\xbfa.jpg\t1\r\n\r\n \t\n\xe3\x80\x80\n\x1c\nb.jpg\t2\nc\xc3\xa9.jpg\t3"
    offsets, labeled = line_offsets(written(tmp_path, content))
    assert offsets.dtype == np.int64
    lines = [content[offset:].split(b"\n")[0] for offset in offsets]
    assert lines == [b"\xef\xbb\xbfa.jpg\t1\r", b"b.jpg\t2", b"c\xc3\xa9.jpg\t3"]
    assert labeled.tolist() == [True, True, True]
    assert len(line_offsets(written(tmp_path, b""))[0]) == 0
    path = written(tmp_path, "a.jpg\t1\nb.jpg\nc d.jpg\t\r\ne.jpg 5\nf.jpg  \n")
    assert line_offsets(path)[1].tolist() == [bool(row.labels) for row in read(path, None, require_labels=False)]
