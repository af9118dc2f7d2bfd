"""A network in use: where its checkpoint and head come from, one crop and ten, and scores against NumPy."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from data_processing.lists import dictionary
from data_processing.lists.dictionary import Entry
from models import checkpoint, inference
from models.resnet import NetworkConfig, build_resnet
from tests.helpers import fold_by_hand

CLASSES = 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny network, and the folder of its checkpoint."""
    model = build_resnet(10, CLASSES, seed=3)
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.save(folder, 5, checkpoint.model_variables(model), 1, checkpoint.Metadata("softmax", image_size=32))
    return model, folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, [3, 10, 32, 32, 3]).astype(np.float32)


def test_a_checkpoint_as_a_user_names_it(saved, images):
    """A folder; NCHW, which a machine without a GPU does not have; and what the user believes it to be."""
    model, folder = saved
    loaded, description, prefix, classes = inference.load(
        folder, NetworkConfig("NCHW"), {"resnet_size": 10, "class_num": 4}
    )
    assert prefix == str(folder / "model.ckpt-5")
    assert description == checkpoint.Description(10, CLASSES, 5, "softmax", image_size=32) and classes is None
    expected = model(images[:, 0], training=False)["logits"]
    np.testing.assert_allclose(loaded(images[:, 0], training=False)["logits"], expected, atol=1e-5)
    with pytest.raises(checkpoint.CheckpointError, match="--class_num=7, but .* has class_num 4"):
        inference.load(prefix, expected={"class_num": 7})


@pytest.mark.parametrize(
    ("asked", "held", "multi_label", "head", "source"),
    [
        ("sigmoid", None, False, "sigmoid", "--head"),
        ("sigmoid", "sigmoid", False, "sigmoid", "the checkpoint says so"),
        (None, "softmax", True, "softmax", "the checkpoint says so"),
        (None, "sigmoid", False, "sigmoid", "the checkpoint says so"),
        (None, None, True, "sigmoid", "the dictionary is multi-label; --head changes it"),
        (None, None, False, "softmax", "the dictionary is single-label; --head changes it"),
    ],
)
def test_head_is_what_the_flag_then_the_checkpoint_then_the_dictionary_says(asked, held, multi_label, head, source):
    description = checkpoint.Description(10, CLASSES, 5, held)
    assert inference.choose_head(asked, description, multi_label) == (head, source)


def test_a_head_that_contradicts_the_checkpoint_is_an_error():
    description = checkpoint.Description(10, CLASSES, 5, "softmax")
    with pytest.raises(checkpoint.CheckpointError, match="--head=sigmoid, but the checkpoint .* softmax"):
        inference.choose_head("sigmoid", description, True)


NAMES = "0\tdog\n1\tcat\n2\towl\n3\tdove, pigeon\n"


def test_classes_are_the_checkpoints_or_of_a_dictionary(saved, tmp_path):
    """In the checkpoint, beside it, or by flag; and none of other names or of another number."""
    variables = checkpoint.model_variables(saved[0])
    silent = checkpoint.save(tmp_path / "silent", 1, variables, 1)
    assert inference.classes_of(silent) is None
    (tmp_path / "names.txt").write_text(NAMES)
    (tmp_path / "other.txt").write_text(NAMES.replace("owl", "eagle"))
    (tmp_path / "fewer.txt").write_text(NAMES[:6])
    assert inference.classes_of(silent, tmp_path / "names.txt").names[3] == "dove, pigeon"
    with pytest.raises(checkpoint.CheckpointError, match="fewer.txt has 1 classes and .* 4"):
        inference.classes_of(silent, tmp_path / "fewer.txt")
    (tmp_path / "silent/dictionary.txt").write_text(NAMES)
    assert inference.classes_of(silent).names[0] == "dog"
    knowing = checkpoint.save(tmp_path / "knowing", 1, variables, 1, checkpoint.Metadata(dictionary=NAMES))
    assert inference.load(knowing).classes.names == ["dog", "cat", "owl", "dove, pigeon"]
    assert inference.classes_of(knowing, tmp_path / "names.txt").text == NAMES
    with pytest.raises(checkpoint.CheckpointError, match="class 2 is 'eagle' instead of 'owl'"):
        inference.classes_of(knowing, tmp_path / "other.txt")


