"""The box list: what is written is read again, and what is no line of it is told."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from data_processing.lists import box_list, image_list, list_check
from data_processing.lists.box_list import Box, BoxError, Row
from data_processing.lists.image_list import ImageListError

EDGES = st.floats(-1e6, 1e6) | st.integers(-9, 999)
BOXES = st.builds(Box, st.integers(0, 19), EDGES, EDGES, EDGES, EDGES, st.booleans(), st.booleans())
PATHS = st.text(min_size=1, max_size=9).filter(image_list.can_hold)
SIZES = st.none() | st.tuples(st.integers(1, 10**8), st.integers(1, 10**8))
GOOD = st.builds(Row, PATHS, SIZES, st.lists(BOXES, max_size=3).map(tuple), st.just(""))
BAD = st.builds(Row, PATHS, st.none(), st.just(()), st.sampled_from(["missing", "broken XML: line 1", "!"]))


@settings(max_examples=100, deadline=None)
@given(st.lists(GOOD | BAD, min_size=1, max_size=4))
def test_rows_are_read_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "boxes.txt"
    box_list.write(path, rows)
    data = path.read_bytes()
    offsets, labeled = image_list.line_offsets(path)
    assert len(offsets) == len(rows) and labeled.all()
    for offset, row in zip(offsets, rows, strict=True):
        line = image_list.decode_line(data[offset:].split(b"\n")[0], "")
        assert box_list.parse_line(line, 20, "") == row


def test_lines_as_they_are_documented():
    line = "VOC2007/a b.jpg\t353x500\t11:47,239,195,371.5\t14:8,11,352,498:difficult,truncated"
    row = box_list.parse_line(line, 20, "")
    boxes = (Box(11, 47, 239, 195, 371.5), Box(14, 8, 11, 352, 498, True, True))
    assert row == ("VOC2007/a b.jpg", (353, 500), boxes, "")
    assert row.labels == (11, 14) and row.confidences == (1.0, 1.0)
    assert box_list.parse_line("a.jpg\t-", 20, "") == ("a.jpg", None, (), "")
    row = Row("a.jpg", None, (), "broken\tXML\n\ud800")
    assert box_list.format_row(row, "") == "a.jpg\t!broken XML ?\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg", "no path and size between tabs"),
        ("\t5x5", "no path and size"),
        ("a.jpg\t0x5", "field 2 .*not WIDTHxHEIGHT"),
        ("a.jpg\t1:1,2,3,4", "field 2"),
        ("a.jpg\t-\t1:1,2,3,4\t20:1,2,3,4", r"field 4 \('20:1,2,3,4'\): the class is not below 20"),
        ("a.jpg\t-\t-1:1,2,3,4", "not class:left,top,right,bottom"),
        ("a.jpg\t-\t1:1,2,3", "not 4 numbers"),
        ("a.jpg\t-\t1:1,2,3,nan", "not 4 numbers"),
        ("a.jpg\t-\t1:1,2,3,4:hard", "at most difficult and truncated"),
        ("a.jpg\t-\t", "field 3"),
    ],
)
def test_says_what_is_wrong(tmp_path, line, message):
    with pytest.raises(ImageListError, match=f"here: .*{message}"):
        box_list.parse_line(line, 20, "here")
    path = tmp_path / "boxes.txt"
    path.write_text(f"a.jpg\t-\n{line}\nb.jpg\t?\n")
    with pytest.raises(ImageListError, match=r"2 lines are wrong:\n.*boxes.txt:2: .*\n.*boxes.txt:3: "):
        list_check.check_boxes(path, 20)


def test_boxes_are_clipped_by_a_pixel_at_most():
    boxes = [Box(1, -1, 0, 41, 30), Box(2, 3, 4, 5, 6, True)]
    assert box_list.fit(boxes, 40, 30) == (Box(1, 0, 0, 40, 30), Box(2, 3, 4, 5, 6, True))
    for edges in ((-1.01, 0, 9, 9), (0, 0, 41.01, 9), (0, 0, 9, 31.5), (40, 0, 41, 9), (-1, 0, 0, 9), (5, 5, 5, 9),
                  (6, 5, 5, 9), (0, 0, math.nan, 9), (0, -math.inf, 5, 9)):  # fmt: skip
        with pytest.raises(BoxError, match="box 1 "):
            box_list.fit([Box(0, *edges)], 40, 30)
