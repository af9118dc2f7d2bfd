"""Checkpoints against TensorFlow 1's own Saver (tf.compat.v1), in both directions."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models import checkpoint, inference
from models.checkpoint import CheckpointError, Description, Metadata
from models.resnet import build_resnet


def tf1_names(blocks, bottleneck, class_num):
    """Names and shapes of DESIGN section 4, written down independently of `models`."""

    def bn(scope, width):
        return {
            f"{scope}/batch_normalization/{v}": (width,) for v in ("gamma", "beta", "moving_mean", "moving_variance")
        }

    shapes = {"init/init_conv/conv2d/kernel": (7, 7, 3, 64)}
    width = 64
    for i, count in enumerate(blocks):
        out = (256 if bottleneck else 64) * 2**i
        for j in range(count):
            scope = f"stages_{i}_block_{j}"
            if j == 0:
                shapes |= bn(f"{scope}/conv1_b1_bn", width) | {f"{scope}/conv1_b1/conv2d/kernel": (1, 1, width, out)}
            kernels = [(3, out), (3, out)]
            if bottleneck:
                kernels = [(1, out // 4), (3, out // 4), (1, out)]
            for n, (k, filters) in enumerate(kernels, 1):
                shapes |= bn(f"{scope}/conv{n}_b2_bn", width) | {
                    f"{scope}/conv{n}_b2/conv2d/kernel": (k, k, width, filters)
                }
                width = filters
    shapes |= bn("global_pool/bn", width)
    return shapes | {"logits/dense/kernel": (width, class_num), "logits/dense/bias": (class_num,)}


def write_tf1(prefix, arrays):
    """Saves `arrays` with TensorFlow 1's Saver in a graph and a session, as the release did."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(n, initializer=tf.constant(a), use_resource=False) for n, a in arrays.items()
        ]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(prefix), write_meta_graph=False)


def random_arrays(shapes, seed=0):
    random = np.random.default_rng(seed)
    return {name: random.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def tf1_checkpoint(tmp_path_factory):
    """A ResNet-50 of 9 classes as TensorFlow 1 leaves it in training, with slots, step and an unrelated variable."""
    prefix = tmp_path_factory.mktemp("tf1") / "resnet.ckpt"
    arrays = random_arrays(tf1_names((3, 4, 6, 3), True, 9))
    slots = {f"{name}/Momentum": array * 2 for name, array in arrays.items() if "moving" not in name}
    write_tf1(prefix, arrays | slots | {"global_step": np.int64(4400), "Variable": np.float32(1)})
    return str(prefix), arrays, slots


def test_import_restores_every_bit(tf1_checkpoint):
    prefix, arrays, _ = tf1_checkpoint
    model, description, _, _ = inference.load(prefix)
    assert description == Description(50, 9, 4400)
    variables = checkpoint.model_variables(model)
    assert variables.keys() == arrays.keys()
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable, arrays[name])


def test_export_is_read_by_tensorflow_1(tf1_checkpoint, tmp_path):
    prefix, arrays, slots = tf1_checkpoint
    model = inference.load(prefix).model
    exported = checkpoint.save(tmp_path, 4401, checkpoint.model_variables(model) | slots, 5)
    expected = arrays | slots
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, array.shape) for name, array in expected.items()]
        step = tf.compat.v1.get_variable("global_step", shape=[], dtype=tf.int64)
        tf.compat.v1.train.Saver([*variables, step]).restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        for (name, array), value in zip(expected.items(), session.run(variables), strict=True):
            np.testing.assert_array_equal(value, array, err_msg=name)
        assert session.run(step) == 4401
    assert exported.endswith("model.ckpt-4401")


def test_a_folder_with_a_published_checkpoint(tf1_checkpoint, tmp_path):
    prefix = tf1_checkpoint[0]
    folder = os.path.dirname(prefix)
    assert checkpoint.resolve(folder) == prefix == checkpoint.resolve(prefix + ".index")
    for ending in (".index", ".data-00000-of-00001"):  # downloaded, without the file `checkpoint`
        os.link(prefix + ending, tmp_path / f"resnet.ckpt{ending}")
    assert checkpoint.resolve(tmp_path) == str(tmp_path / "resnet.ckpt")


