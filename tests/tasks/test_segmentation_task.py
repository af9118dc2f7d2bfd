"""A segmentation task from the record to the metrics."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
import tensorflow as tf

from data_processing.input_pipeline import mask_transforms
from data_processing.input_pipeline.batches import InputConfig, evaluation_batches, training_batches
from data_processing.records.index import index_records
from evaluation import palette
from evaluation.evaluate import evaluate, predictions
from models import checkpoint
from models.resnet import NetworkConfig
from tasks import segmentation
from tasks.segmentation import Views
from tests import mask_records
from training.state import TrainState
from training.train_step import StepConfig, make_train_step

CLASSES = mask_records.CLASSES
# Height and width that most of the images are padded to.
CANVAS = 129


def task_of(seen=Views(), **options):
    config = segmentation.SegmentationConfig(10, NetworkConfig(batch_norm_decay=0.9), **options)
    return segmentation.build(config, CLASSES, seen)


@pytest.fixture(scope="module")
def task():
    """One whose classes are all found, and whose batch normalisation has seen images."""
    task = task_of()
    batch = tf.constant(np.random.default_rng(0).uniform(-1, 1, (8, 65, 65, 3)), tf.float32)
    for _ in range(30):
        task.model(batch, training=True)
    sharpen(task)
    return task


def sharpen(task):
    """Logits that are no longer all near 0."""
    kernel = checkpoint.model_variables(task.model)["segmentation/logits/conv2d/kernel"]
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))


def index_of(tmp_path, numbers):
    path = tmp_path / "train-00000-of-00001.tfrecords"
    mask_records.write_shard(path, numbers)
    return index_records([str(path)], CLASSES)


def canvas_of(number, side=CANVAS):
    """An image as the network takes it, by NumPy."""
    pixels = mask_records.pixels(number)
    canvas = np.zeros([1, side, side, 3], np.float32)
    canvas[0, : pixels.shape[0], : pixels.shape[1]] = pixels / 127.5 - 1
    return canvas


def enlarged(maps, height, width):
    """Bilinear, with the corners' centres in the corners, by NumPy: float [batch, h, w, channels] to another size."""
    for axis, size in ((1, height), (2, width)):
        old = maps.shape[axis]
        at = np.linspace(0, old - 1, size)
        low = np.minimum(np.floor(at).astype(int), max(old - 2, 0))
        share = (at - low)[:, None] if axis == 2 else (at - low)[:, None, None]
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, np.minimum(low + 1, old - 1), axis) * share
    return maps


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def found_by(task, index, batch_size=4):
    forward = tf.function(task.forward, autograph=False, reduce_retracing=True)
    return predictions(
        lambda batch: forward({name: x for name, x in batch.items() if x.dtype != tf.string}),
        evaluation_batches(index, task, InputConfig(65, batch_size)),
    )


def test_a_crop_is_void_where_there_is_no_image(task):
    """And pixels of a class have about its color: mask and image are changed alike."""
    seen = set()
    for number in range(8):
        example = task.parse(mask_records.record(number))
        changed = task.train_transform(example, 97, tf.constant([number, 2], tf.int64))
        image, mask = changed["image"].numpy(), changed["mask"].numpy()
        assert image.shape == (97, 97, 3) and mask.shape == (97, 97) and mask.dtype == np.int32
        assert not image[mask < 0].any() or number % 4
        for label in range(1, CLASSES):
            if (mask == label).sum() > 50:
                assert image[mask == label].mean(0).argmax() == label - 1
                seen.add(label)
    assert len(seen) == CLASSES - 1


def test_batches_of_evaluation_hold_one_padded_size_and_all_images_once(task, tmp_path):
    batches = list(evaluation_batches(index_of(tmp_path, range(11)), task, InputConfig(65, 4)).as_numpy_iterator())
    names = np.concatenate([batch["name"] for batch in batches]).tolist()
    assert sorted(names) == [mask_records.name(k).encode() for k in range(11)] and len(batches) == 4
    for batch in batches:
        assert len({tuple(mask_transforms.padded_size(size)) for size in batch["original"]}) == 1
        for name, image, mask, (height, width) in zip(
            *(batch[key] for key in ("name", "image", "mask", "original")), strict=True
        ):
            number = int(name[:6])
            np.testing.assert_array_equal(mask[:height, :width].astype(np.uint8), mask_records.drawn(number)[1])
            assert (mask[height:] == -1).all() and (mask[:, width:] == -1).all()
            difference = image[:height, :width].astype(int) - mask_records.pixels(number)
            assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("seen", [Views(), Views((0.5, 1.25), True)])
