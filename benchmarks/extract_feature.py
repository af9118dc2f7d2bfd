"""What feature extraction reaches of the bare network's rate, and of one image at a time.

    python benchmarks/extract_feature.py --num_images=150 --resnet_size=50 --rounds=5

In each round three ways follow each other: (a) extract_feature.py's own path from JPEG files to a result on disk; (b)
the same network, folded as there, on batches that lie in memory; (c) the release's way, each image decoded and then
predicted alone. Prints images per second, and the median of the rounds' ratios.
"""

from pathlib import Path
import sys
import tempfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, config, run, script, use

use("num_preprocess_threads max_pixels random_seed xla crop data_format precision batch_norm_epsilon visiable_gpu")
script(
    __name__,
    __doc__,
    first="num_images rounds resnet_size batch_size image_size",
    defaults={"num_images": 150, "batch_size": 32},
)

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.rounds import in_rounds, seconds
from data_processing.images import image_files
from data_processing.input_pipeline import file_batches
from data_processing.input_pipeline.transforms import evaluation_image
from evaluation import features
from models.frozen import fold
from models.inference import output_function
from models.resnet import NetworkConfig, build_resnet, resolve_data_format


def main(argv):
    del argv
    network = config(NetworkConfig, data_format=resolve_data_format(FLAGS.data_format))
    model = build_resnet(FLAGS.resnet_size, 1000, network)
    predict = output_function(fold(model), "feature", xla=FLAGS.xla)
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), FLAGS.num_images, FLAGS.random_seed)
        files = file_batches.list_image_files(folder)
        batches = load_batches(files)
        ways = {
            "a": lambda: from_files(model, predict, files, Path(folder) / "features.txt"),
            "b": lambda: from_memory(predict, batches),
            "c": lambda: one_at_a_time(predict, files),
        }
        # The warm-up traces the network for each shape of batch.
        times = in_rounds({name: lambda way=way: seconds(way) for name, way in ways.items()}, FLAGS.rounds)
    report({name: len(files) / np.array(values) for name, values in times.items()})


def make_images(folder, count, seed):
    """Writes JPEGs of blurred noise, which compress about as photographs do."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        height, width = rng.integers(270, 331), rng.integers(360, 441)
        coarse = Image.fromarray(rng.integers(0, 256, [height // 16, width // 16, 3], dtype=np.uint8))
        image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        noise = np.asarray(
            Image.fromarray(rng.integers(0, 256, [height, width, 3], dtype=np.uint8)).filter(ImageFilter.BoxBlur(1))
        )
        image = (image + 0.7 * (noise.astype(np.float32) - 127)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{k:05d}.jpg", quality=85)


def from_files(model, predict, files, result):
    """The path of extract_feature.py, with its threads and its writing."""
    predictions = file_batches.predictions(predict, files, crop, config(file_batches.FileConfig))
    rows = ((read, numbers) for read, numbers, _ in file_batches.by_image(predictions, files))
    width = model.output["feature"].shape[-1]
    assert features.writer(str(result))(result, rows, width) == len(files)


def crop(image):
    return evaluation_image(image, FLAGS.image_size, FLAGS.crop)


def load_batches(files):
    """All images as batches in the memory that the network reads."""
    paths = [image.file for image in files]
    return [batch["input"] for batch in file_batches.file_batches(paths, crop, config(file_batches.FileConfig))]


def from_memory(predict, batches):
    for images in batches:
        predict(images).numpy()


def one_at_a_time(predict, files):
    """As the release did, with the same functions: read, decode, crop, predict, then the next."""
    for image in files:
        image = image_files.decode(Path(image.file).read_bytes())
        predict(evaluation_image(image, FLAGS.image_size)[None]).numpy()


def report(rates):
    names = {"a": "files to features", "b": "network alone, batches in memory", "c": "one image at a time"}
    print(
        f"ResNet-{FLAGS.resnet_size}, batches of {FLAGS.batch_size}, {FLAGS.num_images} images, {FLAGS.rounds} rounds"
    )
    for name, values in rates.items():
        print(f"({name}) {names[name]:34}{np.median(values):8.2f} images/s   {min(values):.2f} to {max(values):.2f}")
    for other in ("b", "c"):
        ratios = rates["a"] / rates[other]
        print(f"a/{other}  {np.median(ratios):.3f}   {ratios.min():.3f} to {ratios.max():.3f}")


if __name__ == "__main__":
    run(main)
