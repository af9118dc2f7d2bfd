"""Writes the features of images: what the network's last layer before the classes says of each, 2048 numbers.

    python extract_feature.py --pretrain_ckpt=./ckpts --images=imglist.txt --result=features.txt

`--images` is a folder, a list (path and label, if any, on each line) or one image. `--result` decides the form by its
ending: .txt or .tsv is a line of path, label and numbers for each image, .npz and .h5 are arrays `names`, `labels`
and `features`. The checkpoint knows its own depth, and the size of its images, if `--image_size` is not given. Memory
holds a few batches and the paths, but no features, however many images there are; the paths of an .npz stand in it as
wide as the longest, 4 bytes a character, so millions of them belong into an .h5. Under `mpirun` each process computes a
share of the features, and the first one writes them.

An image that cannot be read is reported and left out; then the exit status is 1, and the result holds the others.
"""

import functools
import sys

from flags import FLAGS, config, given, run, script, use

use("model_dir max_pixels num_preprocess_threads resnet_size xla data_format precision batch_norm_epsilon visiable_gpu")

BATCH_SIZE = 32
script(
    __name__,
    __doc__,
    first="images result pretrain_ckpt batch_size image_size crop",
    defaults={"batch_size": BATCH_SIZE},
)

from tqdm import tqdm

from data_processing.input_pipeline import file_batches
from data_processing.input_pipeline.transforms import evaluation_image
import distributed
from evaluation import features
from models import inference
from models.frozen import fold
from models.resnet import NetworkConfig
from utils.files import atomic_write


def main(argv):
    del argv
    ranks = distributed.start()
    write = features.writer(FLAGS.result)
    files = file_batches.list_image_files(FLAGS.images, quiet=ranks.rank > 0)
    network = inference.load(
        FLAGS.pretrain_ckpt or FLAGS.model_dir,
        config(NetworkConfig),
        {"resnet_size": given("resnet_size")},
        with_logits=False,
    )
    size, says = inference.choose_image_size(given("image_size"), network.description, FLAGS.image_size)
    predict = inference.output_function(fold(network.model), "feature", xla=FLAGS.xla)
    transform = functools.partial(evaluation_image, image_size=size, crop=FLAGS.crop)
    predictions = file_batches.predictions(predict, files, transform, config(file_batches.FileConfig), ranks)
    distributed.on_first(predictions, lambda joined: _write(write, joined, files, (network, f"{size} pixels ({says})")))


def _write(write, predictions, files, source):
    """Writes the features, and reports the images without; `source` is the network and the words for its input."""
    network, pixels = source
    width, description = network.model.output["feature"].shape[-1], network.description
    print(
        f"ResNet-{description.resnet_size}, step {description.step:,}: {width} numbers for each of {len(files):,}, "
        f"from {pixels}"
    )
    with atomic_write(FLAGS.result) as temp_path, tqdm(total=len(files), unit=" images") as bar:
        written = write(temp_path, _readable(file_batches.by_image(predictions, files), bar), width)
    print(f"written: {FLAGS.result}, {written:,} features")
    if written < len(files):
        raise ValueError(f"{len(files) - written:,} of {len(files):,} images could not be read and were left out")


def _readable(predictions, bar):
    """Yields the images that could be read and their features, batch by batch; reports the others."""
    for read, rows, unreadable in predictions:
        for image, reason in unreadable:
            bar.write(f"left out: {image.name}: {reason}", file=sys.stderr)
        yield read, rows
        bar.update(len(read) + len(unreadable))


if __name__ == "__main__":
    run(main)