def test_an_image_does_not_depend_on_its_batch(task, tmp_path, seen):
    """Alone, and with neighbours of other sizes."""
    task = dataclasses.replace(task, seen=seen)
    orders, found = ((1, range(4)), (3, (2, 0, 3, 1))), []
    for batch_size, numbers in orders:
        rows = {}
        for batch, outputs in found_by(task, index_of(tmp_path, numbers), batch_size):
            for k, name in enumerate(batch["name"]):
                height, width = batch["original"][k]
                prediction = outputs["prediction"][k]
                assert (prediction[height:] == -1).all() and (prediction[:, width:] == -1).all()
                rows[name] = prediction[:height, :width], outputs["confusion"][k], outputs["confidences"][k]
        found.append(rows)
    for rows in found[1:]:
        assert rows.keys() == found[0].keys()
        for name, (prediction, counts, confidence) in rows.items():
            expected = found[0][name]
            np.testing.assert_array_equal(prediction, expected[0])
            np.testing.assert_array_equal(counts, expected[1])
            np.testing.assert_allclose(confidence, expected[2], atol=1e-5)
    assert len(np.unique(found[0][b"000000.jpg"][0])) > 1


def test_logits_do_not_depend_on_the_batch(task):
    numbers = range(3)
    batch = np.concatenate([canvas_of(number) for number in numbers])
    together = segmentation.look(task.model, tf.constant(batch)).numpy()
    for number in numbers:
        alone = segmentation.look(task.model, tf.constant(batch[number : number + 1])).numpy()[0]
        np.testing.assert_allclose(alone, together[number], atol=1e-5 * np.abs(alone).max())


