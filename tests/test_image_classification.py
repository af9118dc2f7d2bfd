"""image_classification.py as a user runs it, and its scores against NumPy."""

import json
from pathlib import Path
import subprocess
import sys
from typing import NamedTuple

from absl.testing import flagsaver
import numpy as np
from PIL import Image
import pytest

from data_processing.lists import dictionary
from data_processing.lists.dictionary import Entry
from evaluation import thresholds
import image_classification
from models import checkpoint
from models.resnet import build_resnet
from tests.helpers import fold_by_hand
from tests.scripts import ROOT, run_script

SIZE = 56  # short side 64: images of 64 x 64 pixels are not resized
IMAGES = 5
# Class 1's parent stands after it; 4 is alone.
PARENTS = [-1, 5, 0, 2, -1, 0]
THRESHOLD = 0.55
# Of names that a flat dictionary holds, though the head is a sigmoid.
METADATA = checkpoint.Metadata("sigmoid", "weighted", SIZE, "".join(f'{k}\tName {k}, "é"\n' for k in range(6)))


class Run(NamedTuple):
    """A finished process and the folder that it ran in."""

    status: int
    stdout: str
    stderr: str
    folder: Path


def true_process(script, *args, cwd, status):
    """As `run_script`, but as a user's shell starts it."""
    del status
    return subprocess.run([sys.executable, ROOT / script, *args], cwd=cwd, capture_output=True, text=True, timeout=300)


def mosaic(seed):
    """Tiles of 8 x 8 pixels, RGB uint8 [64, 64, 3]."""
    tiles = np.random.default_rng(seed).integers(0, 256, [8, 8, 3], dtype=np.uint8)
    return tiles.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, lists, and a checkpoint and dictionary of each kind, with logits around 0."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    for k in range(IMAGES):
        Image.fromarray(mosaic(k)).save(folder / "data" / f"{k}.png")
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "data" / "im_list_for_classification.txt").write_text("0.png\t7\ndata/1.png\n")
    (folder / "bad.txt").write_text("data/0.png 1 2\ncut.jpg 3\ndata/1.png\n")
    entries = [Entry(k, f"n{k:08d}", parent, f"thing {k}, Ding {k}") for k, parent in enumerate(PARENTS)]
    dictionary.write(folder / "multi.txt", entries)
    single = "".join(f"{k}\tword {k}\tother {k}\n" for k in range(1000))
    (folder / "data" / "imagenet2012_dictionary.txt").write_text(single)
    crops = np.stack([mosaic(k)[4:60, 4:60] for k in range(IMAGES)]).astype(np.float32) / 127.5 - 1
    model = build_resnet(10, len(PARENTS), seed=3)
    layer = model.get_layer("logits")
    layer.kernel.assign(20 * layer.kernel)
    logits = model(crops, training=False)["logits"].numpy()
    layer.bias.assign(-logits.mean(0))
    checkpoint.save(folder / "multi", 1, checkpoint.model_variables(model), 1)
    checkpoint.save(folder / "with_head", 1, checkpoint.model_variables(model), 1, checkpoint.Metadata("sigmoid"))
    checkpoint.save(folder / "named", 1, checkpoint.model_variables(model), 1, METADATA)
    values = {name: variable.numpy() for name, variable in checkpoint.model_variables(model).items()}
    values["logits/dense/bias"] = np.array([0, 0, np.nan, 0, 0, 0], np.float32)
    checkpoint.save(folder / "not_finite", 1, values, 1)
    prefix = checkpoint.save(folder / "single", 1, checkpoint.model_variables(build_resnet(10, 1000)), 1)
    (folder / "checkpoints").mkdir()
    for part in Path(prefix).parent.glob(f"{Path(prefix).name}.*"):
        part.rename(folder / "checkpoints" / part.name.replace(Path(prefix).name, "resnet.ckpt"))
    return {"folder": folder, "logits": logits - logits.mean(0)}


