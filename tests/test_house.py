"""The house: which way imports point, and how large a file and a function may be. docs/contributing.md explains it."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
FILES = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
PROGRAM = [name for name in FILES if not name.startswith("tests/") and (ROOT / name).exists()]
SCRIPTS = [name for name in PROGRAM if '__name__ == "__main__"' in (ROOT / name).read_text()]
# From the lowest layer to the highest: a module may import those of lower layers, and of its own room.
LAYERS = [
    ["utils"],
    ["distributed"],
    ["data_processing/lists", "data_processing/images"],
    ["data_processing/download"],
    ["data_processing/sources"],
    ["data_processing/records"],
    ["data_processing/input_pipeline", "losses", "models", "evaluation"],
    ["training"],
    ["tasks"],
]
LARGEST_FILE, LARGEST_FUNCTION, MOST_PARAMETERS = 300, 60, 6


def room_of(name):
    """The room of a file: its folder, or itself where it stands alone."""
    return name.removesuffix(".py") if name.count("/") == 0 else name.rpartition("/")[0]


def layer_of(name):
    """The number of a file's layer; scripts, and what only scripts use, are above all."""
    rooms = [k for k, layer in enumerate(LAYERS) if room_of(name) in layer]
    return rooms[0] if rooms else len(LAYERS)


def imports_of(name):
    """The files of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            path = module.replace(".", "/") + ".py"
            if path in PROGRAM:
                yield path


@pytest.mark.parametrize("name", PROGRAM)
def test_imports_point_down(name):
    for imported in imports_of(name):
        assert imported not in SCRIPTS, f"{name} imports the script {imported}"
        if layer_of(name) == len(LAYERS):
            continue
        same_room = room_of(imported) == room_of(name)
        assert layer_of(imported) < layer_of(name) or same_room, f"{name} imports {imported}, which is not below it"
        assert imported not in ("flags.py", "shared_flags.py"), f"{name} is no script: only scripts read flags"


def test_imports_have_no_circle():
    graph = {name: set(imports_of(name)) for name in PROGRAM}
    while leaves := [name for name, imported in graph.items() if not imported]:
        graph = {name: imported.difference(leaves) for name, imported in graph.items() if name not in leaves}
    assert not graph, f"in a circle, or above one: {sorted(graph)}"


@pytest.mark.parametrize("name", PROGRAM)
def test_files_and_functions_are_small(name):
    text = (ROOT / name).read_text()
    assert text.count("\n") <= LARGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            where, arguments = f"{name}:{node.lineno} {node.name}", node.args
            parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            assert node.end_lineno - node.lineno < LARGEST_FUNCTION, where
            assert len([a for a in parameters if a.arg not in ("self", "cls")]) <= MOST_PARAMETERS, where


def test_importing_scripts_changes_no_flag():
    """All in one process: no flag is defined twice, and none has another default or value afterwards."""
    modules = [name.removesuffix(".py").replace("/", ".") for name in SCRIPTS]
    code = f"""
import importlib, sys
import flags
def shared():
    flags_of = flags.FLAGS.flags_by_module_dict()["shared_flags"]
    return {{flag.name: (flag.default, flag.value, flag.help, len(flag.validators)) for flag in flags_of}}
known = shared()
for module in {modules!r}:
    importlib.import_module(module)
    changed = [name for name, flag in shared().items() if known.setdefault(name, flag) != flag]
    assert not changed, (module, changed)
    print(module)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == modules
