"""Files that appear complete or not at all."""

import os

import pytest

from utils import files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "result.txt"
    with files.atomic_write(path) as temp_path:
        temp_path.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done" and os.listdir(path.parent) == ["result.txt"]
    with pytest.raises(KeyboardInterrupt):
        with files.atomic_write(path) as temp_path:
            temp_path.write_text("half")
            raise KeyboardInterrupt
    assert path.read_text() == "done" and os.listdir(path.parent) == ["result.txt"]
    with pytest.raises(ValueError, match="is a folder"), files.atomic_write(tmp_path):
        pass


def test_text_and_tables_are_replaced_whole(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("before")
    files.write_tsv(path, "id\tname", [(1, "a\tb\n c"), (2, "é")])
    assert path.read_text(encoding="utf-8") == "id\tname\n1\ta b c\n2\té\n" and os.listdir(tmp_path) == ["a.tsv"]
