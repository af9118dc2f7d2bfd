"""The mask list: what is written is read again, and lines that are wrong."""

import pytest

from data_processing.lists import image_list, list_check, mask_list
from data_processing.lists.image_list import ImageListError
from data_processing.lists.mask_list import Row


def test_what_is_written_is_read(tmp_path):
    rows = [Row("a/b c.jpg", "/some where", "é.png"), Row("d.jpg", "", "", "no\tmask\nat all")]
    path = tmp_path / "list.txt"
    mask_list.write(path, rows)
    lines = path.read_text().splitlines()
    found = [mask_list.parse_line(line, None, "here") for line in lines]
    assert found == [rows[0], rows[1]._replace(problem="no mask at all")]
    assert image_list.line_offsets(path)[1].all()
    list_check.check_masks(path)
    for bad in (Row("a\tb", "/f", "m"), Row("a", "", "m"), Row("a", "/f", "\ud800")):
        with pytest.raises(ImageListError, match="list.txt:1: a path is empty, holds a tab"):
            mask_list.write(path, [bad])
    assert path.read_text().splitlines() == lines


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg\t/f", "a.jpg\t/f\tm\tx", "\t/f\tm", "a.jpg\t\tm"])
def test_lines_that_are_wrong(line):
    with pytest.raises(ImageListError, match="^here: "):
        mask_list.parse_line(line, None, "here")
