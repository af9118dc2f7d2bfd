"""What records at the size of training save: bytes of an image, and images a second of the training input.

    python benchmarks/resized_records.py --resize_short=320 --num_preprocess_threads=4

Images like photographs, of 500 x 375 and of 1,024 x 768 pixels, become records as they are and as
`build_tfrecords.py --resize_short` makes them; `training_batches` reads either in rounds, in one process and with the
same threads. How far the small image is from the large one, both decoded and resized to --image_size with means over
areas, is printed as PSNR: what a network can see of the difference.
"""

import io
from pathlib import Path
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, config, run, script, use

use("shuffle_buffer random_seed visiable_gpu")
use("crop_min_area crop_min_covered rotated color_jitter augment_on scaled_decode")
script(
    __name__,
    __doc__,
    first="resize_short jpeg_quality num_images rounds batch_size image_size num_preprocess_threads",
    defaults={"resize_short": 320, "rounds": 7, "num_images": 128, "batch_size": 32},
)

import numpy as np
from PIL import Image

from benchmarks.rounds import in_rounds
from data_processing.images import image_files
from data_processing.input_pipeline.batches import InputConfig, training_batches
from data_processing.input_pipeline.transforms import Augmentation
from data_processing.records import schema, tfrecord
from data_processing.records.index import index_records
from models.resnet import build_resnet
from tasks.classification import Classification

CLASSES = 1000
SIZES = ((500, 375), (1024, 768))
MADE = 32


def main(argv):
    del argv
    small = f"{FLAGS.resize_short} px"
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            encoded = make_images(width, height)
            shards = {name: write_shard(Path(folder, f"{name}.tfrecords"), data) for name, data in encoded.items()}
            ways = {name: training_input(path) for name, path in shards.items()}
            times = {name: np.array(values).T for name, values in in_rounds(ways, FLAGS.rounds).items()}
        print(
            f"{len(encoded['full'])} JPEGs of {width:,} x {height} pixels, training at {FLAGS.image_size} px, "
            f"{FLAGS.num_preprocess_threads} threads, median of {FLAGS.rounds} rounds of {FLAGS.num_images} images"
        )
        for name, shown in (("full", "full"), ("small", small)):
            clock, cores = times[name]
            print(
                f"  {shown:<7} {np.mean([len(data) for data in encoded[name]]) / 1000:6.1f} kB an image "
                f"{np.median(1 / clock):7.0f} images/s ({min(1 / clock):.0f} to {max(1 / clock):.0f})  "
                f"{np.median(cores) * 1000:6.2f} core-ms an image"
            )
        print(f"  PSNR at {FLAGS.image_size} px: {psnr(encoded['full'], encoded['small']):.1f} dB")
        (full, full_cores), (reduced, reduced_cores) = times["full"], times["small"]
        print(
            f"  {small} / full: {np.median(full / reduced):.2f} by the clock, "
            f"{np.median(full_cores / reduced_cores):.2f} by processor time"
        )


def make_images(width, height):
    """Returns {"full": JPEGs, "small": JPEGs} of the same photographs."""
    rng = np.random.default_rng(0)
    full = [photograph(width, height, rng) for _ in range(min(MADE, FLAGS.num_images))]
    small = [image_files.as_jpeg(data, resize_short=FLAGS.resize_short, quality=FLAGS.jpeg_quality)[0] for data in full]
    return {"full": full, "small": small}


def photograph(width, height, rng):
    """A JPEG of soft light, a few shapes with edges and some grain, as `benchmarks/input_pipeline.py` draws them."""
    image = np.full((height, width, 3), 120, np.float32)
    for cells in (2, 6, 20, 60):
        noise = rng.normal(size=(cells, cells, 3)).astype(np.float32) * 60 / cells**0.5
        layers = [Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC) for layer in noise.T]
        image += np.stack(layers, axis=-1)
    y, x = np.ogrid[:height, :width]
    for _ in range(12):
        center_y, center_x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.03, 0.25) * height
        image[(y - center_y) ** 2 + (x - center_x) ** 2 < radius**2] += rng.normal(size=3) * 40
    image += rng.normal(size=(height, width, 1)) * rng.uniform(2, 7)
    buffer = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_shard(path, encoded):
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for k, data in enumerate(encoded):
            labels = rng.choice(CLASSES, 9, replace=False).tolist()
            image = schema.Image(data, *Image.open(io.BytesIO(data)).size, f"{k}.jpg")
            file.write(tfrecord.frame(schema.encode(image, labels, [1.0] * 9, "sparse", CLASSES)))
    return str(path)


def training_input(path):
    """Returns a function that reads images of a shard: seconds, and seconds of all processors, that one takes."""
    index = index_records([path], CLASSES)
    # The task wants a network for its number of classes alone: the smallest will do.
    task = Classification(build_resnet(10, CLASSES), index.kind, augmentation=config(Augmentation))
    batches = iter(training_batches(index, task, config(InputConfig, accumulate_steps=1)))

    def read():
        # What was made ready while the others were measured is left out.
        for _ in range(max(8, 2 * FLAGS.num_preprocess_threads)):
            next(batches)
        count = max(1, FLAGS.num_images // FLAGS.batch_size)
        begin = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(batches)
        elapsed = time.perf_counter() - begin[0], time.process_time() - begin[1]
        time.sleep(0.5)  # its buffers fill, and it rests
        return [seconds / (count * FLAGS.batch_size) for seconds in elapsed]

    return read


def psnr(full, small):
    """Returns the PSNR, in dB, of images that are reduced again, in one step and in two."""

    def at_size(data):
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.resize((FLAGS.image_size, FLAGS.image_size), Image.Resampling.BOX), np.float32)

    errors = [np.mean((at_size(a) - at_size(b)) ** 2) for a, b in zip(full, small, strict=True)]
    return 10 * np.log10(255**2 / np.mean(errors))


if __name__ == "__main__":
    run(main)