@pytest.mark.parametrize("size", [18, 34, 50, 101])
def test_names_and_shapes_of_each_depth(size):
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[size]
    variables = checkpoint.model_variables(build_resnet(size, 3))
    assert {n: tuple(v.shape) for n, v in variables.items()} == tf1_names(blocks, size >= 50, 3)


def test_another_class_num_names_both_and_the_flag(tf1_checkpoint):
    with pytest.raises(CheckpointError, match=r"has 9 classes and this run 12: set --class_num=9"):
        checkpoint.restore(tf1_checkpoint[0], checkpoint.model_variables(build_resnet(50, 12)))


@pytest.mark.parametrize("size", [101, 34, 18])
def test_another_depth_names_the_flag_and_assigns_nothing(tf1_checkpoint, size):
    prefix, arrays, _ = tf1_checkpoint
    variables = checkpoint.model_variables(build_resnet(size, 9))
    before = {name: variable.numpy() for name, variable in variables.items()}
    with pytest.raises(CheckpointError, match="set --resnet_size=50") as error:
        checkpoint.restore(prefix, variables)
    counts = f"{len(before.keys() - arrays.keys())} missing, {len(arrays.keys() - before.keys())} extra"
    assert counts in str(error.value)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable, before[name])


def test_lists_missing_extra_and_misshapen(tmp_path):
    arrays = random_arrays(tf1_names((2, 2, 2, 2), False, 4))
    del arrays["global_pool/bn/batch_normalization/beta"]
    arrays["init/init_conv/conv2d/bias"] = np.zeros(64, np.float32)
    arrays["logits/dense/bias"] = np.zeros(5, np.float32)
    prefix = checkpoint.save(tmp_path, 1, arrays, 1)
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore(prefix, checkpoint.model_variables(build_resnet(18, 4)))
    assert "missing: global_pool/bn/batch_normalization/beta (512,)" in str(error.value)
    assert "extra: init/init_conv/conv2d/bias (64,)" in str(error.value)
    assert "shape: logits/dense/bias is (5,), needed (4,)" in str(error.value)


def test_weights_without_training_state_say_pretrain_ckpt(tmp_path):
    prefix = checkpoint.save(tmp_path, 1, {"logits/dense/kernel": np.ones((2, 3), np.float32)}, 1)
    wanted = {"logits/dense/kernel": tf.Variable(tf.zeros([2, 3])), "loss/step": tf.Variable(0)}
    with pytest.raises(CheckpointError, match="--pretrain_ckpt"):
        checkpoint.restore(prefix, wanted)


def test_max_to_keep_and_newest(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, step, {"x": np.full(3, step)}, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["checkpoint"] + [f"model.ckpt-{s}.{e}" for s in (10, 100) for e in ("index", "data-00000-of-00001")]
    )
    assert checkpoint.newest(tmp_path) == str(tmp_path / "model.ckpt-100") == tf.train.latest_checkpoint(str(tmp_path))


