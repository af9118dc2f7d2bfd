"""Every command of the README and of docs/ runs, in its order, in the folder that a small demo has left."""

import re
import shlex
import subprocess
import sys

import pytest

from demo import run_demo
from tests import voc_devkit
from tests.archives import imagenet
from tests.demo.forked import run_main
from tests.helpers import ENVIRONMENT, MPIRUN
from tests.scripts import ROOT, run_script

# In an order in which each finds what it uses.
PAGES = ["README.md"]
PAGES += [f"docs/{name}.md" for name in ("own_data", "database", "training", "transfer")]
PAGES += [f"docs/{name}.md" for name in ("detection", "segmentation", "inference", "performance")]
COMMAND = r"^    (?:\$ )?((?:mpirun -np 2 )?python .*)$"
COMMANDS = [command for page in PAGES for command in re.findall(COMMAND, (ROOT / page).read_text(), re.M)]
# What takes minutes or needs ML-Images is tried in small: these come last and win.
IN_SMALL = {
    "train.py": "--max_iter=2 --resnet_size=10",
    "finetune.py": "--max_iter=2 --test_interval=2 --resnet_size=10",
    "linear_probe.py": "--splits=1",
    "demo/make_scenes.py": "--class_images=1 --voc_images=4",
    "demo/make_sources.py": "--open_images_count=40 --class_images=2",
    "data_processing/build_dictionary.py": "--min_images=1",
    "benchmarks/augment_labels.py": "--rows=20000",
    "benchmarks/build_tfrecords.py": "--rounds=1 --num_images=40",
    "benchmarks/bytes_per_label.py": "--num_images=100",
    "benchmarks/detection.py": "--rounds=1 --resnet_size=10 --sides=64,96 --proposal_counts=20,10",
    "benchmarks/download_images.py": "--rounds=1 --num_images=40 --latency=0.05",
    "benchmarks/extract_feature.py": "--rounds=1 --num_images=6 --resnet_size=10 --image_size=64",
    "benchmarks/index_records.py": "--rounds=1 --shards=5 --num_images=1003 --sample=200",
    "benchmarks/inference.py": "--rounds=1 --resnet_size=10 --batch_size=2 --image_size=32",
    "benchmarks/input_pipeline.py": "--rounds=1 --num_images=8 --batch_size=4 --image_size=64 --quick",
    "benchmarks/loss.py": "--rounds=1 --resnet_size=10 --image_size=32",
    "benchmarks/resized_records.py": "--rounds=1 --num_images=8 --batch_size=4 --image_size=64",
    "benchmarks/train_step.py": "--rounds=1 --resnet_size=50 --batch_size=2 --image_size=32",
    "benchmarks/scaling.py": "--rounds=1 --resnet_size=10 --processes=2",
}
# These are tried in small in tests/demo/.
STUDIES = ("_study", "demo/detection", "demo/segmentation")
SMALL_DEMO = dict(num_images=60, steps=8, resnet_size=10)
# What benchmarks print: every way that is compared, and the ratio.
NUMBER = r"\d[\d,.]*"
PRINTED = {
    "benchmarks/augment_labels.py": [
        f"20,000 rows, 11,166 classes, {NUMBER} deep",
        f"one core +2,000 rows in +{NUMBER} s: +{NUMBER} rows/s, {NUMBER} MB",
        f"all cores +20,000 rows in +{NUMBER} s: +{NUMBER} rows/s, {NUMBER} MB",
        f"all cores / one core: {NUMBER}; reading the lines in Python alone: {NUMBER} s",
    ],
    "benchmarks/build_tfrecords.py": [
        f"40 JPEGs of 500 x 375 pixels, {NUMBER} kB",
        r"one at a time +[1-9]\d* \(.* 1.00 x one at a time",
        rf"ours +[1-9]\d* \(.* {NUMBER} x one at a time",
        rf"ours, 1 shard +[1-9]\d* \(.* {NUMBER} x one at a time",
    ],
    "benchmarks/bytes_per_label.py": [
        "100 records of 11,166 classes",
        f"sparse +{NUMBER} bytes an image .* GB for 17,609,752 images",
        r"dense +446\d\d\.\d bytes an image",
        r"dense / sparse: [1-9]\d\d",
    ],
    "benchmarks/detection.py": [
        "ResNet-10, 64 x 96 pixels, batch 1, float32; median of 1 rounds",
        *(
            f"{way} +{NUMBER} ms .* x the backbone; .* {NUMBER} x"
            for way in ("backbone", "20 proposals", "10 proposals")
        ),
    ],
    "benchmarks/download_images.py": [
        f"40 images of {NUMBER} kB from 8 hosts, latency 0.05 s",
        "threaded loop +[1-9]\\d* images/s .* 1.0 x the loop",
        f"ours +[1-9]\\d* images/s .* {NUMBER} x the loop",
    ],
    "benchmarks/extract_feature.py": [
        "ResNet-10, batches of 32, 6 images, 1 rounds",
        *(rf"\({way}\) .* +{NUMBER} images/s" for way in "abc"),
        f"a/b  {NUMBER} ",
        f"a/c  {NUMBER} ",
    ],
    "benchmarks/index_records.py": [
        "1,003 records in 5 shards; median of 1 rounds",
        f"offset files +{NUMBER} s .*: +{NUMBER} records/s",
        f"headers +{NUMBER} s .*: +{NUMBER} records/s, .* from 200 records",
        f"headers / offset files: {NUMBER} by the clock, {NUMBER} by processor time",
        f"memory: {NUMBER} bytes a record, {NUMBER} at the peak",
    ],
    "benchmarks/inference.py": [
        "ResNet-10, 32 px, batch 2",
        *(
            rf"{way} +{NUMBER} images/s, +{NUMBER} a"
            for way in ("unfrozen", "frozen", "bfloat16", "keras", "keras frozen")
        ),
        *(f"{ratio}: {NUMBER} by the clock" for ratio in ("frozen / unfrozen", "ours / keras", "bfloat16 / float32")),
    ],
    "benchmarks/input_pipeline.py": [
        *(rf"{way} +[1-9]\d* images/s .* core-ms" for way in ("decode", "ours", "ours, same", "release")),
        *(f"{ratio}: {NUMBER} by the clock" for ratio in ("ours / decode", "ours / release", "ours, same / release")),
        r"boxes +[1-9]\d* images/s .* core-ms",
        f"boxes / decode: {NUMBER} by the clock",
        *(rf"{way} +[1-9]\d* images/s .* core-ms" for way in ("both", "masks")),
        *(f"{ratio}: {NUMBER} by the clock" for ratio in ("masks / decode", "masks / both")),
    ],
    "benchmarks/loss.py": [
        "ResNet-10, 11,166 classes, 32 px, batch 4",
        f"whole step +{NUMBER} ms",
        f"loss and gradient +{NUMBER} ms",
        f"loss / step: {NUMBER}%",
    ],
    "benchmarks/resized_records.py": [
        *(f"8 JPEGs of {size} pixels, training at 64 px" for size in ("500 x 375", "1,024 x 768")),
        *(rf"{way} +{NUMBER} kB an image +[1-9]\d* images/s .* core-ms" for way in ("full", "320 px")),
        f"PSNR at 64 px: {NUMBER} dB",
        f"320 px / full: {NUMBER} by the clock, {NUMBER} by processor time\n",
    ],
    "benchmarks/train_step.py": [
        "ResNet-50, 1,000 classes, 32 px, batch 2, float32",
        *(f"{way} +{NUMBER} ms .* x ours" for way in ("forward", "backward", "ours", "keras")),
        f"multiply-adds of an image: ours {NUMBER} billion, keras {NUMBER}",
        f"ours / keras: {NUMBER} by the clock, {NUMBER} for as many multiply-adds\n$",
    ],
    "benchmarks/scaling.py": [
        "on a machine with",
        rf"\| 64 KB \| {NUMBER} \|",
        rf"\| fit \| {NUMBER} \+ {NUMBER} a MB \|",
        rf"\| 2 \| {NUMBER} \| {NUMBER} \| {NUMBER} \| .*%",
        r"\| VGG-16 \| 512 \| 68% \| 67% \|",
        r"262 MB of gradients in 8 messages; 1.90 times",
        r"\| 128 \| 396 \| 90% \| 28.4 \|",
        "written: docs/scaling.md, docs/scaling.png",
    ],
}


