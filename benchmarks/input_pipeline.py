"""Images a second of the training input, against decoding alone and against the pipeline of the release.

    python benchmarks/input_pipeline.py --rounds=7 --num_preprocess_threads=4

In rounds, in one process and with the same threads:
  decode      tf.io.decode_jpeg of the same images from memory and nothing else: the limit;
  ours        `training_batches`: records read, checked, cropped, augmented, batched;
  ours, same  the same, with as many rotated and colour-jittered images as the release's code has (1/3, 2/3);
  ours, device  what the host does of "ours" with --augment_on=device: crops as bytes, and what is drawn for them;
  ours, full  "ours" with --noscaled_decode: all pixels of a crop are decoded, also where it is twice the size wanted;
  release     a plain re-implementation of the published pipeline, `release_input.py`;
  boxes       of records with boxes, `training_batches` as for detection: whole images, mirrored, in batches of one;
  both        the images and masks of records of these decoded from memory, and nothing else;
  masks       the same records by `training_batches` as for segmentation: crops at scales of 0.5 to 2, mirrored, of 513
              pixels where no --image_size is given.
Crops are those of the images made here, of 500 x 375 pixels and, "large", of 1,024 x 768 as in Open Images.
The processor time of an image is printed too: on a machine that does other work it varies less.
"""

import contextlib
from pathlib import Path
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, config, run, script, use
from absl import flags

use("shuffle_buffer random_seed visiable_gpu")
flags.DEFINE_bool("quick", False, "Leave out the crops of the paper.")
script(
    __name__,
    __doc__,
    first="data_dir num_images rounds batch_size image_size num_preprocess_threads quick",
    defaults={"rounds": 7, "num_images": 384, "batch_size": 32},
)

import numpy as np
import tensorflow as tf

from benchmarks import release_input
from benchmarks.rounds import in_rounds
from data_processing.input_pipeline.batches import InputConfig, training_batches
from data_processing.input_pipeline.transforms import Augmentation
from data_processing.lists.box_list import Box
from data_processing.records import schema, tfrecord
from data_processing.records.index import index_records
from models.deeplab import build_deeplab
from models.faster_rcnn import build_detector
from models.resnet import build_resnet
from tasks.classification import Classification
from tasks.detection import SHORT_SIDE, Detection
from tasks.segmentation import CROP, Segmentation

CLASSES = release_input.CLASSES
MASK_CLASSES = 21
# Images made, and large ones: as many pixels.
MADE, LARGE = 300, 75


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        given = FLAGS["data_dir"].present
        shards = {"records": tfrecord.shard_paths(FLAGS.data_dir, "train")} if given else make_shards(Path(folder))
        for name, paths in shards.items():
            index = index_records(paths, CLASSES)
            if index.kind == "boxes":
                compare(f"boxes, short side {SHORT_SIDE}", index, {"boxes": (boxes(index), 1)}, [("boxes", "decode")])
                continue
            if index.kind == "masks":
                compare_masks(index)
                continue
            compare_crops(name, index, Augmentation())
            if not FLAGS.quick:
                compare_crops(name, index, Augmentation(0.05, 0.0))


def compare_crops(name, index, augmentation):
    pipelines = {
        "ours": ours(index, augmentation),
        "ours, same": ours(index, augmentation._replace(rotated=1 / 3, color_jitter=2 / 3)),
        "ours, device": ours(index, augmentation._replace(augment_on="device")),
        "ours, full": ours(index, augmentation._replace(scaled_decode=False)),
        "release": release_input.batches(index.paths, augmentation, config(InputConfig, accumulate_steps=1)),
    }
    ratios = [("ours", "decode"), ("ours", "release"), ("ours, same", "release"), ("ours, device", "release")]
    ratios += [("ours, device", "ours"), ("ours", "ours, full")]
    area, covered = augmentation.crop_min_area, augmentation.crop_min_covered
    title = f"{name}, crops of area [{area}, 1], covering {covered}, {FLAGS.image_size} px"
    compare(title, index, {name: (way, FLAGS.batch_size) for name, way in pipelines.items()}, ratios)


def compare_masks(index):
    encoded = [tf.train.Example.FromString(record).features.feature for record in first_records(index)]
    pairs = [tuple(features[name].bytes_list.value[0] for name in ("image", "mask")) for features in encoded]
    size = CROP if not FLAGS["image_size"].present else FLAGS.image_size
    pipelines = {"both": (decode_both(pairs), FLAGS.batch_size), "masks": (masks(index, size), FLAGS.batch_size)}
    compare(f"masks, crops of {size} px", index, pipelines, [("masks", "decode"), ("masks", "both")])


def first_records(index):
    records = list(zip(index.shard, index.offset, strict=True))[: 2 * MADE]
    return [tfrecord.read_record(index.paths[shard], offset) for shard, offset in records]


def compare(title, index, pipelines, ratios):
    """Prints images a second, and ratios.

    Args:
      title: what is compared.
      index: `RecordIndex`, of whose images the first are decoded.
      pipelines: {name: (dataset of batches, images in a batch)}; decoding alone comes to them.
      ratios: pairs of names.
    """
    encoded = [image(record) for record in first_records(index)]
    ways = {}
    for name, (batches, size) in ({"decode": (decode_only(encoded), FLAGS.batch_size)} | pipelines).items():
        ways[name] = lambda batches=iter(batches), size=size: time_batches(batches, size)
    times = {name: np.array(seconds).T for name, seconds in in_rounds(ways, FLAGS.rounds).items()}
    print(
        f"{title}: {len(encoded)} JPEGs of {np.mean([len(data) for data in encoded]) / 1000:.0f} kB, "
        f"{FLAGS.num_preprocess_threads} threads, median of {FLAGS.rounds} rounds of {FLAGS.num_images} images"
    )
    rates, processor = {}, {}
    for name, (clock, cores) in times.items():
        rates[name], processor[name] = 1 / clock, cores
        print(
            f"  {name:<12} {np.median(rates[name]):7.0f} images/s ({rates[name].min():.0f} to {rates[name].max():.0f})"
            f"  {np.median(processor[name]) * 1000:6.2f} core-ms an image"
        )
    for top, bottom in ratios:
        # Round by round, so that whatever else the machine did meanwhile bears on both.
        speed, work = np.median(rates[top] / rates[bottom]), np.median(processor[bottom] / processor[top])
        print(f"  {top} / {bottom}: {speed:.2f} by the clock, {work:.2f} by processor time")


