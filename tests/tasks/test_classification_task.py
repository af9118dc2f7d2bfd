"""A classification task from the record to the metrics, single-label and multi-label."""

import dataclasses
import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.input_pipeline.transforms import Augmentation, decode_jpeg, evaluation_image
from data_processing.records import schema
from evaluation.evaluate import evaluate
from losses.multi_label import FUNCTIONS, LossConfig, MultiLabelLoss, balanced_weights
from losses.single_label import SoftmaxLoss
from losses.weighted import WeightedSigmoidLoss
from models.resnet import NetworkConfig, build_resnet
from tasks import classification
from tasks.classification import Classification, ClassificationConfig

CLASSES = 4
SIZE = 32
SEED = tf.constant([1, 2], tf.int64)


def record(kind, label=2):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(label).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    image = schema.Image(buffer.getvalue(), 48, 40, "a.jpg")
    return schema.encode(image, [label], [1.0], kind, CLASSES), buffer.getvalue()


@pytest.fixture(scope="module")
def model():
    return build_resnet(10, CLASSES)


def batch_of(*examples):
    return {name: tf.stack([example[name] for example in examples]) for name in examples[0]}


@pytest.mark.parametrize("kind, head", [("sparse", "sigmoid"), ("dense", "sigmoid"), ("single", "softmax")])
def test_from_the_record_to_the_metrics(model, kind, head):
    loss = SoftmaxLoss() if head == "softmax" else MultiLabelLoss()
    task = Classification(model=model, kind=kind, head=head, loss=loss)
    assert task.class_num == CLASSES and task.new_scopes == ("logits/",)
    data, encoded = record(kind)
    example = task.parse(data)
    np.testing.assert_array_equal(
        task.eval_transform(example, SIZE)["image"], evaluation_image(decode_jpeg(encoded), SIZE)
    )
    rows = [task.train_transform(example, SIZE, SEED), task.blank(SIZE, training=True) | {"name": "broken"}]
    batch = batch_of(*rows)
    assert batch["image"].shape == (2, SIZE, SIZE, 3) and not batch["image"][1].numpy().any()
    outputs = task.forward(batch)
    np.testing.assert_allclose(outputs["logits"], model(batch["image"])["logits"], rtol=1e-5)
    # The blank is worth nothing: the loss is that of the other (for sigmoids, half of it: a mean over two images).
    weights = task.loss.count(batch, 0)
    alone = task.loss(batch_of(rows[0]), {"logits": outputs["logits"][:1]}, weights)
    np.testing.assert_allclose(task.loss(batch, outputs, weights), alone / (1 if head == "softmax" else 2), rtol=1e-5)
    assert task.captions(batch, None)[0] == "2" and task.captions(batch, ["a", "b", "c", "d"])[0] == "c"
    valid = batch | {"valid": np.array([True, False])}
    evaluation = evaluate(task.evaluator(), [(valid, outputs)], max_skipped=0.5)
    assert evaluation.skipped == ["broken"] and task.primary_metric in evaluation.metrics


def test_single_labels_with_sigmoids_are_vectors_in_training_alone(model):
    task = Classification(model=model, kind="single", head="sigmoid", loss=MultiLabelLoss())
    example = task.parse(record("single")[0])
    np.testing.assert_array_equal(task.train_transform(example, SIZE, SEED)["label"], [0, 0, 1, 0])
    np.testing.assert_array_equal(task.blank(SIZE, training=True)["label"], [-1] * CLASSES)
    assert task.eval_transform(example, SIZE)["label"] == 2 and task.blank(SIZE, training=False)["label"] == -1
    assert task.primary_metric == "top_1"


@pytest.mark.parametrize("kind", ["sparse", "single"])
def test_augmentation_on_the_device(model, kind):
    """Bytes and what is drawn leave the host; the network, and who looks at the input, see what the host would make."""
    augmentation = Augmentation(rotated=0.0, color_jitter=1.0)
    host = Classification(model=model, kind=kind, augmentation=augmentation)
    device = dataclasses.replace(host, augmentation=augmentation._replace(augment_on="device"))
    example = host.parse(record(kind)[0])
    rows = [device.train_transform(example, SIZE, SEED), device.blank(SIZE, training=True)]
    batch = batch_of(*rows[::-1])
    assert batch["image"].dtype == tf.uint8 and batch["drawn"].shape == (2, 7)
    changed = device.augment(batch, SEED)
    assert changed.keys() == host.train_transform(example, SIZE, SEED).keys()
    assert changed["image"].dtype == tf.float32 and np.abs(changed["image"][0]).max() < 1 / 255 + 1e-6
    expected = host.train_transform(example, SIZE, SEED)
    np.testing.assert_allclose(changed["image"][1], expected["image"], atol=5.25 * 2 / 255)
    assert np.abs(changed["image"][1] - expected["image"]).mean() < 0.5 * 2 / 255
    np.testing.assert_array_equal(changed["label"][1], expected["label"])
    assert host.augment(batch_of(expected), SEED)["image"] is not None
    np.testing.assert_array_equal(device.pictures(batch, None), changed["image"] / 2 + 0.5)
    # Evaluation does not know of it.
    np.testing.assert_array_equal(
        device.eval_transform(example, SIZE)["image"], host.eval_transform(example, SIZE)["image"]
    )
    assert device.blank(SIZE, training=False).keys() == host.blank(SIZE, training=False).keys()


