"""From sources in the real formats to a database that trains: the whole chain, images over HTTP on loopback."""

import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Listener
import os
import subprocess
import sys
import threading

import pytest
import tensorflow_datasets as tfds

from data_processing.lists import dictionary, image_list
from data_processing.sources import labeled_images
import data_processing.tfds_ml_images  # noqa: F401
from demo import make_sources
from tests.scripts import ROOT, run_script

OPEN_IMAGES = 2000
NETWORK = "--image_size=32 --data_format=NHWC --batch_size=64"
# All classes are positive in all batches here, where the paper's loss would weigh them by 0.01 and learn in twice as
# many steps. The planted pair was found with 0.78, with 4,000 images 0.83; no other one with more than 0.15.
TRAIN = (
    "--resnet_size=10 --loss=sigmoid --lr=0.1 --lr_schedule=cosine --warmup=40 --lr_warmup=0.01 "
    "--lr_warmup_decay_step=10 --lr_warmup_decay_factor=1.8 --batch_norm_decay=0.9 --max_iter=400 --rotated=0 "
    "--color_jitter=0 --crop_min_area=0.9 --crop_min_covered=0.9"
)
# A command in place of `python`, for scripts of the repository: it has `forked_python` below run them.
COMMAND = """#!{} -I
import sys
from multiprocessing.connection import Client
with Client({!r}) as server:
    server.send(sys.argv[1:])
    status, output, errors = server.recv()
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(status)
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def run(*command, **variables):
    done = subprocess.run(
        [str(part) for part in command], env=os.environ | variables, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def forked_python(path):
    """Writes COMMAND to `path` and serves it: most scripts run for less time than TensorFlow takes to start."""
    listener = Listener()
    path.write_text(COMMAND.format(sys.executable, listener.address))
    path.chmod(0o755)

    def serve():
        while True:
            with listener.accept() as client:
                done = run_script(*client.recv(), status=None, timeout=1200)
                client.send((done.returncode, done.stdout, done.stderr))

    threading.Thread(target=serve, daemon=True).start()
    return path


def labels_of(path):
    return {row.path: dict(zip(row.labels, row.confidences, strict=True)) for row in image_list.read(path)}


@pytest.mark.parametrize(
    "arguments, share, message",
    [([], "0.05", "usage: example/build_database.sh FOLDER"), (["x"], "0.0", "VAL_SHARE=0.0: a database needs")],
)
def test_what_is_missing_is_said(tmp_path, arguments, share, message):
    script, settings = ROOT / "example" / "build_database.sh", os.environ | {"VAL_SHARE": share}
    done = subprocess.run([script, *arguments], env=settings, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sources_become_a_database(tmp_path):
    (tmp_path / "server").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "server"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    run_script("demo/make_sources.py", f"--output_dir={tmp_path}", f"--url={url}", f"--open_images_count={OPEN_IMAGES}")
    (tmp_path / "server" / "7.jpg").write_text("<html>not here</html>")
    settings = dict(
        PYTHON=str(forked_python(tmp_path / "python")),
        SHARDS="4",
        VAL_SHARDS="2",
        VAL_SHARE="0.05",
        MIN_IMAGES="10",
        DOWNLOAD_FLAGS="--allow_private_hosts --connections=16",
        COOCCURRENCE_FLAGS="--min_images=40 --posterior=0.8",
        NETWORK_FLAGS=NETWORK,
        TRAIN_FLAGS=TRAIN,
    )
    run(ROOT / "example" / "build_database.sh", tmp_path, **settings)
    server.shutdown()

    entries = dictionary.read(tmp_path / "database" / "dictionary_and_semantic_hierarchy.txt")
    index = {entry.wnid: entry.index for entry in entries}
    decisions = labeled_images.id_lines(tmp_path / "vocabulary" / "decisions.tsv")
    name_of = {fields[3]: name.removeprefix("/m/0") for name, fields in decisions.items() if name.startswith("/m/0")}
    # The planted pair is found, with its ancestor, and no other.
    one, other = make_sources.PLANTED
    names = {wnid: name_of.get(str(k), wnid) for wnid, k in index.items()}
    lines = (tmp_path / "cooccurrence" / "pairs.tsv").read_text().splitlines()[1:]
    pairs = {tuple(names[wnid] for wnid in line.split("\t")[:2]) for line in lines}
    assert pairs == {(one, other), (one, "n00015388")}, lines
    # Every image of that class has the other class now, and its ancestor; all rows are closed; each has a record.
    rows = labels_of(tmp_path / "train_augmented.txt")
    [label, label_of_other] = (int(decisions[f"/m/0{name}"][3]) for name in make_sources.PLANTED)
    planted = [row for path, row in rows.items() if label in row]
    assert len(planted) > OPEN_IMAGES / 4 and all(
        label_of_other in row and index["n00015388"] in row for row in planted
    )
    ancestors = dictionary.ancestors(entries)
    assert all(above in row for row in rows.values() for k in row for above in ancestors[k])
    val = labels_of(tmp_path / "val_augmented.txt")
    # The one that is HTML is nowhere, and said to be.
    assert len(rows) + len(val) == OPEN_IMAGES - 1 + 60 * len(make_sources.NAMES)
    failed = [path.read_text() for path in tmp_path.glob("downloaded_*/failed.tsv")]
    assert sum(text.count(f"{url}/7.jpg\tHTML") for text in failed) == 1
    # What was done is not done again; the shards train; and TensorFlow Datasets gives them.
    again = run(ROOT / "example" / "build_database.sh", tmp_path, **settings)
    assert again.splitlines() == [
        f"{tmp_path}/database is ready: train.py --data_dir={tmp_path}/database --class_num={len(entries)}"
    ]
    output = run_script(
        *("train.py", f"--data_dir={tmp_path}/database", f"--class_num={len(entries)}"),
        *(f"--model_dir={tmp_path}/final", f"--log_dir={tmp_path}/log", "--resnet_size=10", "--max_iter=2"),
        *(*NETWORK.split(), "--test_interval=2", "--log_interval=1"),
    ).stdout
    assert f"{len(rows):,} records (sparse labels) in 4 shards" in output and "saved" in output
    config = tfds.download.DownloadConfig(manual_dir=str(tmp_path / "database"))
    splits, info = tfds.load(
        "ml_images",
        data_dir=tmp_path / "tfds",
        with_info=True,
        download_and_prepare_kwargs={"download_config": config},
    )
    assert info.splits["train"].num_examples == len(rows) and info.splits["validation"].num_examples == len(val)
    example = next(iter(splits["validation"].as_numpy_iterator()))
    expected = val[example["name"].decode()]
    assert dict(zip(example["labels"]["class"].tolist(), example["labels"]["confidence"].tolist(), strict=True)) == {
        k: pytest.approx(value) for k, value in expected.items()
    }
