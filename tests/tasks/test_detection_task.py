"""A detection task from the record to the metrics."""

import dataclasses
import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.input_pipeline import box_transforms
from data_processing.input_pipeline.batches import InputConfig, evaluation_batches, training_batches
from data_processing.input_pipeline.transforms import decode_jpeg
from data_processing.records import schema
from data_processing.records.index import index_records
from evaluation.evaluate import evaluate, predictions
from models import checkpoint
from models.resnet import NetworkConfig
from tasks import detection
from tests import box_records
from training.state import TrainState
from training.train_step import StepConfig, make_train_step

EDGES = ("left", "top", "right", "bottom")
SEED = tf.constant([1, 2], tf.int64)


def task_of(**options):
    config = detection.DetectionConfig(
        resnet_size=10,
        network=NetworkConfig(batch_norm_decay=0.9),
        **{"anchor_sizes": (24, 32, 48), "long_side": 128, "regions": 32, "proposals": 50} | options,
    )
    return detection.build(config, box_records.CLASSES)


@pytest.fixture(scope="module")
def task():
    return task_of()


def index_of(tmp_path, numbers):
    path = tmp_path / "train-00000-of-00001.tfrecords"
    box_records.write_shard(path, numbers)
    return index_records([str(path)], box_records.CLASSES)


def test_image_and_boxes_stay_together(task):
    """Bright rectangles are where the boxes say, mirrored or not, resized and padded."""
    seen = set()
    for number in range(12):
        example = task.parse(box_records.record(number))
        changed = task.train_transform(example, 128, SEED + number)
        boxes, labels = changed["box"].numpy(), changed["label"].numpy()
        seen.add(bool(np.any(boxes != example["box"])))
        images, sizes, scale = box_transforms.fit_batch(
            changed["image"][None], changed["original"][None], tf.constant(128), tf.constant(task.long_side)
        )
        image, (height, width) = images[0].numpy(), sizes[0].numpy()
        assert image.shape[0] % 64 == image.shape[1] % 64 == 0 and max(height, width) <= task.long_side
        assert not image[height:].any() and not image[:, width:].any()
        for box, label in zip(box_transforms.scaled(boxes[None], scale)[0].numpy(), labels, strict=True):
            left, top, right, bottom = np.round(box).astype(int)
            inside = image[top + 2 : bottom - 2, left + 2 : right - 2].mean((0, 1))
            assert inside.argmax() == label and inside[label] > 0.6
            for row, column in ((top - 4, left + 5), (bottom + 3, left + 5), (top + 5, left - 4), (top + 5, right + 3)):
                if 0 <= row < height and 0 <= column < width:
                    assert image[row, column].max() < 0
    assert seen == {True, False}