def test_missing_and_damaged(tmp_path):
    with pytest.raises(CheckpointError, match="holds 0 checkpoints"):
        checkpoint.resolve(tmp_path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.resolve(tmp_path / "model.ckpt-7")
    prefix = checkpoint.save(tmp_path, 7, {"x": np.arange(1000.0)}, 1)
    with pytest.raises(CheckpointError, match="no checkpoint of our network"):
        checkpoint.describe(prefix)
    data = tmp_path / "model.ckpt-7.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.restore(prefix, {"x": tf.Variable(np.zeros(1000))})
    (tmp_path / "model.ckpt-7.index").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.describe(prefix)


def test_metadata_is_stored_and_harms_no_older_reader(tmp_path):
    variables = checkpoint.model_variables(build_resnet(10, 4))
    metadata = Metadata("sigmoid", "weighted", 224, "0\tvélo\n1\t狗\n2\tc\n3\td\n")
    prefix = checkpoint.save(tmp_path, 3, variables, 1, metadata)
    assert checkpoint.describe(prefix) == (10, 4, 3, *metadata)
    checkpoint.restore(prefix, variables)
    assert tf.train.load_checkpoint(prefix).get_tensor("head") == b"sigmoid"


def test_pretrained_weights_but_for_scopes_that_do_not_fit(tmp_path):
    def variables(class_num, seed):
        return checkpoint.model_variables(build_resnet(10, class_num, seed=seed))

    before = variables(4, 1)
    prefix = checkpoint.save(tmp_path, 3, before, 1)
    for class_num, new in ((4, ()), (7, ("logits/",))):
        after, untouched = variables(class_num, 2), variables(class_num, 2)
        assert checkpoint.restore_pretrained(prefix, after, ("logits/", "init/")) == new
        for name, variable in after.items():
            expected = untouched if name.startswith(new) else before
            np.testing.assert_array_equal(variable, expected[name], err_msg=name)
    after = variables(4, 2)
    assert checkpoint.restore_pretrained(prefix, after, ("logits/",), anew=("logits/",)) == ("logits/",)
    np.testing.assert_array_equal(after["logits/dense/kernel"], variables(4, 2)["logits/dense/kernel"])
    with pytest.raises(CheckpointError, match="has 4 classes and this run 7"):
        checkpoint.restore_pretrained(prefix, variables(7, 2))
    # A network without logits, of boxes or masks say, gives its weights on.
    headless = {name: v for name, v in before.items() if not name.startswith("logits/")}
    prefix = checkpoint.save(tmp_path / "headless", 5, headless, 1)
    assert checkpoint.describe(prefix) == Description(10, 0, 5)
    assert checkpoint.restore_pretrained(prefix, variables(7, 2), ("logits/",)) == ("logits/",)
    with pytest.raises(CheckpointError, match="it classifies nothing"):
        inference.load(prefix)
    features = inference.load(prefix, with_logits=False).model
    np.testing.assert_array_equal(features.get_layer("init.init_conv").kernel, before["init/init_conv/conv2d/kernel"])


def test_killed_while_saving_leaves_the_last_checkpoint(tmp_path):
    """A process that saves without pause is killed at several moments; what is there must always be whole."""
    code = f"""
import sys, itertools, numpy as np
from models import checkpoint
for step in itertools.count(1):
    checkpoint.save({str(tmp_path)!r}, step, {{"x": np.full(300_000, float(step))}}, 3)
    print(step, flush=True)
"""
    for pause in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2 + 3 * pause):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        prefix = checkpoint.newest(tmp_path)
        x = tf.Variable(np.zeros(300_000))
        checkpoint.restore(prefix, {"x": x})
        assert (x.numpy() == int(prefix.rpartition("-")[2])).all()


def test_what_killed_processes_left_is_swept(tmp_path):
    prefix = checkpoint.save(tmp_path, 3, {"x": np.zeros(3, np.float32)}, 1)
    (tmp_path / ".saving-abc").mkdir()
    (tmp_path / ".saving-abc" / "model.ckpt.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / ".saving-checkpoint").write_text("half")
    checkpoint.sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint", "model.ckpt-3.index", "model.ckpt-3.data-00000-of-00001"}
    assert checkpoint.newest(tmp_path) == prefix


@pytest.mark.parametrize("damage", ["empty", "flipped", "missing"])
def test_the_newest_that_can_be_described(tmp_path, damage):
    kernel = {checkpoint.FIRST_KERNEL: np.zeros((7, 7, 3, 64), np.float32)}
    assert checkpoint.describe_newest(tmp_path) == (None, None)
    for step in (3, 4):
        prefix = checkpoint.save(tmp_path, step, kernel, 2, Metadata("sigmoid", dictionary="0\tdog\n"))
    data = tmp_path / "model.ckpt-4.data-00000-of-00001"
    {
        "empty": lambda: data.write_bytes(b""),
        "flipped": lambda: data.write_bytes(bytes(255 - b for b in data.read_bytes())),
        "missing": data.unlink,
    }[damage]()
    with pytest.raises(checkpoint.DamagedError, match="model.ckpt-4: damaged"):
        checkpoint.describe(prefix)
    newest, described = checkpoint.describe_newest(tmp_path)
    assert newest.endswith("model.ckpt-3") and described.head == "sigmoid"
