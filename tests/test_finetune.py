"""finetune.py as a user runs it, on small folders of classes and on records."""

import json
from pathlib import Path
import re
import shutil

from absl.testing import flagsaver
import numpy as np
import pytest
import tensorflow as tf

import finetune
from models import checkpoint
from models.resnet import build_resnet
from tests.helpers import assert_same_tensors, jpeg, mpirun, python, tensors, write_shard
from tests.helpers import run as run_process
from tests.scripts import run_script

NAMES = ["black", "red", "green"]
STEPS, SWITCH = 12, 3
# Three steps an epoch, and larger images from the second on.
SETTINGS = dict(
    resnet_size=10,
    data_format="NHWC",
    batch_size=8,
    lr=0.02,
    max_iter=STEPS,
    batch_norm_decay=0.5,
    rotated=0,
    color_jitter=0,
    num_preprocess_threads=1,
    val_sizes="32,40",
    test_interval=0,
)
WHOLE = dict(
    image_size_schedule="0:32,1:40",
    snapshot=3,
    test_interval=3,
    log_interval=3,
    ema_decay=0.5,
    drop_rate=0.1,
    label_smoothing=0.1,
    lr_layer_decay=0.8,
    lr_schedule="cosine",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images in folders of three classes, and a pre-trained network of seven."""
    folder = tmp_path_factory.mktemp("finetune")
    rng = np.random.default_rng(0)
    for k, name in enumerate(NAMES):
        (folder / "classes" / name).mkdir(parents=True)
        for n in range(10):
            (folder / "classes" / name / f"{n}.jpg").write_bytes(jpeg(k, rng))
    checkpoint.save(folder / "pretrained", 70, checkpoint.model_variables(build_resnet(10, 7, seed=5)), 1)
    return folder


def finetune_flags(folder, out, **options):
    flags = dict(pretrain_ckpt=folder / "pretrained", model_dir=out / "model", log_dir=out / "log")
    return [f"--{name}={value}" for name, value in (flags | SETTINGS | options).items()]


def run(*args, **options):
    return run_script("finetune.py", *finetune_flags(*args, **options)).stdout


def of_folders(folder):
    return dict(dataset=f"folder:{folder / 'classes'}", train_per_class=8, data_dir=folder / "records")


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, run(folder, out, **of_folders(folder), **WHOLE)


def test_says_what_it_does(folder, whole):
    _, output = whole
    assert "softmax head (single labels), softmax loss; all layers are trained" in output
    assert "validated at 32 and 40 pixels; the best at 40 is kept" in output
    assert "learning rates by layer: times logits 1, stages_3 0.8, stages_2 0.64" in output
    assert f"starting from the weights of {folder}/pretrained/model.ckpt-70" in output
    assert "new logits layer: 3 classes here, 7 in the checkpoint" in output
    assert "24 records (single labels) in 1 shards; batch 8, 3.0 steps an epoch; 12 steps = 4.0 epochs" in output
    assert f"step {SWITCH}: images are 40 x 40 from here on" in output
    assert re.findall(r"^step (\d+)  validation  top_1", output, re.M) == ["3", "6", "9", "12"]


def test_the_best_checkpoint_is_kept_and_validated_at_all_sizes_and_crops(whole):
    out, output = whole
    validations = {
        int(step): float(value) for step, value in re.findall(r"step (\d+)  validation  top_1 (\S+)", output)
    }
    kept = json.loads((out / "model/best/validation.json").read_text())
    assert kept["metrics"]["top_1"] == pytest.approx(max(validations.values()), abs=1e-4)
    assert kept["step"] == next(step for step, value in validations.items() if value == max(validations.values()))
    assert checkpoint.describe(checkpoint.resolve(out / "model/best"))[:7] == (
        10,
        3,
        kept["step"],
        "softmax",
        "softmax",
        40,
        "".join(f"{k}\t{name}\n" for k, name in enumerate(sorted(NAMES))),
    )
    last = json.loads((out / "model/validation.json").read_text())
    assert list(last["metrics"]) == ["32, center", "32, 10crop", "40, center", "40, 10crop"]
    # The colours are learnt, with a network that began without them: chance is a third.
    assert last["metrics"]["40, center"] == kept["metrics"]
    assert kept["metrics"]["top_1"] >= 0.66
    assert all(f"{title:16}{metrics['top_1']:12.4f}" in output for title, metrics in last["metrics"].items())


def test_a_final_table_of_some_images_says_so_and_has_the_same_for_one_crop_and_for_ten(folder, whole, tmp_path):
    shutil.copytree(whole[0] / "model", tmp_path / "model")
    again = run(folder, tmp_path, **of_folders(folder), **WHOLE, test_iter=1, batch_size=2, val_crops="center")
    assert "; on 2 of 6 images" in again and "resuming after step 12" in again
    table = json.loads((tmp_path / "model/validation.json").read_text())["metrics"]
    assert list(table) == ["32, center", "40, center"] and all(row["top_1"] in (0, 0.5, 1) for row in table.values())


def test_a_restart_right_after_the_switch_of_sizes_continues_exactly(folder, whole, tmp_path):
    out, output = whole
    (tmp_path / "model").mkdir()
    for path in (out / "model").glob(f"model.ckpt-{SWITCH}.*"):
        shutil.copy(path, tmp_path / "model")
    again = run(folder, tmp_path, **of_folders(folder), **WHOLE)
    assert f"resuming after step {SWITCH}" in again and "--pretrain_ckpt is for the beginning of a run" in again
    assert re.findall(r"^step (\d+)  epoch", again, re.M) == ["6", "9", "12"]
    expected, actual = (tensors(place / f"model/model.ckpt-{STEPS}") for place in (out, tmp_path))
    assert np.abs(expected["logits/dense/kernel/Momentum"]).max() > 0 and "weight_average/steps" in actual
    assert_same_tensors(actual, expected, rtol=1e-5)


def test_the_best_network_names_images_and_its_export_gives_the_same_answers(folder, whole, tmp_path):
    """Preprocessing, names and scores of the SavedModel against image_classification.py, on files of several kinds."""
    from PIL import Image

    best = whole[0] / "model/best"
    (tmp_path / "images").mkdir()
    original = Image.open(folder / "classes/red/9.jpg")
    original.resize((97, 61)).save(tmp_path / "images/a.jpg", progressive=True)
    original.resize((61, 97)).save(tmp_path / "images/b.png")
    original.convert("L").save(tmp_path / "images/c.jpg")
    original.convert("P").save(tmp_path / "images/d.gif")
    original.save(tmp_path / "images/e.bmp")
    alpha = Image.linear_gradient("L").resize(original.size)
    Image.merge("RGBA", [*original.split(), alpha]).save(tmp_path / "images/f.png")
    common = [f"--model_dir={best}", "--image_size=40", "--data_format=NHWC", "--top_k_pred=3"]
    options = [f"--images={tmp_path}/images", f"--result={tmp_path}/result.json"]
    assert "3 classes, softmax head" in run_script("image_classification.py", *common, *options).stdout
    output = run_script("export.py", *common, f"--output_dir={tmp_path}/exported").stdout
    assert f"written: {tmp_path}/exported, ResNet-10, 3 classes, softmax head (the checkpoint says so), " in output
    assert output.endswith("for 40 pixels (--image_size), no threshold\n")

    expected = json.loads((tmp_path / "result.json").read_text())
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    answers = exported.serve(tf.constant([Path(row["image"]).read_bytes() for row in expected]))
    served = exported.signatures["serving_default"](image=tf.constant([Path(expected[0]["image"]).read_bytes()]))
    np.testing.assert_allclose(served["score"], answers["score"][:1], atol=1e-5)
    assert exported.serve(tf.constant([], tf.string))["score"].shape == (0, 3)
    for row, names, scores, indices in zip(
        expected, *(answers[key].numpy() for key in ("name", "score", "index")), strict=True
    ):
        assert [answer["name"] for answer in row["classes"]] == [name.decode() for name in names], row["image"]
        assert [answer["index"] for answer in row["classes"]] == indices.tolist()
        # (libjpeg's fast and exact inverse transforms differ by a grey level here and there.)
        np.testing.assert_allclose(scores, [answer["score"] for answer in row["classes"]], atol=0.02)
    assert {name.decode() for name in answers["name"].numpy().ravel()} == set(NAMES)
    # (A true process, as a user starts it.)
    again = run_process(python("export.py", *common, f"--output_dir={tmp_path}/exported"), status=1)
    assert again.returncode == 1 and f"{tmp_path}/exported is not empty; name a new folder" in again.stderr


def test_a_plan_builds_nothing(folder, tmp_path):
    options = of_folders(folder) | dict(data_dir=tmp_path / "records", dry_run="true", max_iter=-1)
    output = run(folder, tmp_path, **options)
    assert (
        "ResNet-10, 3 classes" in output and "24 records (single labels)" in output and "memory of a process" in output
    )
    assert list(tmp_path.iterdir()) == []


def test_the_shortest_command_takes_size_and_depth_from_the_checkpoint_and_time_from_the_data(folder, whole, tmp_path):
    """Of classes of the same names the logits are kept; and with --new_logits they are not."""
    best = whole[0] / "model/best"
    short = [
        f"--data_dir={folder}/records",
        f"--pretrain_ckpt={best}",
        f"--log_dir={tmp_path}/log",
        "--val_crops=center",
    ]
    output = run_script("finetune.py", *short, f"--model_dir={tmp_path}/plan", "--dry_run").stdout
    assert "ResNet-10, 3 classes" in output and "batch 32, 0.8 steps an epoch; 500 steps = 666.7 epochs" in output
    assert "chosen by the size of the data: 500 steps = 666.7 epochs (--epochs), learning rate " in output
    output = run_script("finetune.py", *short, f"--model_dir={tmp_path}/model", "--epochs=1.5", "--lr=0").stdout
    assert "validated at 40 pixels" in output and "2 steps = 2.7 epochs" in output and "new logits" not in output
    names = ("logits/dense/kernel", "logits/dense/bias")
    before, after = tensors(checkpoint.resolve(best)), tensors(tmp_path / "model/model.ckpt-2")
    assert all((before[name] == after[name]).all() for name in names)
    output = run_script(
        "finetune.py", *short, f"--model_dir={tmp_path}/new", "--max_iter=1", "--lr=0", "--new_logits"
    ).stdout
    assert "new logits layer: 3 classes here, 3 in the checkpoint (--new_logits)" in output


def test_a_run_that_goes_on_keeps_its_image_size_and_has_a_checkpoint_from_its_first_validation_on(folder, tmp_path):
    """The size of the images that it trains on, not the one that it validates at."""
    own = [
        f"--data_dir={folder}/records",
        "--resnet_size=10",
        "--image_size=32",
        "--val_sizes=40",
        "--val_crops=center",
    ]
    own += [f"--model_dir={tmp_path}/model", f"--log_dir={tmp_path}/log", "--lr=0.01", "--batch_size=8"]
    output = run_script("finetune.py", *own, "--max_iter=4", "--test_interval=2").stdout
    assert re.findall(r"step (\d+): saved|step (\d+)  validation", output) == [
        ("2", ""),
        ("", "2"),
        ("4", ""),
        ("", "4"),
    ]
    for k in (1, 2):
        resumed = [option for option in own if not option.startswith("--image_size")]
        output = run_script("finetune.py", *resumed, f"--max_iter={4 + k}", "--test_interval=0").stdout
        assert f"resuming after step {3 + k}" in output and "--image_size" not in output
    settings = json.loads((tmp_path / "model/settings.json").read_text())["settings"]
    assert settings["image_size"] == 32 and settings["max_iter"] == 6


def test_names_decide_whether_the_logits_are_kept(folder, whole, tmp_path):
    """As many classes, of other names."""
    variables = checkpoint.model_variables(build_resnet(10, 3, seed=5))
    names = "0\tblack\n1\tblue\n2\tgreen\n"
    checkpoint.save(tmp_path / "other", 1, variables, 1, checkpoint.Metadata("softmax", dictionary=names))
    checkpoint.save(tmp_path / "silent", 1, variables, 1)
    options = of_folders(folder) | dict(max_iter=1, val_sizes=32, image_size=32, val_crops="center")
    output = run(folder, tmp_path, **options, pretrain_ckpt=tmp_path / "other")
    assert "new logits layer: 3 classes here, 3 in the checkpoint (class 1 is 'green' instead of 'blue')" in output
    output = run(folder, tmp_path, **options, pretrain_ckpt=tmp_path / "silent", model_dir=tmp_path / "model2")
    assert "its classes are kept: they are as many, which not both name" in output


@pytest.mark.slow
@pytest.mark.parametrize("label_format", ["sparse", "single"])
def test_multi_label_fine_tuning_with_the_loss_of_pre_training(folder, tmp_path, label_format):
    for split in ("train", "val"):
        write_shard(tmp_path / f"{split}/0.tfrecords", label_format)
    options = dict(data_dir=tmp_path, class_num=5, loss="weighted", test_interval=6, image_size=32, val_sizes=32)
    output = run(folder, tmp_path, **options)
    assert "sigmoid head (--loss), weighted loss" in output and "new logits layer: 5 classes here, 7" in output
    assert re.search(r"step 12  epoch.*positive \d.*selected \d", output)
    metric = "macro_map" if label_format == "sparse" else "top_1"
    assert re.search(rf"step 12  validation  {metric} ", output)
    assert "loss/pos_count" in tensors(tmp_path / "model/model.ckpt-12")


@pytest.mark.slow
def test_frozen_layers_of_several_processes_keep_their_bits(folder, tmp_path):
    """Three processes: a third of a sum of three equal numbers need not be that number."""
    options = of_folders(folder) | dict(batch_size=2, FixBlock2="true", max_iter=4, val_sizes=32, image_size=32)
    output = mpirun(3, python("finetune.py", *finetune_flags(folder, tmp_path, **options)))
    assert "trained: stages_2, stages_3, global_pool, logits; the rest is frozen" in output
    assert output.count("best checkpoint: step 4") == 1
    before, after = tensors(folder / "pretrained/model.ckpt-70"), tensors(tmp_path / "model/model.ckpt-4")
    for name, tensor in before.items():
        if name.startswith(("init/", "stages_0", "stages_1")):
            np.testing.assert_array_equal(after[name], tensor, err_msg=name)
            assert f"{name}/Momentum" not in after
        elif not name.startswith(("logits", "global_step")):
            assert (after[name] != tensor).any(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(class_num="5"), r"--class_num=5, but the records in .* are of 3 classes; leave --class_num out"),
        (dict(resnet_size="50"), "is a ResNet-10: set --resnet_size=10, or give another checkpoint"),
        (dict(data_dir="{}/multi", class_num="5", head="softmax"), "has sparse labels.*they need --head=sigmoid"),
        (dict(dictionary="{}/five.txt"), "five.txt has 5 classes, and the records 3; give the records' dictionary"),
        (dict(dataset="tfds:no_such_thing", data_dir="{}/new"), "TensorFlow Datasets has no such dataset"),
        (dict(val_sizes="224,big"), "--val_sizes: 'big' is no size in pixels"),
        (dict(val_sizes=""), "--val_sizes: '' is no size in pixels"),
        (dict(model_dir="{}/other"), "other holds another run, or one with other settings; give a new folder"),
        (dict(model_dir="{}/left"), "left/best is of a run whose checkpoints are gone; give a new --model_dir"),
        (dict(data_dir="{}/begun"), "not finished; make them with --dataset=folder:x and the other flags as before"),
        (dict(pretrain_ckpt="{}/nowhere"), "nowhere: no such checkpoint; give a folder of checkpoints"),
        (dict(data_dir="{}/empty", test_interval="5"), "no shards"),
    ],
)
def test_says_what_does_not_fit(folder, whole, tmp_path, options, message):
    write_shard(tmp_path / "multi/train/0.tfrecords")
    (tmp_path / "five.txt").write_text("".join(f"{k}\tclass {k}\n" for k in range(5)))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/dataset.json").write_text('{"source": "folder:x"}')
    shutil.copytree(folder / "pretrained", tmp_path / "other")
    shutil.copytree(folder / "pretrained", tmp_path / "left/best")
    flags = dict(pretrain_ckpt=f"{folder}/pretrained", model_dir=f"{tmp_path}/model", log_dir=f"{tmp_path}/log")
    flags |= {name: str(value) for name, value in SETTINGS.items()} | dict(data_dir=f"{folder}/records")
    flags |= {name: value.format(tmp_path) for name, value in options.items()}
    if not finetune.FLAGS.is_parsed():
        finetune.FLAGS(["finetune.py"])
    with flagsaver.as_parsed(**flags), pytest.raises(ValueError, match=message):
        finetune.main([])