@pytest.fixture(scope="module")
def runs(world):
    """The finished runs by name."""
    multi = ["--model_dir=multi", f"--image_size={SIZE}", "--data_format=NHWC", "--batch_size=2"]
    published = (
        "--images=data/im_list_for_classification.txt --top_k_pred=5 --model_dir=checkpoints/resnet.ckpt "
        "--dictionary=data/imagenet2012_dictionary.txt"
    )
    hierarchy = ["--hierarchy", f"--threshold={THRESHOLD}", "--top_k_pred=9", "--result=all.json"]
    options = {
        "published": published.split(),
        "bad": [*multi, "--dictionary=multi.txt", "--images=bad.txt", "--top_k_pred=2", "--result=bad_pred.txt"],
        "hierarchy": [*multi, "--model_dir=with_head", "--dictionary=multi.txt", "--images=data", *hierarchy],
    }
    finished = {}
    for name, own in options.items():
        run = true_process if name == "published" else run_script
        done = run("image_classification.py", *own, cwd=world["folder"], status=None)
        finished[name] = Run(done.returncode, done.stdout, done.stderr, world["folder"])
    return finished


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_published_command_line(runs):
    run = runs["published"]
    assert run.status == 0, run.stderr
    text = (run.folder / "label_pred.txt").read_text()
    assert "softmax head (the dictionary is single-label" in run.stdout and text in run.stdout
    lines = text.splitlines()
    assert len(lines) == 12 and lines[0] == "0.png\t7" and lines[6] == "data/1.png"
    for first in (1, 7):
        rows = [line.rsplit(": ", 1) for line in lines[first : first + 5]]
        assert all(name == f"{name.split()[0]} word {name.split()[0]}, other {name.split()[0]}" for name, _ in rows)
        scores = [float(score) for _, score in rows]
        assert scores == sorted(scores, reverse=True) and 0 < sum(scores) <= 1.003


def test_sigmoid_and_what_is_left_out(world, runs):
    run = runs["bad"]
    assert run.status == 1 and "Traceback" not in run.stderr
    assert "sigmoid head (the dictionary is multi-label" in run.stdout
    assert "left out: cut.jpg: " in run.stderr
    assert run.stderr.splitlines()[-1] == "error: 1 of 3 images could not be read and were left out"
    lines = (run.folder / "bad_pred.txt").read_text().splitlines()
    assert lines[0] == "data/0.png\t1 2" and lines[3] == "data/1.png" and len(lines) == 6
    for image, shown in ((0, lines[1:3]), (1, lines[4:6])):
        scores = sigmoid(world["logits"][image])
        for line, k in zip(shown, np.argsort(-scores)[:2], strict=True):
            name, score = line.rsplit(": ", 1)
            assert name == f"{k} thing {k}, Ding {k}" and float(score) == pytest.approx(scores[k], abs=0.0006)


def classify(world, capsys, **options):
    """Runs the script in this process; returns its first line, and the rows of its JSON lines."""
    folder = world["folder"]
    options = {"images": str(folder / "data"), "result": str(folder / "own.jsonl"), "data_format": "NHWC"} | options
    image_classification.FLAGS.mark_as_parsed()
    with flagsaver.as_parsed(**options):
        image_classification.main([])
    return capsys.readouterr().out, [json.loads(line) for line in (folder / "own.jsonl").read_text().splitlines()]


def check_classes(rows, scores, threshold, most=None):
    """That exactly the classes from a threshold on are named, the best ones first."""
    for row, expected in zip(rows, scores, strict=True):
        best = [k for k in np.argsort(-expected) if expected[k] >= threshold][:most]
        assert [entry["index"] for entry in row["classes"]] == best
        assert [entry["name"] for entry in row["classes"]] == [f'Name {k}, "é"' for k in best]
        assert [entry["score"] for entry in row["classes"]] == pytest.approx(expected[best], abs=1e-4)


def test_the_stored_threshold_then_the_flag_then_the_best(world, capsys):
    """Names, head and image size are the checkpoint's own; an image without a class keeps its row."""
    folder, scores = world["folder"], sigmoid(world["logits"])
    model_dir = str(folder / "named")
    out, rows = classify(world, capsys, model_dir=model_dir, top_k_pred="2")
    head = f"ResNet-10, 6 classes, sigmoid head (the checkpoint says so), {SIZE} pixels (as it was trained); named: "
    assert out.splitlines()[0] == (
        f"{head}the 2 best classes (--top_k_pred); no threshold is stored, evaluate.py finds one"
    )
    check_classes(rows, scores, 0, most=2)
    high = float(np.sort(scores.max(axis=1))[1:3].mean())  # one that two images do not reach
    path = thresholds.write(f"{model_dir}/model.ckpt-1", thresholds.Threshold(high, 0.5, "records"))
    out, rows = classify(world, capsys, model_dir=model_dir)
    assert out.splitlines()[0] == f"{head}classes of p >= {high:.4g} (best F1 on records, {path})"
    check_classes(rows, scores, high)
    assert sum(not row["classes"] for row in rows) == 2 and len(rows) == IMAGES
    out, rows = classify(world, capsys, model_dir=model_dir, threshold="0.1")
    assert out.splitlines()[0] == f"{head}classes of p >= 0.1 (--threshold)"
    check_classes(rows, scores, 0.1)
    assert max(len(row["classes"]) for row in rows) > 5
    out, rows = classify(world, capsys, model_dir=model_dir, top_k_pred="1", threshold="0.1")
    assert out.splitlines()[0].endswith("classes of p >= 0.1 (--threshold), at most 1 (--top_k_pred)")
    check_classes(rows, scores, 0.1, most=1)
    path.write_text("{")
    with pytest.raises(ValueError, match="threshold.json: no threshold of evaluate.py"):
        classify(world, capsys, model_dir=model_dir)
    path.unlink()


