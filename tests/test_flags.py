"""The flags of scripts: what --help says of them, and what no flag may be."""

import ast
import functools
import math
import os
from pathlib import Path
import re
import subprocess
import sys

from flags import FLAGS, RARE, use
from absl import flags
from absl.testing import flagsaver
import pytest

from shared_flags import ALIASES, MEMBERS, OBSOLETE
from tests.test_house import ROOT, SCRIPTS
from utils import flag_values

WITH_FLAGS = [name for name in SCRIPTS if "from flags import" in (ROOT / name).read_text()]
SHARED = {name for names in MEMBERS.values() for name in names}
# Read by `flags.run`; and those of one value, which nothing has to read.
READ_ELSEWHERE = {"visiable_gpu", "image_channels", "optimizer"}
# Fields that mean nothing where no network is trained.
OF_TRAINING = {"batch_norm_decay", "shuffle_buffer", "accumulate_steps", "random_seed"}


@functools.cache
def parsed(path):
    return ast.parse(Path(path).read_text())


def named_tuple(path, name):
    """The file and the definition of the named tuple that a file calls `name`; None if it is none of ours."""
    first, _, rest = name.partition(".")
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [ast.unparse(base) for base in node.bases]
            return (path, node) if "NamedTuple" in bases or "typing.NamedTuple" in bases else None
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if (alias.asname or alias.name) != first:
                continue
            module = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            inner = ROOT / (module.replace(".", "/") + ".py")
            if rest and inner.exists():
                return named_tuple(inner, rest)
            if not rest and isinstance(node, ast.ImportFrom):
                outer = ROOT / (node.module.replace(".", "/") + ".py")
                return named_tuple(outer, alias.name) if outer.exists() else None
    return None


def fields(path, name):
    """The fields of a named tuple, and of those in it."""
    where, definition = named_tuple(path, name)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign):
            annotation = ast.unparse(node.annotation)
            if re.fullmatch(r"[\w.]+", annotation) and named_tuple(where, annotation):
                yield from fields(where, annotation)
            else:
                yield node.target.id


def reads(path):
    """The names that a script reads of FLAGS, itself and by `config`."""
    text = path.read_text()
    idle = set() if re.search("training_batches|train_step|DatasetConfig|ShardConfig", text) else OF_TRAINING
    lists = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Tuple | ast.List | ast.Dict)]
    nodes = [node for one in lists for node in (one.keys if isinstance(one, ast.Dict) else one.elts)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "FLAGS":
            yield node.attr
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "FLAGS":
            # FLAGS[name], of names that stand somewhere in the script.
            yield from [node.slice.value] if isinstance(node.slice, ast.Constant) else texts
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "given":
            [name] = node.args
            yield from [name.value] if isinstance(name, ast.Constant) else texts
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "config":
            given = {keyword.arg for keyword in node.keywords}
            yield from set(fields(path, ast.unparse(node.args[0]))) - given - idle
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "train_per_class":
            yield "train_per_class"


def own(path):
    """The names of the flags that a script defines."""
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    return {node.args[0].value for node in calls if ast.unparse(node.func).startswith("flags.DEFINE_")}


def in_help(text):
    """The names of the flags that a page explains."""
    return set(re.findall(r"--(\w+)=", text[text.index("\nWhat matters first") :]))


@pytest.fixture(scope="module")
def without_tensorflow(tmp_path_factory):
    """An environment in which TensorFlow cannot be imported."""
    folder = tmp_path_factory.mktemp("without")
    for name in ("tensorflow", "keras", "numpy"):
        (folder / f"{name}.py").write_text("raise RuntimeError('this is imported, too')\n")
    return os.environ | {"PYTHONPATH": str(folder)}


def start(script, *options, env, status=0):
    """Runs a script in a process of its own, which begins with nothing imported."""
    done = subprocess.run([sys.executable, ROOT / script, *options], capture_output=True, text=True, env=env)
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.parametrize("name", WITH_FLAGS)
def test_help(name, without_tensorflow):
    """It fits three screens and has the flags that the script reads, no others; nothing large is imported for it."""
    done = start(name, "--help", env=without_tensorflow)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) <= 72 and max(map(len, lines)) <= 120
    assert lines[0] == ast.get_docstring(parsed(ROOT / name)).splitlines()[0]
    assert f"    python {name}" in done.stdout
    flags_in_help, read = (
        in_help(done.stdout),
        {flag for flag in reads(ROOT / name) if flag in SHARED | own(ROOT / name)},
    )
    assert flags_in_help >= own(ROOT / name)
    assert not read - flags_in_help
    assert not flags_in_help - read - READ_ELSEWHERE


