"""The numbers of a small database, counted by hand, and the page to browse it."""

from html.parser import HTMLParser
import json
import subprocess
import sys

from PIL import Image

from data_processing.lists import dictionary
from tests.scripts import ROOT, run_script

NAMES = ["object", "animal", "dog & <cat>", "food"]
PARENTS = [-1, 0, 1, -1]


def write(folder, rows, parents=PARENTS):
    folder.mkdir()
    entries = [dictionary.Entry(k, f"n{k:08d}", p, NAMES[k]) for k, p in enumerate(parents)]
    dictionary.write(folder / "dictionary.txt", entries)
    (folder / "list.txt").write_text("".join(rows))


def run(folder, *options):
    sources = [f"--image_lists={folder}/list.txt", f"--dictionary={folder}/dictionary.txt"]
    options = [*sources, f"--output_dir={folder}/out", "--trainable=1", *options]
    return run_script("data_processing/statistics.py", *options, status=None)


ROWS = ["a\t0\t1\t2:0.5\n", "b\t0\t1:0.05\n", "c\t0\t3:-1\n", "d\t3:1.0\n"]


def test_numbers_and_figures(tmp_path):
    write(tmp_path / "a", ROWS)
    done = run(tmp_path / "a")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "a/out/statistics.json").read_text())
    assert (summary["images"], summary["classes"], summary["labels"], summary["trainable"]) == (4, 4, 7, 2)
    assert summary["labels per image"] == 7 / 4
    assert summary["images per class"] == {"least": 1, "median": 1.5, "mean": 7 / 4, "most": 3}
    assert summary["trees"] == [
        {"names": "object", "classes": 3, "images": 3},
        {"names": "food", "classes": 1, "images": 1},
    ]
    assert summary["depth"] == {"most": 2, "mean": 3 / 4} and summary["leaves"] == 2
    assert summary["classes by depth"] == [2, 1, 1]
    assert summary["images by number of labels"] == {"1": 2, "2": 1, "3": 1}
    confidences = {k: n for k, n in summary["labels by confidence"].items() if n}
    assert confidences == {"(0.0, 0.1]": 1, "(0.4, 0.5]": 1, "(0.9, 1.0]": 5, "unknown": 1}
    rows = [line.split("\t") for line in (tmp_path / "a/out/classes.tsv").read_text().splitlines()[1:]]
    assert [row[4:] for row in rows] == [["3", "0", "2"], ["2", "1", "1"], ["1", "2", "0"], ["1", "0", "0"]]
    for name in ("images_per_class.png", "labels_per_image.png"):
        assert Image.open(tmp_path / "a/out" / name).size[0] > 500


def test_the_page_needs_no_other_file_and_nests_as_the_trees_do(tmp_path):
    write(tmp_path / "a", ROWS)
    assert run(tmp_path / "a").returncode == 0
    text = (tmp_path / "a/out/hierarchy.html").read_text()
    assert "http" not in text and "src=" not in text and "dog &amp; &lt;cat&gt;" in text
    depth, depths = 0, {}

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            nonlocal depth
            depth += tag == "details"
            if name := dict(attributes).get("data-n"):
                depths[name] = depth - (tag == "details")

        def handle_endtag(self, tag):
            nonlocal depth
            depth -= tag == "details"

    Parser().feed(text)
    assert depth == 0
    assert depths == {
        "object n00000000": 0,
        "animal n00000001": 1,
        "dog & <cat> n00000002": 2,
        "food n00000003": 0,
    }


def test_what_differs_between_two(tmp_path):
    write(tmp_path / "a", ROWS)
    write(tmp_path / "b", [*ROWS[:3], "e\t2\n"], [-1, -1, 1])
    write(tmp_path / "c", ROWS)
    (tmp_path / "b/list.txt").write_text("a\t0\t1\t2:0.5\nb\t0\t1:0.05\n")
    assert run(tmp_path / "a").returncode == 0
    done = run(tmp_path / "b", f"--compare={tmp_path}/a/out")
    assert done.returncode == 0, done.stderr
    assert "-2 images, 0 classes came, 1 went, 1 have another parent, 1 other numbers" in done.stdout
    rows = [line.split("\t") for line in (tmp_path / "b/out/diff.tsv").read_text().splitlines()[1:]]
    assert rows == [
        ["images", "n00000000", "object", "-", "-", "3", "2"],
        ["moved", "n00000001", "animal", "n00000000", "-", "2", "2"],
        ["went", "n00000003", "food", "-", "", "1", ""],
    ]
    assert run(tmp_path / "c", f"--compare={tmp_path}/a/out").stdout.count("+0 images, 0 classes came, 0 went, 0 have")
    assert "is no --output_dir" in run(tmp_path / "c", f"--compare={tmp_path}").stderr
    for name, text in (
        ("classes.tsv", "header\n0\tn\n"),
        ("statistics.json", '{"images": '),
        ("statistics.json", "{}"),
    ):
        (tmp_path / "a/out" / name).write_text(text)
        done = run(tmp_path / "c", f"--compare={tmp_path}/a/out")
        assert done.returncode == 1 and f"{tmp_path}/a/out/{name}: damaged" in done.stderr, done.stderr


def test_as_a_user_runs_it(tmp_path):
    """In a process of its own, in which the script's folder comes first on Python's path: it bears a module's name."""
    write(tmp_path / "a", ROWS)
    options = [f"--image_lists={tmp_path}/a/list.txt", f"--dictionary={tmp_path}/a/dictionary.txt"]
    command = [sys.executable, ROOT / "data_processing/statistics.py", *options, f"--output_dir={tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and f"written into {tmp_path}/out" in done.stdout, done.stderr


def test_images_without_labels_count(tmp_path):
    write(tmp_path / "a", [*ROWS, "e\n", "f\t\n", "g\t0:-1\n", "h\t0:0.5\t0\n"])
    done = run(tmp_path / "a")
    assert done.returncode == 0 and "3 images without labels, or with unknown ones only" in done.stdout, done.stderr
    summary = json.loads((tmp_path / "a/out/statistics.json").read_text())
    assert (summary["images"], summary["labels"], summary["images without known labels"]) == (8, 8, 3)
    assert summary["images by number of labels"] == {"0": 3, "1": 3, "2": 1, "3": 1}
    assert summary["labels by confidence"]["(0.9, 1.0]"] == 6


def test_a_wrong_line_is_named(tmp_path):
    write(tmp_path / "c", [*ROWS, "e\n", "e\t0\t1:1e-11\n"])
    done = run(tmp_path / "c")
    message = "list.txt:6: field 3 ('1:1e-11'): the confidence must be a number from 1e-06 to 1, or -1 for unknown"
    assert done.returncode == 1 and message in done.stderr
    write(tmp_path / "a", [*ROWS, "e\t4\n"])
    done = run(tmp_path / "a")
    assert done.returncode == 1 and "list.txt:5: field 2 ('4'): the class is not below" in done.stderr
    write(tmp_path / "b", [])
    assert "no labels; nothing to describe" in run(tmp_path / "b").stderr