def test_without_names_indices_stand_for_them(world, capsys):
    """With a softmax head a stored threshold counts for nothing."""
    model_dir = str(world["folder"] / "multi")
    path = thresholds.write(f"{model_dir}/model.ckpt-1", thresholds.Threshold(0.99, 0.5, "records"))
    out, rows = classify(world, capsys, model_dir=model_dir, image_size=str(SIZE), top_k_pred="3")
    path.unlink()
    first, second, *_ = out.splitlines()
    assert "softmax head (nothing says otherwise" in first and first.endswith("the 3 best classes (--top_k_pred)")
    assert second.startswith("no names, only indices: ") and second.endswith("give them with --dictionary")
    best = np.argsort(-world["logits"], axis=1)[:, :3]
    assert [[entry["index"] for entry in row["classes"]] for row in rows] == best.tolist()
    assert {entry["name"] for row in rows for entry in row["classes"]} == {""}


def test_hierarchy_threshold_and_json(world, runs):
    run = runs["hierarchy"]
    assert run.status == 0, run.stderr
    rows = json.loads((run.folder / "all.json").read_text())
    assert "sigmoid head (the checkpoint says so" in run.stdout
    assert [row["image"] for row in rows] == [f"data/{k}.png" for k in range(IMAGES)]
    dropped = 0
    for row, logits in zip(rows, world["logits"], strict=True):
        expected = fold_by_hand(sigmoid(logits)[None], PARENTS)[0]
        kept = np.flatnonzero(expected >= THRESHOLD)
        dropped += len(PARENTS) - len(kept)
        assert row["label"] == ""
        assert {entry["index"]: entry["score"] for entry in row["classes"]} == {
            k: pytest.approx(expected[k], abs=1e-4) for k in kept
        }
        assert all(entry["name"] == f"thing {entry['index']}, Ding {entry['index']}" for entry in row["classes"])
        assert np.all(np.diff([entry["score"] for entry in row["classes"]]) <= 0)
    assert 0 < dropped < IMAGES * len(PARENTS)
    assert "data/4.png\n" in run.stdout


@pytest.mark.parametrize(
    ("given_flags", "message"),
    [
        ({"dictionary": "single"}, "imagenet2012_dictionary.txt has 1,000 classes and .*multi/model.ckpt-1 6; give"),
        ({"dictionary": "single", "hierarchy": "true"}, "--hierarchy needs a multi-label dictionary"),
        ({"dictionary": "multi", "class_num": "7"}, "--class_num=7, but .* has class_num 6"),
        ({"dictionary": "multi", "resnet_size": "50"}, "--resnet_size=50, but .* has resnet_size 10"),
        ({"result": "no.xlsx"}, "--result=no.xlsx: name a file that ends in .json, .jsonl or .csv"),
        ({"model_dir": "."}, "this folder holds 0 checkpoints"),
        ({"hierarchy": "true"}, "--hierarchy needs a multi-label dictionary"),
        ({"dictionary": "multi", "model_dir": "with_head", "head": "softmax"}, "--head=softmax, but .* sigmoid head"),
        ({"dictionary": "multi", "model_dir": "not_finite"}, "logits/dense/bias holds NaN or infinity"),
    ],
)
def test_flags_that_contradict_the_files(world, given_flags, message):
    folder = world["folder"]
    dictionaries = {"single": folder / "data" / "imagenet2012_dictionary.txt", "multi": folder / "multi.txt"}
    if "dictionary" in given_flags:
        given_flags = given_flags | {"dictionary": str(dictionaries[given_flags["dictionary"]])}
    files = {"images": str(folder / "data"), "model_dir": str(folder / "multi"), "result": str(folder / "no.txt")}
    image_classification.FLAGS.mark_as_parsed()
    if "model_dir" in given_flags:
        given_flags = given_flags | {"model_dir": str(folder / given_flags["model_dir"])}
    with flagsaver.as_parsed(**files | given_flags), pytest.raises(ValueError, match=message):
        image_classification.main([])
    assert not (folder / "no.txt").exists()
