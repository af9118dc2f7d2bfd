"""The flags of scripts: what --help says of them, and what no flag may be."""

import ast
import functools
import os
from pathlib import Path
import re
import subprocess
import sys

from absl import flags
import pytest

from shared_flags import ALIASES, MEMBERS, OBSOLETE
from tests.scripts import run_script
from tests.test_house import ROOT, SCRIPTS
from utils import flag_values, help_page

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


@pytest.mark.parametrize("name", WITH_FLAGS)
def test_help(name, without_tensorflow):
    """It fits three screens, and has the flags that the script reads and no others; nothing large is imported for it."""
    done = subprocess.run(
        [sys.executable, ROOT / name, "--help"], capture_output=True, text=True, env=without_tensorflow
    )
    assert (done.returncode, done.stderr) == (0, "")
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