def test_one_view_gives_the_logits_enlarged(task):
    canvas = canvas_of(0)
    expected = enlarged(task.model(canvas, training=False).numpy(), CANVAS, CANVAS)
    found = segmentation.look(task.model, tf.constant(canvas)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("flip", [False, True])
def test_several_views_give_the_mean_of_their_probabilities(task, tmp_path, flip):
    scales = (0.5, 1.0, 1.75)
    canvas, number = canvas_of(1), 1
    views = []
    for scale in scales:
        side = round(128 * scale / 16) * 16 + 1
        inputs = enlarged(canvas, side, side).astype(np.float32)
        for step in (1, -1) if flip else (1,):
            logits = task.model(inputs[:, :, ::step], training=False).numpy()
            views.append(softmax(enlarged(logits, CANVAS, CANVAS))[:, :, ::step])
    assert len(views) == len(scales) * (1 + flip)
    expected, seen = np.mean(views, axis=0), Views(scales, flip)
    found = segmentation.look(task.model, tf.constant(canvas), seen).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    ((batch, outputs),) = found_by(dataclasses.replace(task, seen=seen), index_of(tmp_path, [number]))
    height, width = batch["original"][0]
    inside = expected[0, :height, :width]
    assert (outputs["prediction"][0] == inside.argmax(-1)).mean() > 0.999
    # (The decoder of JPEG is not Pillow's to the bit.)
    np.testing.assert_allclose(outputs["confidences"], inside.max(-1).mean(), atol=0.01)


def test_a_mirrored_image_is_seen_mirrored(task):
    canvas = tf.constant(canvas_of(2))
    for scales in ((1.0,), (0.75, 1.5)):
        seen = Views(scales, True)
        found = segmentation.look(task.model, tf.reverse(canvas, [2]), seen).numpy()[:, :, ::-1]
        np.testing.assert_allclose(found, segmentation.look(task.model, canvas, seen), atol=1e-4)
    plain = [segmentation.look(task.model, image).numpy() for image in (canvas, tf.reverse(canvas, [2]))]
    assert np.abs(plain[0] - plain[1][:, :, ::-1]).max() > 0.01


def test_confusion_counts_pixels_by_true_and_found_class():
    random = np.random.default_rng(0)
    mask, found = random.integers(-1, 5, (3, 17, 23)), random.integers(0, 5, (3, 17, 23))
    mask[2] = -1
    counts = segmentation.confusion(*(tf.constant(one, tf.int32) for one in (mask, found)), 5).numpy()
    assert counts.dtype == np.int64 and not counts[2].any()
    for k in range(2):
        there = mask[k] >= 0
        np.testing.assert_array_equal(counts[k], confusion_matrix(mask[k][there], found[k][there], labels=range(5)))


def test_metrics_are_those_of_the_predictions(task, tmp_path):
    index = index_of(tmp_path, range(6))
    truth, seen = [], []
    for batch, outputs in found_by(task, index):
        for name, prediction, (height, width) in zip(
            batch["name"], outputs["prediction"], batch["original"], strict=True
        ):
            mask = mask_records.drawn(int(name[:6]))[1]
            seen.append(prediction[:height, :width][mask != 255])
            truth.append(mask[mask != 255])
    counts = confusion_matrix(np.concatenate(truth), np.concatenate(seen), labels=range(CLASSES))
    right = np.diag(counts)
    metrics = evaluate(task.evaluator(), found_by(task, index)).metrics
    assert metrics["pixels"] == counts.sum() and metrics["images"] == 6
    assert metrics["mIoU"] == pytest.approx((right / (counts.sum(0) + counts.sum(1) - right)).mean(), abs=1e-12)
    assert metrics["pixel_accuracy"] == pytest.approx(right.sum() / counts.sum(), abs=1e-12)


@pytest.mark.parametrize(("value", "seen"), [(np.nan, Views()), (np.inf, Views((0.5, 1.0)))])
def test_a_network_that_diverged_is_no_network_that_sees_background(tmp_path, value, seen):
    """Of a network with one weight that is not finite, in any of its parts."""
    task = task_of(seen, decoder=True)
    batches = list(evaluation_batches(index_of(tmp_path, range(2)), task, InputConfig(65, 2)))
    variables = checkpoint.model_variables(task.model)
    for scope in ("init", "stages_3", "aspp/dilated_1", "aspp/image", "decoder/conv_1", "segmentation"):
        kernel = next(one for name, one in variables.items() if name.startswith(scope) and name.endswith("kernel"))
        before = kernel.numpy()
        after = before.copy()
        after.flat[-1] = value
        kernel.assign(after)
        with pytest.raises(ValueError, match=r"000000.jpg: its confidences are not finite"):
            evaluate(task.evaluator(), predictions(task.forward, batches))
        kernel.assign(before)


def test_blank_examples_are_worth_no_loss(task):
    blank = task.blank(65, training=True)
    batch = {name: tf.convert_to_tensor(value)[None] for name, value in blank.items() if name != "name"}
    assert float(task.loss(batch, task.forward(batch, training=True), task.loss.count(batch, 0))) == 0
    blank = task.blank(65, training=False)
    batch = {name: tf.convert_to_tensor(value)[None] for name, value in blank.items() if name != "name"}
    assert not task.forward(batch)["confusion"].numpy().any()


def test_only_the_checkpoints_batch_normalisation_is_frozen():
    task = task_of(freeze_batch_norm=True)
    batch = tf.constant(canvas_of(0))
    before = {name: value.numpy() for name, value in checkpoint.model_variables(task.model).items()}
    task.model(batch, training=True)
    after = checkpoint.model_variables(task.model)
    moved = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert moved and all(name.startswith("aspp/") and "/moving_" in name for name in moved)
    trained = {name for name, value in after.items() if value.trainable}
    assert not any("batch_norm" in name and not name.startswith("aspp/") for name in trained)


def test_pictures_show_masks_and_captions_their_classes(task, tmp_path):
    index = index_of(tmp_path, range(3))
    batch = next(iter(training_batches(index, task, InputConfig(65, 3)))) | {}
    pictures = task.pictures(batch, mask_records.NAMES)
    assert pictures.shape == (3, 130, 65, 3) and 0 <= pictures.min() and pictures.max() <= 1
    np.testing.assert_allclose(pictures[:, 65:] * 255, palette.colors(batch["mask"].numpy()), atol=1e-3)
    captions = task.captions(batch, mask_records.NAMES)
    for mask, caption in zip(batch["mask"].numpy(), captions, strict=True):
        assert caption == ", ".join(name for k, name in enumerate(mask_records.NAMES) if (mask == k).any())
    batch = next(iter(evaluation_batches(index, task, InputConfig(65, 3)).as_numpy_iterator()))
    outputs = task.forward({name: x for name, x in batch.items() if name != "name"})
    for picture, (height, width) in zip(
        task.pictures_of_outputs(batch, outputs, mask_records.NAMES), batch["original"], strict=True
    ):
        assert picture.shape == (height, 3 * width, 3) and picture.max() <= 1


def test_as_many_weights_as_classes():
    with pytest.raises(ValueError, match="--class_weights: 3 for 4 classes; give each one, the background first"):
        task_of(class_weights=(1.0, 2.0, 3.0))


@pytest.mark.slow
def test_four_images_are_learnt_by_heart(tmp_path):
    task, steps = task_of(decoder=True), 80
    # With void pixels around what is in them: at cells of 4 pixels edges are seen to about one.
    index = index_of(tmp_path, (2, 3, 6, 7))
    state = TrainState(task)
    step = make_train_step(task, state, StepConfig(weight_decay=0.0))
    batches = iter(training_batches(index, task, InputConfig(65, 4, shuffle_buffer=4)))
    first = None
    for k in range(steps):
        losses = step(next(batches), tf.constant(0.05 * (1 - k / steps) ** 0.9))
        first = first or losses
    assert float(losses["loss"]) < 0.2 * float(first["loss"])
    metrics = evaluate(task.evaluator(), found_by(task, index)).metrics
    assert metrics["mIoU"] > 0.95, metrics