def test_images_are_augmented_where_there_is_a_gpu(monkeypatch):
    config = ClassificationConfig(10, NetworkConfig(), LossConfig(), Augmentation(augment_on=None))

    def chosen(config):
        return classification.build(config, "sparse", CLASSES, "sigmoid").run_settings()["augment_on"]

    for gpus, where in (([], "host"), (["gpu:0"], "device")):
        monkeypatch.setattr(classification.keras.distribution, "list_devices", lambda kind, gpus=gpus: gpus)
        config = config._replace(network=NetworkConfig(data_format="NHWC"))
        assert chosen(config) == where
        for asked in ("host", "device"):
            assert chosen(config._replace(augmentation=Augmentation(augment_on=asked))) == asked


def test_ten_crops_are_evaluated_as_their_mean(model):
    task = Classification(model=model, kind="single")
    ten = dataclasses.replace(task, crop="10crop")
    example = task.parse(record("single")[0])
    crops = ten.eval_transform(example, SIZE)["image"]
    assert crops.shape == ten.blank(SIZE, training=False)["image"].shape == (10, SIZE, SIZE, 3)
    mean = tf.reduce_mean(model(crops)["logits"], axis=0)
    np.testing.assert_allclose(ten.forward({"image": crops[None]})["logits"][0], mean, rtol=1e-4, atol=1e-6)
    assert task.eval_batch_size(64) == 64 > ten.eval_batch_size(64)


def test_dropout_acts_on_the_features_alone(model):
    """Against the network's own last layer on features of which half are set to 0 and the others doubled."""
    task = Classification(model=model, kind="single", batch_norm_training=False, drop_rate=0.5)
    images = tf.random.stateless_uniform([3, SIZE, SIZE, 3], [1, 2], -1, 1)
    outputs = task.forward({"image": images}, training=True, seed=SEED)
    feature = model(images)["feature"].numpy()
    kept = tf.nn.experimental.stateless_dropout(tf.ones_like(feature), 0.5, SEED).numpy()
    assert 0.3 < (kept == 0).mean() < 0.7 and set(np.unique(kept)) == {0, 2}
    np.testing.assert_allclose(outputs["logits"], model.get_layer("logits")(feature * kept), rtol=1e-4, atol=1e-6)


def test_build_chooses_loss_and_head():
    config = ClassificationConfig(10, NetworkConfig(), LossConfig(label_smoothing=0.1), Augmentation())
    kinds = {"weighted": WeightedSigmoidLoss, "sigmoid": MultiLabelLoss, "softmax": SoftmaxLoss}
    for loss, kind in kinds.items():
        task = classification.build(config, "single", CLASSES, loss)
        assert type(task.loss) is kind and task.head == ("softmax" if loss == "softmax" else "sigmoid")
        assert task.evaluation.ap_mode == "binned"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_build_gives_each_loss_its_function_smoothing_and_weights(name):
    config = ClassificationConfig(10, NetworkConfig(), LossConfig(label_smoothing=0.1), Augmentation())
    counts = np.array([1, 20, 300, 4000])
    loss = classification.build(config, "sparse", CLASSES, name, counts).loss
    assert type(loss) is MultiLabelLoss and loss.function is FUNCTIONS[name] and loss.config.label_smoothing == 0.1
    weights = balanced_weights(counts) if name == "class_balanced" else 1
    np.testing.assert_array_equal(loss.count({}, 0), weights)


def test_build_of_what_cannot_be(monkeypatch):
    config = ClassificationConfig(10, NetworkConfig(), LossConfig(), Augmentation())
    with pytest.raises(ValueError, match="--loss=class_balanced weighs classes by how often they occur"):
        classification.build(config, "sparse", CLASSES, "class_balanced")
    monkeypatch.setattr(classification.distributed, "ELASTIC", True)
    classification.build(config, "sparse", CLASSES, "weighted")
    for presence in ("rank", "part"):
        own = config._replace(losses=LossConfig(presence=presence))
        with pytest.raises(ValueError, match=f"--presence={presence} counts by process, and in elastic training"):
            classification.build(own, "sparse", CLASSES, "weighted")


@pytest.mark.parametrize(
    ("loss", "head", "kind", "expected"),
    [
        (None, None, "single", "softmax"),
        (None, None, "sparse", "sigmoid"),
        (None, "sigmoid", "single", "sigmoid"),
        (None, "softmax", "single", "softmax"),
        ("weighted", None, "single", "weighted"),
        ("weighted", "sigmoid", "dense", "weighted"),
        ("plain", None, "dense", "sigmoid"),
    ],
)
def test_the_loss_is_what_loss_then_head_then_records_say(loss, head, kind, expected):
    assert classification.choose_loss(loss, head, kind) == expected


@pytest.mark.parametrize(
    ("loss", "kind", "message"),
    [("weighted", "single", "--loss=weighted is of a sigmoid head"), (None, "dense", "dense")],
)
def test_softmax_that_is_contradicted(loss, kind, message):
    with pytest.raises(ValueError, match=message):
        classification.choose_loss(loss, "softmax", kind)