def test_weights_that_are_not_finite_are_refused(saved, tmp_path):
    values = {name: variable.numpy() for name, variable in checkpoint.model_variables(saved[0]).items()}
    values["stages_1_block_0/conv1_b2/conv2d/kernel"][0, 0, 0, 0] = np.nan
    prefix = checkpoint.save(tmp_path, 1, values, 1)
    with pytest.raises(checkpoint.CheckpointError, match="stages_1_block_0/conv1_b2/conv2d/kernel holds NaN"):
        inference.load(prefix)


@pytest.mark.parametrize("output", ["feature", "logits"])
def test_ten_crops_are_the_mean_of_ten(saved, images, output):
    """To the bit, compiled or not, as a sum over crops that are computed each alone."""
    model, _ = saved
    one = inference.output_function(model, output)
    expected = tf.add_n([one(images[:, k]) for k in range(10)]) / 10
    np.testing.assert_array_equal(inference.output_function(model, output)(tf.constant(images)), expected)
    np.testing.assert_allclose(inference.apply(model, images, output), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one(images[:, 3]), model(images[:, 3], training=False)[output], rtol=1e-5, atol=1e-6)


def test_crops_do_not_need_ten_times_the_memory():
    assert [inference.images_at_once(size, "center") for size in (7, 512)] == [7, 512]
    assert [inference.images_at_once(size, "10crop") for size in (7, 64, 512)] == [7, 32, 51]


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def first_pixels(images, training):
    """A network whose logits are the first pixels of the image."""
    assert not training
    return {"logits": images[:, 0, :, 0]}


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_heads(head):
    logits = np.random.default_rng(0).normal(size=[4, 9]).astype(np.float32) * 10
    exponentials = np.exp(logits.astype(np.float64))
    expected = sigmoid(logits) if head == "sigmoid" else exponentials / exponentials.sum(1, keepdims=True)
    scores = inference.score_function(first_pixels, head)(logits[:, None, :, None])
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("xla", [False, True])
def test_the_last_smaller_batch_traces_and_compiles_nothing_anew(xla):
    """A network is called as often as it is traced; in XLA's program the number of rows is a constant."""
    traces = []

    def counting(images, training):
        traces.append(images.shape)
        # Shows how many rows the program has.
        return {"logits": images[:, 0, :, 0] + tf.cast(tf.shape(images)[0], tf.float32)}

    images = np.random.default_rng(0).normal(size=[5, 1, 9, 1]).astype(np.float32)
    score = inference.score_function(counting, "sigmoid", xla=xla)
    np.testing.assert_allclose(score(images), sigmoid(images[:, 0, :, 0] + 5), rtol=1e-5)
    rows = 5 if xla else 2
    np.testing.assert_allclose(score(images[:2]), sigmoid(images[:2, 0, :, 0] + rows), rtol=1e-5)
    assert traces == [(None, 1, 9, 1)]
    score(images[:, :, :4])
    assert len(traces) == 2


@settings(max_examples=25, deadline=None)
@given(data=st.data(), classes=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_any_hierarchy(data, classes, seed):
    """Random forests in random order, so that parents stand before and after their children."""
    above = [data.draw(st.integers(-1, k - 1)) for k in range(classes)]
    rng = np.random.default_rng(seed)
    place = rng.permutation(classes)
    parents = [-1] * classes
    for k, parent in enumerate(above):
        parents[place[k]] = -1 if parent == -1 else int(place[parent])
    ancestors = dictionary.ancestors([Entry(k, "", parent, "") for k, parent in enumerate(parents)])
    logits = rng.normal(size=[3, classes]).astype(np.float32)
    scores = inference.score_function(first_pixels, "sigmoid", ancestors)(logits[:, None, :, None])
    np.testing.assert_allclose(scores, fold_by_hand(sigmoid(logits), parents), rtol=1e-5)


def test_a_classification_networks_checkpoint_is_no_detector(tmp_path):
    checkpoint.save(tmp_path, 3, checkpoint.model_variables(build_resnet(10, 4)), 1, checkpoint.Metadata("softmax"))
    with pytest.raises(checkpoint.CheckpointError, match="no detector.*finetune.py"):
        inference.load_detector(tmp_path)
