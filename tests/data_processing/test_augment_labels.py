"""Labels with all that they imply: against a naive reference on random hierarchies; and the script, run."""

import os
from pathlib import Path
import signal
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from data_processing.lists import closure, dictionary, image_list
from utils import chunks

ROOT = Path(__file__).parents[2]


def entries_of(parents):
    return [dictionary.Entry(k, f"n{k:08d}", parent, f"class {k}") for k, parent in enumerate(parents)]


@st.composite
def forests(draw):
    """Parents of classes in an order of their own: a parent may stand after its child."""
    size = draw(st.integers(1, 12))
    order = draw(st.permutations(range(size)))
    parents = [-1] * size
    for place in range(1, size):
        above = draw(st.integers(-1, place - 1))
        parents[order[place]] = -1 if above == -1 else order[above]
    return parents


@st.composite
def databases(draw):
    parents = draw(forests())
    label = st.integers(0, len(parents) - 1)
    ancestors = dictionary.ancestors(entries_of(parents))
    pairs = draw(st.lists(st.tuples(label, label), max_size=4))
    pairs = [(a, b) for a, b in pairs if a != b and a not in ancestors[b] and b not in ancestors[a]]
    confidence = st.sampled_from([-1.0, 0.1, 0.5, 0.75, 1.0])
    rows = draw(st.lists(st.lists(st.tuples(label, confidence), min_size=1, max_size=6), min_size=1, max_size=6))
    return parents, pairs, rows


def reference(labels, parents, pairs):
    """Repeats single steps, from one class to one that it implies, until nothing changes."""
    found = {}
    for label, confidence in labels:
        found[label] = max(confidence, found.get(label, confidence))
    while True:
        before = dict(found)
        steps = [(k, parent) for k, parent in enumerate(parents) if parent != -1] + list(pairs)
        for one, other in steps:
            if found.get(one, -1) > 0:
                found[other] = max(found[one], found.get(other, -1.0))
        if found == before:
            return found


@given(databases())
@settings(max_examples=300, deadline=None)
def test_closed_as_the_reference_and_once_for_all(database):
    parents, pairs, rows = database
    implied = closure.implied(entries_of(parents), pairs)
    for labels in rows:
        closed = closure.close(labels, implied)
        assert closed == reference(labels, parents, pairs)
        assert list(closed) == sorted(closed)
        assert closure.close(list(closed.items()), implied) == closed
        for label, confidence in closed.items():
            if confidence > 0 and parents[label] != -1:
                assert closed[parents[label]] >= confidence
        counted = dict(zip(closure.COUNTED, closure.compare(labels, closed), strict=True))
        assert counted["labels"] == len(dict(labels)) and counted["labels added"] == len(closed) - len(dict(labels))


PARENTS = [-1, 0, 3, 0, 2, -1, 5]  # class 2's parent, 3, stands after it