def run(command, folder):
    """Runs a command line as it stands on a page, and in small; returns what it prints."""
    mpirun, script, arguments = re.fullmatch(r"(mpirun -np 2 )?python (\S+)(.*)", command).groups()
    small = IN_SMALL.get(script, "")
    if "--epochs=" in arguments:
        small = small.replace("--max_iter=2", "--epochs=0.01")
    arguments = [*shlex.split(arguments), *small.split()]
    if not mpirun:
        return run_script(script, *arguments, cwd=folder, env=ENVIRONMENT, timeout=600).stdout
    launched = [*MPIRUN, "-np", "2", sys.executable, ROOT / script, *arguments]
    done = subprocess.run(launched, cwd=folder, capture_output=True, text=True, timeout=600, env=ENVIRONMENT)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo in small, and where `make demo` would have left it."""
    folder = tmp_path_factory.mktemp("pages")
    output = run_main(run_demo.main, folder, output_dir="out/demo", **SMALL_DEMO)
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
    output = run_main(run_demo.main, folder, output_dir="out/demo", **SMALL_DEMO)
    assert "Now open out/demo/report.html" in output
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_no_page_is_left_out():
    pages = [path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]]
    with_commands = [page for page in pages if re.search(COMMAND, (ROOT / page).read_text(), re.M)]
    assert sorted(with_commands) == sorted(PAGES)
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170
    for page in pages:
        for link in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    # Benchmarks and recipes have tests of their own below, and the studies have in tests/demo.
    [c for c in COMMANDS if not any(word in c for word in ("benchmarks/", "flagfile", *STUDIES))],
    ids=lambda c: c.split(" --")[0],
)
def test_command(demo, command):
    folder, *_ = demo
    if "http.server" in command:
        # It runs on, as its "&" says, for the download that follows.
        arguments = shlex.split(command.removesuffix(" &"))[1:]
        demo[2].append(subprocess.Popen([sys.executable, *arguments], cwd=folder))
        return
    # The small world has other images than the pages', but the same classes.
    run(command.replace("val_000003", "val_000001").replace("002_0005", "002_0001").replace("000276", "000001"), folder)


@pytest.mark.slow
def test_the_recipe_of_the_paper(demo, tmp_path):
    """Without ML-Images: on the demo's records, with fewer classes and a smaller batch and network."""
    recipe = next(c for c in COMMANDS if "ml_images.flags" in c).replace(
        "./dataset/tencent-ml-images", "out/demo/records"
    )
    script, *arguments = shlex.split(recipe.replace("example/", f"{ROOT}/example/"))[1:]
    arguments += f"--class_num=193 --test_interval=0 --accumulate_steps=2 --max_iter=2 --batch_size=2 --image_size=64 \
        --model_dir={tmp_path}/checkpoint --log_dir={tmp_path}/log".split()
    planned = run_script(script, *arguments, "--dry_run", cwd=demo[0]).stdout
    assert "ResNet-101" in planned
    assert "saved" in run_script(script, *arguments, "--resnet_size=10", cwd=demo[0], timeout=600).stdout