def time_batches(iterator, batch_size):
    """Returns the seconds, and the seconds of all processors together, that an image takes, of batches of so many.

    A pipeline that nobody asks for batches fills its buffers and rests, so that it does not disturb the others. What it
    had ready is left out.
    """
    batches = max(1, FLAGS.num_images // batch_size)
    for _ in range(max(8, 2 * FLAGS.num_preprocess_threads)):
        next(iterator)
    begin = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    elapsed = time.perf_counter() - begin[0], time.process_time() - begin[1]
    time.sleep(0.5)
    return [seconds / (batches * batch_size) for seconds in elapsed]


def decode_only(encoded):
    """Whole images decoded from memory. They differ in size, so a number stands for each in the batch."""

    def decode(data):
        return tf.shape(tf.io.decode_jpeg(data, channels=3))[0]

    images = tf.data.Dataset.from_tensor_slices(encoded).repeat()
    return images.map(decode, num_parallel_calls=FLAGS.num_preprocess_threads).batch(FLAGS.batch_size).prefetch(4)


def decode_both(pairs):
    """As `decode_only`, of pairs of an image and its mask."""

    def decode(data, png):
        return tf.shape(tf.io.decode_jpeg(data, channels=3))[0] + tf.shape(tf.io.decode_png(png, channels=1))[0]

    encoded = tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*pairs, strict=True)))).repeat()
    return encoded.map(decode, num_parallel_calls=FLAGS.num_preprocess_threads).batch(FLAGS.batch_size).prefetch(4)


def ours(index, augmentation):
    # The task wants a network for its number of classes alone: the smallest will do.
    task = Classification(build_resnet(10, CLASSES), index.kind, augmentation=augmentation)
    return training_batches(index, task, config(InputConfig, accumulate_steps=1))


def boxes(index):
    task = Detection(build_detector(10, CLASSES))
    return training_batches(index, task, config(InputConfig, image_size=SHORT_SIDE, batch_size=1, accumulate_steps=1))


def masks(index, size):
    task = Segmentation(build_deeplab(10, MASK_CLASSES))
    return training_batches(index, task, config(InputConfig, image_size=size, accumulate_steps=1))


def make_shards(folder):
    """Writes MADE images (or --num_images) like photographs: 500 x 375 pixels, about 40 to 110 kB, and LARGE ones.

    Returns lists of the paths of shards by name: of labels, of boxes and of masks of the same images, and of labels of
    large ones, about 150 to 400 kB.
    """
    rng = np.random.default_rng(0)
    paths = {kind: str(folder / f"{kind}.tfrecords") for kind in ("labels", "boxes", "masks", "large")}
    with contextlib.ExitStack() as opened:
        files = {kind: opened.enter_context(open(path, "wb")) for kind, path in paths.items()}
        sizes = [(500, 375)] * min(MADE, FLAGS.num_images) + [(1024, 768)] * min(LARGE, FLAGS.num_images)
        for k, (width, height) in enumerate(sizes):
            pixels, mask = photograph(rng, height, width)
            stored = schema.Image(tf.io.encode_jpeg(pixels, quality=95).numpy(), width, height, f"{k}.jpg")
            labels = rng.choice(CLASSES, 9, replace=False).tolist()
            labelled = schema.encode(stored, labels, [1.0] * 9, "sparse", CLASSES)
            if width > 500:
                files["large"].write(tfrecord.frame(labelled))
                continue
            objects = [Box(label, 50.0 * n, 100.0, 50.0 * n + 150, 250.0) for n, label in enumerate(labels[:3])]
            files["labels"].write(tfrecord.frame(labelled))
            files["boxes"].write(tfrecord.frame(schema.encode_boxes(stored, objects)))
            png = tf.io.encode_png(mask[..., None]).numpy()
            files["masks"].write(tfrecord.frame(schema.encode_mask(stored, png)))
    return {kind: [path] for kind, path in paths.items()}


def photograph(rng, height, width):
    """Soft light, a few shapes with edges and some grain, uint8 [height, width, 3]; and the shapes' mask."""
    image, mask = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.uint8)
    for cells in (2, 6, 20, 60):
        noise = rng.normal(size=(cells, cells, 3)) * 60 / cells**0.5
        image += tf.image.resize(noise.astype(np.float32), [height, width], "bicubic").numpy()
    y, x = np.mgrid[:height, :width]
    for k in range(12):
        center_y, center_x, radius = rng.integers(0, height), rng.integers(0, width), rng.integers(10, 90)
        distance = np.hypot(y - center_y, x - center_x)
        image[distance < radius] += rng.normal(size=3) * 40
        # Edges are void, as VOC's are.
        mask[distance < radius + 2] = schema.VOID
        mask[distance < radius - 2] = k + 1
    grain = rng.normal(size=(height, width, 1)) * rng.uniform(2, 7)
    return np.clip(image + 120 + grain, 0, 255).astype(np.uint8), mask


def image(serialized):
    return tf.train.Example.FromString(serialized).features.feature["image"].bytes_list.value[0]


if __name__ == "__main__":
    run(main)
