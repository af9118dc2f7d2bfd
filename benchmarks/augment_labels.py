"""Rows a second and memory of augment_labels.py on a list as long as ML-Images: 17.6 million rows, 11,166 classes.

    python benchmarks/augment_labels.py --rows=1000000

The list is made up: a random hierarchy as deep as the published one; of the rows 61 % have one label and 39 % several
with confidences, as the parts from ImageNet and Open Images have. The script runs as a process of its own, on all
cores and on one core (a tenth of the rows), and beside it stands the time to read the list alone.
"""

from pathlib import Path
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_integer("rows", 17_609_752, "Rows of the list.", lower_bound=1000)
script(__name__, __doc__, first="rows")

import numpy as np

from data_processing.lists import dictionary

SCRIPT = Path(__file__).parents[1] / "data_processing" / "augment_labels.py"
CLASSES = 11166
IMAGENET_SHARE = 0.61


def main(argv):
    del argv
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        entries = make_dictionary(rng)
        dictionary.write(folder / "dictionary.txt", entries)
        depth = np.mean([len(ancestors) for ancestors in dictionary.ancestors(entries)])
        texts = label_texts(rng, 200_000)
        for name, rows in (("short", FLAGS.rows // 10), ("all", FLAGS.rows)):
            write_list(folder / f"{name}.txt", rng, texts, rows)
        print(f"{FLAGS.rows:,} rows, {CLASSES:,} classes, {depth:.1f} deep on average")
        one = augment(folder, "short", ["taskset", "-c", "0"])
        every = augment(folder, "all", [])
        begin = time.perf_counter()
        with open(folder / "all.txt", "rb") as file:
            rows = sum(1 for _ in file)
        reading = time.perf_counter() - begin
        report("one core", FLAGS.rows // 10, *one)
        report("all cores", rows, *every)
        ratio = (rows / every[0]) / (FLAGS.rows // 10 / one[0])
        print(f"all cores / one core: {ratio:.2f}; reading the lines in Python alone: {reading:.0f} s")


def make_dictionary(rng):
    """A hierarchy of four trees, of the published one's depth."""
    parents = [-1] * 4 + [int(rng.integers(max(0, k // 3 - 2), k // 1.6 + 1)) for k in range(4, CLASSES)]
    return [dictionary.Entry(k, f"n{k:08d}", parent, f"class {k}") for k, parent in enumerate(parents)]


def label_texts(rng, count):
    """Fields of `count` rows of Open Images: one to ten classes, with confidences."""
    sizes = rng.integers(1, 11, count)
    labels = rng.integers(0, CLASSES, (count, 10))
    tenths = rng.integers(8, 11, (count, 10))
    return [
        "\t".join(f"{label}:{tenth / 10:g}" for label, tenth in dict(zip(a[:n], b[:n], strict=True)).items())
        for n, a, b in zip(sizes.tolist(), labels.tolist(), tenths.tolist(), strict=True)
    ]


def write_list(path, rng, texts, rows):
    with open(path, "w") as file:
        for begin in range(0, rows, 100_000):
            count = min(100_000, rows - begin)
            single = rng.random(count) < IMAGENET_SHARE
            labels, chosen = rng.integers(0, CLASSES, count).tolist(), rng.integers(0, len(texts), count).tolist()
            for k in range(count):
                if single[k]:
                    file.write(f"n{labels[k]:08d}/n{labels[k]:08d}_{begin + k}.JPEG\t{labels[k]}:1\n")
                else:
                    file.write(f"https://c1.staticflickr.com/{k % 10}/{begin + k}_{k:08x}_o.jpg\t{texts[chosen[k]]}\n")


def augment(folder, name, before):
    """Runs the script; returns its seconds, and the most bytes that all its processes together held."""
    begin = time.perf_counter()
    arguments = [f"--image_list={folder / name}.txt", f"--dictionary={folder}/dictionary.txt"]
    process = subprocess.Popen(
        [*before, sys.executable, SCRIPT, *arguments, f"--output={folder / name}.out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    most = 0
    while process.poll() is None:
        most = max(most, memory(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(process.stdout.read())
    return time.perf_counter() - begin, most


def memory(pid):
    """Bytes that a process and its children hold (proportional set size, so that shared pages count once)."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += memory(int(child))
        pss = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        return total + int(pss[1]) * 1024
    except (OSError, TypeError):
        return total


def report(name, rows, seconds, peak):
    print(f"  {name:<10} {rows:>12,} rows in {seconds:6.1f} s: {rows / seconds:>10,.0f} rows/s, {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    run(main)