@pytest.mark.slow
def test_the_recipe_of_fine_tuning(tmp_path):
    """Without ImageNet: on a few images of three classes in its archives, as many steps as show that it runs."""
    (tmp_path / "imagenet").mkdir()
    imagenet(tmp_path / "imagenet", "archives")
    recipe = next(c for c in COMMANDS if "imagenet.flags" in c).replace("./dataset", str(tmp_path))
    script, *arguments = shlex.split(recipe.replace("example/", f"{ROOT}/example/"))[1:]
    arguments += f"--model_dir={tmp_path}/out --log_dir={tmp_path}/log --pretrain_ckpt= --batch_size=2 --max_iter=2 \
        --test_interval=2 --lr=0 --image_size=32 --val_sizes=32 --val_crops=center".split()
    output = run_script(script, *arguments, cwd=tmp_path, timeout=600).stdout  # the rate is none for random weights
    assert "ResNet-101, 3 classes" in output and "the rest is frozen" in output and "best checkpoint: step 2" in output


@pytest.mark.slow
def test_the_recipe_of_detection(tmp_path):
    """Without VOC: on the tars of a small devkit, and with a small network from random weights."""
    devkit = voc_devkit.packed_as_published(tmp_path / "VOCdevkit", voc_devkit.small())
    recipe = next(c for c in COMMANDS if "voc2007.flags" in c).replace("voc2007:VOCdevkit", f"voc2007:{devkit}")
    script, *arguments = shlex.split(recipe.replace("example/", f"{ROOT}/example/"))[1:]
    arguments += f"--data_dir={tmp_path}/records --model_dir={tmp_path}/out --log_dir={tmp_path}/log --pretrain_ckpt= \
        --resnet_size=10 --max_iter=2 --test_interval=2 --image_size=64 --anchor_sizes=16,32 --regions=8".split()
    output = run_script(script, *arguments, cwd=tmp_path, timeout=600).stdout
    assert "Faster R-CNN on ResNet-10, 20 classes" in output and "best checkpoint: step 2" in output


@pytest.mark.slow
def test_the_recipe_of_segmentation(demo, tmp_path):
    """Without VOC and SBD: on the demo's scenes with masks, and with a small network from random weights."""
    recipe = next(c for c in COMMANDS if "voc2012_segmentation.flags" in c).replace("--sbd=benchmark_RELEASE ", "")
    recipe = recipe.replace("voc2012seg:VOCdevkit", f"voc2012seg:{demo[0]}/out/demo/world/voc")
    script, *arguments = shlex.split(recipe.replace("example/", f"{ROOT}/example/"))[1:]
    arguments += f"--data_dir={tmp_path}/records --model_dir={tmp_path}/out --log_dir={tmp_path}/log --pretrain_ckpt= \
        --resnet_size=10 --max_iter=2 --test_interval=2 --image_size=65".split()
    output = run_script(script, *arguments, cwd=tmp_path, timeout=600).stdout
    assert "DeepLab v3 on ResNet-10, 21 classes" in output and "best checkpoint: step 2" in output


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if "benchmarks/" in c], ids=lambda c: c.split()[1])
def test_benchmark(command, tmp_path):
    """In small: it measures all that it compares, and checks that all did the same."""
    output = run(command, tmp_path)
    for expected in PRINTED[command.split()[1]]:
        assert re.search(expected, output), f"{expected} is not in:\n{output}"


def test_make_targets_of_the_first_lines():
    for target in ("demo", "test"):
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert ("demo/run_demo.py" if target == "demo" else "pytest") in planned