def run(list_path, folder, *options):
    dictionary.write(folder / "dictionary.txt", entries_of(PARENTS))
    script = ROOT / "data_processing" / "augment_labels.py"
    command = [sys.executable, script, f"--image_list={list_path}", f"--dictionary={folder}/dictionary.txt", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_list_comes_out_closed_in_its_order(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    closure.write_pairs(pairs, [closure.Pair(4, 6, 10, 9)], entries_of(PARENTS))
    lines = ["b.jpg\t4:0.5\t0:0.25", "http://x/a b.jpg\t1\t5:-1", "c.jpg 2 2:0.5", "", "d.jpg\t6:0.125\t5:-1\t4"]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    done = run(tmp_path / "list.txt", tmp_path, f"--pairs={pairs}", f"--output={tmp_path}/out.txt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == (
        "b.jpg\t0:0.5\t2:0.5\t3:0.5\t4:0.5\t5:0.5\t6:0.5\n"
        "http://x/a b.jpg\t0\t1\t5:-1.0\n"
        "c.jpg\t0\t2\t3\n"
        "d.jpg\t0\t2\t3\t4\t5\t6\n"
    )
    assert "4 rows, 4 were not closed; 2.00 labels an image before, 4.50 now (1 co-occurring pairs)" in done.stdout
    again = run(tmp_path / "out.txt", tmp_path, f"--pairs={pairs}", f"--output={tmp_path}/again.txt")
    assert again.returncode == 0
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "out.txt").read_bytes()
    assert run(tmp_path / "out.txt", tmp_path, f"--pairs={pairs}", "--check").returncode == 0


def test_pairs_that_are_not_utf_8(tmp_path):
    (tmp_path / "pairs.tsv").write_bytes(b"wnid\tco-occurring wnid\nn00000000\tn\xff\n")
    with pytest.raises(image_list.ImageListError, match="pairs.tsv:2: not UTF-8"):
        closure.read_pairs(tmp_path / "pairs.tsv", entries_of(PARENTS))


def test_check_counts_and_writes_nothing(tmp_path):
    lines = ["a\t0", "b\t4", "c\t9:0.5", "d\t4:1\t2:1\t3:1\t0:0.5", "e\t0\t0", "f\t0:7", "g\t"]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    done = run(tmp_path / "list.txt", tmp_path, "--check")
    assert done.returncode == 1
    counts = {line.split(None, 1)[1]: int(line.split()[0]) for line in done.stdout.splitlines() if line[0] == " "}
    assert counts == {
        "rows": 7,
        "rows not closed": 1,
        "rows with a confidence below a descendant's": 1,
        "rows with a class that comes twice": 1,
        "rows with an unknown class": 1,
        "rows that are wrong otherwise": 2,
    }
    for place in (3, 6, 7):
        assert f"list.txt:{place}: " in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dictionary.txt", "list.txt"]


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("a\t0\nb\t7\n", ["--output=out.txt"], "list.txt:2: field 2 ('7'): the class is not below class_num 7"),
        ("a\t0\nb\n", ["--output=out.txt"], "list.txt:2: no labels"),
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


@given(st.lists(st.text("ab\t ", max_size=9), min_size=1), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_pieces_are_the_file(tmp_path_factory, lines, size):
    path = tmp_path_factory.mktemp("chunks") / "a"
    path.write_text("\n".join(lines))
    length = path.stat().st_size
    found = [line for k in range(0, length, size) for line in chunks.lines(path, k, min(k + size, length))]
    assert found == path.read_bytes().splitlines(keepends=True)


def number_of_lines(lines, offset):
    return [int(line) + offset for line in lines]


def test_pieces_come_in_order_from_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
    (tmp_path / "a").write_text("".join(f"{k}\n" for k in range(5000)))
    found = list(chunks.map_chunks(number_of_lines, tmp_path / "a", (7,), workers=2))
    assert len(found) > 20 and sum(found, []) == list(range(7, 5007))


ENDLESS = """
import sys, time
sys.path.insert(0, {root!r})
from flags import checked
from absl import app
from utils import chunks

def work(lines):
    print("begun", flush=True)
    time.sleep({seconds})

if __name__ == "__main__":
    app.run(checked(lambda _: list(chunks.map_chunks(work, __file__))))
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_main_process(tmp_path, signum):
    script = tmp_path / "endless.py"
    # After Ctrl-C the chunks at hand are worked on to their end.
    script.write_text(ENDLESS.format(root=str(ROOT), seconds=2 if signum == signal.SIGINT else 1000))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "begun\n"
    # Ctrl-C reaches all processes.
    os.killpg(process.pid, signum) if signum == signal.SIGINT else process.send_signal(signum)
    # It ends when the last one that has the pipe does.
    _, told = process.communicate(timeout=30)
    assert "Traceback" not in told
    assert signum != signal.SIGINT or process.returncode == 1 and told.endswith("stopped\n")


def test_a_list_of_several_pieces_names_the_right_line(tmp_path):
    row = "x" * 200
    with open(tmp_path / "list.txt", "w") as file:
        file.writelines(f"{row}{k}.jpg\t{k % 7}\n" for k in range(50_000))
        file.write("wrong.jpg\t8\n")
    assert (tmp_path / "list.txt").stat().st_size > 2 * chunks.CHUNK_BYTES
    done = run(tmp_path / "list.txt", tmp_path, f"--output={tmp_path}/out.txt")
    assert "list.txt:50001: field 2 ('8')" in done.stderr


def test_published_rows_that_are_there_can_be_closed(tmp_path):
    """Rows of the published list, where they are here: what they hold stays, at its confidence."""
    path = ROOT.parent / "shared" / "data" / "train_urls_head.txt"
    if not path.exists():
        path = tmp_path / "rows.txt"
        path.write_text("http://a/b.jpg\t4097:1\t2:1\nhttp://a/c.jpg\t4767:0.9\t4765:0.9\n")
    rows = list(image_list.read(path, 11166))
    parents = [-1] * 11166
    parents[4097], parents[4767] = 4089, 4765
    implied = closure.implied(entries_of(parents))
    for row in rows:
        labels = dict(zip(row.labels, row.confidences, strict=True))
        closed = closure.close(labels.items(), implied)
        assert all(closed[label] >= value for label, value in labels.items())
        assert 4097 not in labels or closed[4089] == 1
