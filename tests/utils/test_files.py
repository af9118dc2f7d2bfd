"""Files that appear complete or not at all."""

from concurrent.futures import ThreadPoolExecutor
import json
import os
import socket

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


@pytest.mark.parametrize("write", ["atomic_write", "write_text"])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, write):
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a.txt").write_text("before")
    (tmp_path / "near.txt").symlink_to("link.txt")
    (tmp_path / "link.txt").symlink_to("far/a.txt")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "new/b.txt")
    for name, target in (("near.txt", "far/a.txt"), ("dangling.txt", "new/b.txt")):
        (tmp_path / "new").mkdir(exist_ok=True)
        if write == "write_text":
            files.write_text(tmp_path / name, "after")
        else:
            with files.atomic_write(str(tmp_path / name)) as temp_path:
                temp_path.write_text("after")
                assert temp_path.parent == (tmp_path / target).parent
        assert (tmp_path / name).is_symlink() and not (tmp_path / target).is_symlink()
        assert (tmp_path / target).read_text() == "after"
    assert os.listdir(tmp_path / "far") == ["a.txt"] and os.listdir(tmp_path / "new") == ["b.txt"]


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "to_null").symlink_to("/dev/null")
    (tmp_path / "to_stdout").symlink_to("/dev/stdout")
    (tmp_path / "to_folder").symlink_to(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path / "back")
    (tmp_path / "back").symlink_to(tmp_path / "circle")
    before = sorted(os.listdir(tmp_path))
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the name of a socket may have 107 bytes
        listener.bind("socket")
        refused = {
            **dict.fromkeys(["pipe", "to_pipe", "socket"], "device, pipe or socket; name a file to write"),
            **dict.fromkeys(["to_null", "to_stdout", "/dev/null", "/dev/stdout", "/dev/fd/1"], "no regular file"),
            **dict.fromkeys(["/proc/self/fd/1", "/dev/new"], "no regular file"),
            "to_folder": "is a folder",
            "circle": "leads in a circle",
        }
        for name, message in refused.items():
            for write in (files.atomic_write, lambda path: files.write_text(path, "x")):
                with pytest.raises(ValueError, match=f"{name} .*{message}"):
                    with write(name) as temp_path:
                        temp_path.write_text("x")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "socket"])


def test_a_standard_output_that_is_a_file_is_refused_too(tmp_path):
    """Its content would go, and what is printed later, into a file without a name."""
    with open(tmp_path / "out.txt", "w") as file:
        with pytest.raises(ValueError, match="no regular file"), files.atomic_write(f"/dev/fd/{file.fileno()}"):
            pass
    assert os.listdir(tmp_path) == ["out.txt"]


def test_one_of_several_creates_a_file(tmp_path):
    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: files.create_json(path, [number]), range(40)))
    assert made.count(True) == 1 and json.loads(path.read_text()) == [made.index(True)]
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_file_is_created_once_where_there_are_no_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert files.create_json(tmp_path / "a.json", [1]) and not files.create_json(tmp_path / "a.json", [2])
    assert (tmp_path / "a.json").read_text() == "[\n 1\n]\n" and os.listdir(tmp_path) == ["a.json"]
