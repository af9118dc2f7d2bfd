"""All that is wrong or odd in a list, at once."""

import pytest

from data_processing.lists.image_list import ImageListError
from data_processing.lists.list_check import SHOWN_WRONG, check


def written(tmp_path, *lines):
    path = tmp_path / "list.txt"
    path.write_bytes(b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines))
    return path


def test_what_is_odd_is_counted_and_the_first_named(tmp_path):
    path = written(tmp_path, "a\t1\t2", "", "b", *["c\t"] * 6, "d\t1:0.5\t2\t1", "e\t3:-1\t3")
    unlabeled, repeated = check(path, 5)
    assert (unlabeled.count, repeated.count) == (7, 2)
    assert str(unlabeled) == f"{path}:3, {path}:4, {path}:5, {path}:6, {path}:7, …"
    assert str(repeated) == f"{path}:10, {path}:11"
    assert check(written(tmp_path, "a\t1"), 5) == ((0, ()), (0, ()))
    assert check(written(tmp_path), 5) == ((0, ()), (0, ()))


def test_one_wrong_line_is_the_message(tmp_path):
    with pytest.raises(ImageListError) as error:
        check(written(tmp_path, "a\t1", "b\t9", "c"), 5)
    assert str(error.value) == (
        f"{tmp_path}/list.txt:2: field 2 ('9'): the class is not below class_num 5; correct it or set --class_num"
    )


def test_all_wrong_lines_are_counted_and_the_first_shown(tmp_path):
    with pytest.raises(ImageListError) as error:
        check(written(tmp_path, "a\t1", b"\xff\t1\n", "\t3", "b\t1:1e-11", *["c\tx"] * 1000), 5)
    first, *shown, last = str(error.value).split("\n  ")
    assert first == f"{tmp_path}/list.txt: 1,003 lines are wrong:" and last == "and 983 more"
    assert len(shown) == SHOWN_WRONG == 20
    for number, (line, message) in enumerate(
        zip(shown, ["not UTF-8", "field 1 is empty", "field 2 ('b", *["field 2 ('x')"] * 17], strict=True), start=2
    ):
        assert line.startswith(f"{tmp_path}/list.txt:{number}: {message[:-1]}"), line


def test_single_labels_are_one_an_image(tmp_path):
    path = written(tmp_path, "a\t1", "b", "c\t1\t2", "d\t1\t1")
    with pytest.raises(ImageListError) as error:
        check(path, 5, single=True)
    for number, name, count in ((2, "b", 0), (3, "c", 2)):
        message = f"{path}:{number}: '{name}' has {count} labels; --label_format=single needs one an image"
        assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: 2 lines are wrong:")
