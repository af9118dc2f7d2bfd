"""The script that closes the labels of a list, run."""

import subprocess
import sys

import pytest

from data_processing.lists import closure, dictionary
from tests.scripts import ROOT, run_script
from utils import chunks


def entries_of(parents):
    return [dictionary.Entry(k, f"n{k:08d}", parent, f"class {k}") for k, parent in enumerate(parents)]


PARENTS = [-1, 0, 3, 0, 2, -1, 5]  # class 2's parent, 3, stands after it


def run(list_path, folder, *options):
    dictionary.write(folder / "dictionary.txt", entries_of(PARENTS))
    options = [f"--image_list={list_path}", f"--dictionary={folder}/dictionary.txt", *options]
    return run_script("data_processing/augment_labels.py", *options, status=None)


def test_a_list_comes_out_closed_in_its_order(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    closure.write_pairs(pairs, [closure.Pair(4, 6, 10, 9)], entries_of(PARENTS))
    lines = ["b.jpg\t4:0.5\t0:0.25", "http://x/a b.jpg\t1\t5:-1", "c.jpg 2 2:0.5", "", "d.jpg\t6:0.125\t5:-1\t4"]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "e.jpg\n"]))
    done = run(tmp_path / "list.txt", tmp_path, f"--pairs={pairs}", f"--output={tmp_path}/out.txt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == (
        "b.jpg\t0:0.5\t2:0.5\t3:0.5\t4:0.5\t5:0.5\t6:0.5\n"
        "http://x/a b.jpg\t0\t1\t5:-1.0\n"
        "c.jpg\t0\t2\t3\n"
        "d.jpg\t0\t2\t3\t4\t5\t6\n"
        "e.jpg\t\n"
    )
    counted = (
        "5 rows, 1 without labels, 4 were not closed; 1.60 labels an image before, 3.60 now (1 co-occurring pairs)"
    )
    assert counted in done.stdout
    again = run(tmp_path / "out.txt", tmp_path, f"--pairs={pairs}", f"--output={tmp_path}/again.txt")
    assert again.returncode == 0
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "out.txt").read_bytes()
    assert run(tmp_path / "out.txt", tmp_path, f"--pairs={pairs}", "--check").returncode == 0


def test_check_counts_and_writes_nothing(tmp_path):
    lines = ["a\t0", "b\t4", "c\t9:0.5", "d\t4:1\t2:1\t3:1\t0:0.5", "e\t0\t0", "f\t0:7", "g\t"]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    done = run(tmp_path / "list.txt", tmp_path, "--check")
    assert done.returncode == 1
    counts = {line.split(None, 1)[1]: int(line.split()[0]) for line in done.stdout.splitlines() if line[0] == " "}
    assert counts == {
        "rows": 7,
        "rows without labels": 1,
        "rows not closed": 1,
        "rows with a confidence below a descendant's": 1,
        "rows with a class that comes twice": 1,
        "rows with an unknown class": 1,
        "rows that are wrong otherwise": 1,
    }
    for place in (3, 6):
        assert f"list.txt:{place}: " in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dictionary.txt", "list.txt"]


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("a\t0\nb\t7\n", ["--output=out.txt"], "list.txt:2: field 2 ('7'): the class is not below class_num 7"),
        ("a\t0\nb\t0:x\n", ["--output=out.txt"], "list.txt:2: field 2 ('0:x'): the confidence"),
        ("a\t0\n", ["--output=list.txt"], "is the list itself"),
        ("a\t0\n", [], "give --dictionary, and --output or --check"),
        ("a\t0\n", ["--output=out.txt", "--pairs=pairs.tsv"], "pairs.tsv:2: n00000000 and n00000001 are one class, or"),
    ],
)
def test_bad_input(tmp_path, text, options, message):
    (tmp_path / "list.txt").write_text(text)
    (tmp_path / "pairs.tsv").write_text("# chosen by hand\nn00000000\tn00000001\n")
    options = [option.replace("=", f"={tmp_path}/") for option in options]
    done = run(tmp_path / "list.txt", tmp_path, *options)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "list.txt").read_text() == text
    assert not (tmp_path / "out.txt").exists() and not list(tmp_path.glob("*.part"))


def test_a_list_of_several_chunks_names_the_right_line(tmp_path):
    row = "x" * 200
    with open(tmp_path / "list.txt", "w") as file:
        file.writelines(f"{row}{k}.jpg\t{k % 7}\n" for k in range(50_000))
        file.write("wrong.jpg\t8\n")
    assert (tmp_path / "list.txt").stat().st_size > 2 * chunks.CHUNK_BYTES
    # In processes of their own, as a user runs it.
    dictionary.write(tmp_path / "dictionary.txt", entries_of(PARENTS))
    options = [f"--image_list={tmp_path}/list.txt", f"--dictionary={tmp_path}/dictionary.txt"]
    command = [sys.executable, ROOT / "data_processing/augment_labels.py", *options, f"--output={tmp_path}/out.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "list.txt:50001: field 2 ('8')" in done.stderr