def test_the_network_sees_what_pillow_resizes_it_to():
    """Enlarged, where bilinear is the same for both."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    image = Image.fromarray(pixels).resize((100, 60), Image.BILINEAR)
    ours, size, scale = box_transforms.fit(pixels, 60, 1000)
    assert size.numpy().tolist() == [60, 100] and ours.shape == (64, 128, 3)
    np.testing.assert_allclose(scale, [2, 2])
    np.testing.assert_allclose((ours[:60, :100] + 1) * 127.5, np.asarray(image), atol=1.1)  # Pillow rounds twice
    assert box_transforms.network_size([50, 200], 60, 100).numpy().tolist() == [25, 100]


def test_large_images_are_held_in_twice_what_the_network_sees(task):
    """And boxes, objects that are found and pictures stay right: of a drawing enlarged eight times and a bit."""
    encoded, (width, height), boxes = box_records.drawn(1)
    width, height, scale = (
        8 * width + 3,
        8 * height + 5,
        np.float32([(8 * s + d) / s for s, d in ((width, 3), (height, 5))]),
    )
    buffer = io.BytesIO()
    Image.open(io.BytesIO(encoded)).resize((width, height)).save(buffer, "JPEG", quality=95)
    large = [box._replace(**dict(zip(EDGES, np.tile(scale, 2) * box.edges, strict=True))) for box in boxes]
    record = schema.encode_boxes(schema.Image(buffer.getvalue(), width, height, "large.jpg"), large)
    for transform in (task.eval_transform, lambda one, size: task.train_transform(one, size, SEED)):
        example = transform(task.parse(record), 48)
        assert example["original"].numpy().tolist() == [height, width]
        assert example["image"].shape[:2] == (128, 96)
        sizes = (example["image"][None], example["original"][None], tf.constant(48), tf.constant(task.long_side))
        images, (size,), seen = box_transforms.fit_batch(*sizes)
        assert size.numpy().tolist() == [64, 48]
        for box, label in zip(
            box_transforms.scaled(example["box"][None], seen)[0].numpy(), example["label"], strict=True
        ):
            left, top, right, bottom = np.round(box).astype(int)
            inside = images[0, top + 2 : bottom - 2, left + 2 : right - 2].numpy().mean((0, 1))
            assert inside.argmax() == label and inside[label] > 0.6
            outside = images[0, max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4].numpy()
            assert outside.mean() < inside.mean()
    once, *_ = box_transforms.fit(decode_jpeg(buffer.getvalue()), 48, task.long_side)
    example = task.eval_transform(task.parse(record), 48)
    again, *_ = box_transforms.fit_batch(example["image"][None], example["original"][None], 48, task.long_side)
    np.testing.assert_array_equal(once, again[0])


def test_an_image_of_another_size_than_its_record_says_is_an_error(task):
    encoded, (width, height), boxes = box_records.drawn(0)
    record = schema.encode_boxes(schema.Image(encoded, width + 1, height, "odd.jpg"), boxes)
    for transform in (task.eval_transform, lambda one, size: task.train_transform(one, size, SEED)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)odd\.jpg.*build the shard again"):
            transform(task.parse(record), 48)


def test_batches_of_evaluation_hold_one_size_and_all_images_once(task, tmp_path):
    index = index_of(tmp_path, range(11))
    batches = list(evaluation_batches(index, task, InputConfig(96, 4)).as_numpy_iterator())
    names = np.concatenate([batch["name"] for batch in batches])
    assert sorted(names) == [b"%06d.jpg" % k for k in range(11)] and len(batches) < 7
    for batch in batches:
        originals, long_side = tf.constant(batch["original"]), tf.constant(task.long_side)
        images, sizes, _ = box_transforms.fit_batch(batch["image"], originals, tf.constant(96), long_side)
        padded = box_transforms.padded_size(sizes).numpy()
        assert (padded == images.shape[1:3]).all()


def test_an_image_does_not_depend_on_the_batch(task, tmp_path):
    index = index_of(tmp_path, range(8))
    found = []
    for batch_size in (1, 4):
        rows = {}
        for batch in evaluation_batches(index, task, InputConfig(96, batch_size)):
            outputs = task.forward(batch)
            for k, name in enumerate(batch["name"].numpy()):
                rows[name] = [outputs[key][k].numpy() for key in ("boxes", "scores", "classes")]
        found.append(rows)
    for name, values in found[0].items():
        for value, other in zip(values, found[1][name], strict=True):
            np.testing.assert_allclose(value, other, atol=1e-3)


def test_a_network_that_diverged_is_no_network_that_sees_nothing(tmp_path):
    """Of a network with one weight that is not finite, in any of its parts."""
    index = index_of(tmp_path, range(2))
    for scope in ("stages_1", "rpn/objectness", "rpn/offsets", "regions/classes", "regions/offsets"):
        task = task_of()
        names = checkpoint.model_variables(task.model)
        kernel = next(variable for name, variable in names.items() if name.startswith(scope) and "kernel" in name)
        kernel.assign(kernel + np.float32(np.nan))
        found = predictions(task.forward, evaluation_batches(index, task, InputConfig(64, 2)))
        with pytest.raises(ValueError, match="000000.jpg: its scores are not finite"):
            evaluate(task.evaluator(), found)


def test_blank_examples_are_worth_no_loss(task):
    blank = task.blank(96, training=True)
    batch = {name: tf.convert_to_tensor(value)[None] for name, value in blank.items() if name != "name"}
    losses = task.loss(batch, task.forward(batch, training=True), task.loss.count(batch, 0))
    assert set(losses) == set(task.loss.terms) and all(float(value) == 0 for value in losses.values())


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart(tmp_path):
    task = task_of(from_random=True, regions=16)
    index = index_of(tmp_path, range(8))
    state = TrainState(task)
    step = make_train_step(task, state, StepConfig(weight_decay=0.0))
    batches = iter(training_batches(index, task, InputConfig(96, 8, shuffle_buffer=8)))
    first = None
    for k in range(150):
        losses = step(next(batches), tf.constant(0.1 if k < 105 else 0.01))
        first = first or losses
    assert float(losses["loss"]) < 0.2 * float(first["loss"])
    assert set(losses) == {"loss", "decay", *task.loss.terms}
    forward = tf.function(task.forward, autograph=False, reduce_retracing=True)
    found = predictions(
        lambda batch: forward({name: x for name, x in batch.items() if x.dtype != tf.string}),
        evaluation_batches(index, task, InputConfig(96, 4)),
    )
    metrics = evaluate(task.evaluator(), found).metrics
    assert metrics["mAP"] > 0.95, metrics


def test_pictures_show_boxes_and_captions_the_labels(task, tmp_path):
    index = index_of(tmp_path, range(3))
    batch = next(iter(training_batches(index, task, InputConfig(96, 3))))
    pictures = task.pictures(batch, ["red", "green", "blue"])
    assert pictures.shape[0] == 3 and 0 <= pictures.min() and pictures.max() <= 1
    assert np.abs(pictures - batch["image"] / 255).max() > 0.2
    large = {"image": np.zeros([1, 700, 1400, 3], np.uint8), "original": np.array([[1400, 2800]]), "short_side": [350]}
    objects = {"box": np.float32([[[400, 400, 2000, 1000]]]), "label": np.array([[1]])}
    (picture,) = dataclasses.replace(task, long_side=1000).pictures(large | objects, None)
    rows, columns, _ = np.nonzero(picture)
    assert picture.shape == (300, 600, 3)
    assert abs(columns.min() - 400 * 600 / 2800) <= 1 and abs(columns.max() + 1 - 2000 * 600 / 2800) <= 1
    assert abs(rows.max() + 1 - 1000 * 600 / 2800) <= 2  # the outermost line is black for some colors
    labels = batch["label"].numpy()
    words = [[["red", "green", "blue"][label] for label in row if label >= 0] for row in labels]
    assert task.captions(batch, ["red", "green", "blue"]) == [", ".join(row) for row in words]
