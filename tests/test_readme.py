"""Every command of the README runs, in its order, in the folder that a small demo has left."""

from pathlib import Path
import re
import shlex
import subprocess
import sys

import pytest

from tests.archives import imagenet
from tests.test_distributed import ENVIRONMENT, MPIRUN

ROOT = Path(__file__).parents[1]
COMMANDS = re.findall(r"^    (?:\$ )?((?:mpirun -np 2 )?python .*)$", (ROOT / "README.md").read_text(), re.M)
# What takes minutes or needs ML-Images is tried in small: these come last and win.
IN_SMALL = {
    "train.py": ["--max_iter=2"],
    "finetune.py": ["--max_iter=2", "--test_interval=2"],
    "make_scenes.py": ["--class_images=1", "--voc_images=4"],
    "make_sources.py": ["--open_images_count=40", "--class_images=2"],
    "build_dictionary.py": ["--min_images=1"],
}


def run(command, folder):
    *mpirun, _, script, arguments = re.fullmatch(r"(mpirun -np 2 )?(python) (\S+)(.*)", command).groups()
    arguments = shlex.split(arguments) + IN_SMALL.get(Path(script).name, [])
    launcher = [*MPIRUN, "-np", "2"] if mpirun[0] else []
    done = subprocess.run(
        [*launcher, sys.executable, ROOT / script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo in small, and where `make demo` would have left it."""
    folder = tmp_path_factory.mktemp("readme")
    output = run("python demo/run_demo.py --num_images=60 --steps=8", folder)
    servers = []
    yield folder, output, servers
    for server in servers:
        server.kill()


@pytest.mark.slow
def test_demo_reports(demo):
    folder, output, _ = demo
    assert re.search(
        r"mAP on 12 validation images: this network 0\.\d+, bag of colours 0\.\d+, chance 0\.\d+\n"
        r"then for images of one thing, top-1: fine-tuned 0\.\d+, linear probe of the features 0\.\d+, chance 0\.008",
        output,
    )
    page = (folder / "out/demo/report.html").read_text()
    assert page.count("<img") > 30 and 'src="data:image/jpeg;base64,' in page
    assert not re.search(r"(src|href)=.?(http|/|out)", page)  # it needs no other file
    assert not list(folder.rglob("*.part"))


@pytest.mark.slow
def test_demo_again_makes_nothing_anew(demo):
    folder, *_ = demo
    kept = {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".jpg", ".tfrecords", ".index")
    }
    run("python demo/run_demo.py --num_images=60 --steps=8", folder)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    # Benchmarks and recipes have tests of their own below, and the study has in tests/demo.
    [c for c in COMMANDS if not any(word in c for word in ("benchmarks/", "flagfile", "transfer_study"))],
    ids=lambda c: c.split(" --")[0],
)
def test_command(demo, command):
    folder, *_ = demo
    if "http.server" in command:
        # It runs on, as its "&" says, for the download that follows.
        arguments = shlex.split(command.removesuffix(" &"))[1:]
        demo[2].append(subprocess.Popen([sys.executable, *arguments], cwd=folder))
        return
    # The small world has other images than the README's, but the same classes.
    run(command.replace("val_000003", "val_000001").replace("002_0005", "002_0001"), folder)


@pytest.mark.slow
def test_the_recipe_of_the_paper(demo, tmp_path):
    """Without ML-Images: on the demo's records, on which only the number of classes and the batch must be smaller."""
    recipe = next(c for c in COMMANDS if "ml_images.flags" in c).replace(
        "./dataset/tencent-ml-images", "out/demo/records"
    )
    recipe = recipe.replace("example/", f"{ROOT}/example/")
    options = " --class_num=193 --test_interval=0 --accumulate_steps=2"
    options += f" --batch_size=2 --image_size=64 --model_dir={tmp_path}/checkpoint --log_dir={tmp_path}/log"
    assert "saved" in run(recipe + options, demo[0])


@pytest.mark.slow
def test_the_recipe_of_fine_tuning(tmp_path):
    """Without ImageNet: on a few images of three classes in its archives, as many steps as show that it runs."""
    (tmp_path / "imagenet").mkdir()
    imagenet(tmp_path / "imagenet", "archives")
    recipe = next(c for c in COMMANDS if "imagenet.flags" in c).replace("./dataset", str(tmp_path))
    recipe = recipe.replace("example/", f"{ROOT}/example/")
    options = f" --model_dir={tmp_path}/out --log_dir={tmp_path}/log --pretrain_ckpt= --batch_size=2 --max_iter=2"
    options += " --lr=0 --image_size=32 --val_sizes=32 --val_crops=center"  # the rate is none for random weights
    output = run(recipe + options, tmp_path)
    assert "ResNet-101, 3 classes" in output and "the rest is frozen" in output and "best checkpoint: step 2" in output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", [c for c in COMMANDS if "benchmarks/" in c], ids=lambda c: c.split()[1])
def test_benchmark(command, tmp_path):
    assert re.search(r"\d", run(command, tmp_path))


def test_make_targets_of_the_first_lines():
    for target in ("demo", "test"):
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert ("demo/run_demo.py" if target == "demo" else "pytest") in planned