@pytest.mark.parametrize("option", ["-h", "-help", "--helpshort"])
def test_help_has_other_names(option, without_tensorflow):
    pages = [start("train.py", one, env=without_tensorflow).stdout for one in ("--help", option)]
    assert pages[0] == pages[1] and "--alsologtostderr" not in pages[0]


def test_helpfull_is_that_of_absl(without_tensorflow):
    text = start("train.py", "--helpfull", env=without_tensorflow, status=1).stdout
    assert "--[no]alsologtostderr" in text and "--model_dir" in text


def test_help_for_a_reader_that_goes(without_tensorflow):
    command = [sys.executable, ROOT / "train.py", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=without_tensorflow) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_names_are_of_flags():
    assert {*RARE, *OBSOLETE, *ALIASES.values()} <= SHARED
    with pytest.raises(KeyError, match="no_such_flag"):
        use("no_such_flag")


@pytest.mark.parametrize(
    "name", sorted(name for name in FLAGS if FLAGS[name].flag_type() == "float" and name not in ALIASES)
)
def test_numbers_are_finite(name):
    """What is out of a flag's bounds, absl refuses."""
    for value in (math.nan, math.inf, -math.inf):
        refused = pytest.raises((ValueError, flags.IllegalFlagValueError), match=f"^(flag )?--{name}={value}: ")
        with refused, flagsaver.flagsaver(**{name: value}):
            flag_values.check(FLAGS)


@pytest.mark.parametrize(
    ("script", "option", "message"),
    [
        ("train.py", "--lr=nan", "error: --lr=nan: give a finite number"),
        ("train.py", "--ema_decay=nan", "error: --ema_decay=nan: give a finite number"),
        ("train.py", "--epochs=inf", "error: --epochs=inf: give a finite number"),
        ("data_processing/cooccurrence.py", "--posterior=nan", "error: --posterior=nan: give a finite number"),
        (
            "train.py",
            "--data_dir=s3://bucket/x",
            "error: --data_dir=s3://bucket/x: addresses like s3:// can be neither",
        ),
        ("train.py", "--model_dir=gs://bucket/out", "error: --model_dir=gs://bucket/out: addresses like gs://"),
        ("train.py", "--log_dir=hdfs://host/log", "error: --log_dir=hdfs://host/log: addresses like hdfs://"),
        ("finetune.py", "--pretrain_ckpt=https://host/a.ckpt", "error: --pretrain_ckpt=https://host/a.ckpt: addresses"),
        (
            "finetune.py",
            "--dataset=folder:gs://bucket/x",
            "error: --dataset=folder:gs://bucket/x: addresses like gs://",
        ),
        ("evaluate.py", "--result=S3://bucket/eval", "error: --result=S3://bucket/eval: addresses like S3://"),
        ("image_classification.py", "--images=http://host/a.jpg", "error: --images=http://host/a.jpg: addresses like"),
        ("data_processing/build_image_list.py", "--csv=file:///tmp/a.csv", "error: --csv=file:///tmp/a.csv: addresses"),
        ("train.py", "--split=val", "FATAL Flags parsing error: Unknown command line flag 'split'"),
        ("train.py", "--resnet_size=99", "FATAL Flags parsing error: flag --resnet_size=99: choose one of 10, 18"),
        ("train.py", "--loss=best", "FATAL Flags parsing error: flag --loss=best: value should be one of"),
        ("train.py", "data", "error: 'data' is not a flag; write flags as --name=value"),
    ],
)
def test_what_is_wrong_is_said_at_once(script, option, message, without_tensorflow):
    needed = ["--output_dir=lists"] if script.endswith("image_list.py") else []
    error = start(script, option, *needed, env=without_tensorflow, status=1).stderr
    assert error.startswith(message)
    assert error.count("\n") == 1 or message.startswith("FATAL")  # (absl adds where help is)


def test_flags_without_effect_are_named(without_tensorflow):
    options = ["--archive=x", "--lr=3", "--mode=train", "--num_gpus=2", "--batch_size=32", "--", "--test_interval=9"]
    error = start("example/caltech256.py", *options, env=without_tensorflow, status=1).stderr
    said = [line.partition(" has no effect: ") for line in error.splitlines()[:-1]]
    assert {name: reason for name, _, reason in said} == {
        "--lr": "caltech256.py does not use it.",
        "--mode": f"{OBSOLETE['mode']}.",
        "--num_gpus": f"{OBSOLETE['num_gpus']}.",
    }
