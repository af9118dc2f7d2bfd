"""Says the class of each pixel of images, with a network that finetune.py has trained on masks.

    python semantic_segmentation.py --images=photos --model_dir=out/voc2012/best --result=masks --overlay=drawn

`--images` is a folder, a list (a path on each line) or one image; `--model_dir` is a checkpoint's prefix or a folder of
checkpoints. The checkpoint knows its classes and their names, its output stride, and whether it has a decoder.

Below `--result` there will be a PNG of each image in its own size, `photos/in/a.jpg` as `in/a.png`, in VOC's palette:
its values are the indices of classes, 0 the background. (If there is `in/a.png` too, that of the JPEG is `a.jpg.png`.)
Below `--overlay` are copies of the images with the classes' colors laid over them, and a legend. Printed are each
image's classes and their shares of its pixels. The network sees an image as it is, at once if it has no more than
`--max_pixels`, else in tiles of that size, which overlap and of whose scores the weighted mean counts; `--scales` and
`--flip` are as in evaluation.

An image that cannot be read is reported and left out; then the exit status is 1, and the result holds the others.
Batches are of images of one padded size, so that no image depends on others. Under `mpirun` each process computes a
share, and the first one prints.
"""

from os.path import realpath
import sys

from flags import FLAGS, config, given, run, script, use
from absl import flags

use("class_num resnet_size num_preprocess_threads data_format precision batch_norm_epsilon visiable_gpu")
flags.DEFINE_string("overlay", "", "Folder for copies of the images with the classes' colors over them.")

BATCH_SIZE = 4
# About 1024 x 1024: in training, a crop has 513 x 513.
MAX_PIXELS = 1025**2
script(
    __name__,
    __doc__,
    first="images model_dir dictionary result overlay batch_size max_pixels scales flip",
    defaults={"batch_size": BATCH_SIZE, "max_pixels": MAX_PIXELS},
)

import numpy as np
from tqdm import tqdm

from data_processing.images import image_files
from data_processing.input_pipeline import file_batches
import distributed
from evaluation import copies, palette
from models import inference
from models.frozen import fold
from models.resnet import NetworkConfig
from tasks import segmentation_inference
from tasks.segmentation import Views
from utils.flag_values import positive

RESULT = "masks"


def main(argv):
    del argv
    ranks = distributed.start()
    result = FLAGS.result or RESULT
    seen = Views(positive("scales", FLAGS.scales), FLAGS.flip)
    segmentation_inference.tiles((image_files.MAX_PIXELS, 1), FLAGS.max_pixels)  # (raises ValueError if too few)
    network = inference.load_segmenter(
        FLAGS.model_dir,
        config(NetworkConfig),
        {name: given(name) for name in ("class_num", "resnet_size")},
        FLAGS.dictionary,
    )
    files = file_batches.list_image_files(FLAGS.images, quiet=ranks.rank > 0)
    places = _places(files, result, FLAGS.overlay)
    description, classes = network.description, network.classes
    names = classes.names if classes else [str(k) for k in range(description.class_num)]
    found = file_batches.predictions(
        _with_sizes(segmentation_inference.finder(fold(network.model), FLAGS.max_pixels, seen)),
        files,
        segmentation_inference.transform,
        config(file_batches.FileConfig, max_pixels=image_files.MAX_PIXELS),
        ranks,
    )

    def report(joined):
        print(
            f"DeepLab v3{'+' * bool(description.decoder)} on ResNet-{description.resnet_size}, "
            f"{description.class_num:,} classes, step {description.step:,}; output stride {description.output_stride}, "
            f"at most {FLAGS.max_pixels:,} pixels at once"
        )
        if not classes:
            print(f"no names, only indices: {network.prefix} holds none; give them with --dictionary")
        _report(joined, files, names, result)

    distributed.on_first(_writing(found, files, names, places), report)


def _places(files, result, overlay):
    """Returns the path of each image's mask, and that of its overlay or None."""
    masks = copies.targets(files, FLAGS.images, result, "--result", copies.png)
    if not overlay:
        return [(mask, None) for mask in masks]
    drawn = copies.targets(files, FLAGS.images, overlay, "--overlay")
    if both := {*map(realpath, masks)} & {*map(realpath, drawn)}:
        raise ValueError(f"--overlay={overlay}: {min(both)} is to be a mask already; name another folder")
    return list(zip(masks, drawn, strict=True))


def _with_sizes(find):
    """Returns `find`, whose answers have the images' own sizes beside them."""
    return lambda batch: {"mask": find(batch), "size": batch["original"]}


def _writing(batches, files, names, places):
    """Yields the batches of one process's predictions when it has written their masks: of each the classes' shares.

    These are float64 [batch, classes], and -1 of an image that the network has no finite answer for. For an overlay an
    image is read again: none is kept in memory. One that is no longer as it was is left out.
    """
    # An image may stand in a list twice; of two processes only one writes it.
    first = {places[k][0]: k for k in reversed(range(len(places)))}
    for batch in batches:
        found = batch.pop("prediction")
        shares, errors = np.full([len(batch["index"]), len(names)], -1.0), batch["error"].copy()
        for k, index in enumerate(batch["index"]):
            height, width = found["size"][k]
            mask = found["mask"][k][:height, :width]
            if errors[k] or (mask < 0).any():
                continue
            shares[k] = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
            if first[places[index][0]] == index:
                try:
                    _write(places[index], mask, files[index].file, names)
                except image_files.ImageError as error:
                    errors[k] = str(error).encode()
        yield batch | {"prediction": shares, "error": errors}


def _write(place, mask, file, names):
    """Writes the mask of an image and, if it is asked for, an overlay, a JPEG or PNG by its ending."""
    path, overlay = place
    if overlay:
        image = file_batches.decode_file(file)
        if image.shape[:2] != mask.shape:
            raise image_files.ImageError("it has changed meanwhile")
        copies.write(overlay, palette.overlay(image, mask, names))
    palette.write(path, mask)


def _report(batches, files, names, result):
    """Prints what was found in the images that could be read, and reports the others."""
    count = 0
    with tqdm(total=len(files), unit=" images") as bar:
        for read, shares, left_out in file_batches.by_image(batches, files):
            for image, row in zip(read, shares, strict=True):
                if row[0] < 0:
                    left_out.append((image, "the network's answers are not finite; take an older checkpoint"))
                    continue
                count += 1
                parts = (f"{names[k]} {row[k]:.1%}" for k in np.argsort(-row, kind="stable") if row[k] > 0)
                bar.write(f"{image.name}\t{', '.join(parts)}")
            for image, reason in left_out:
                bar.write(f"left out: {image.name}: {reason}", file=sys.stderr)
            bar.update(len(read) + len(left_out))
    print(f"written: {result}, masks of {count:,} images")
    if FLAGS.overlay:
        print(f"written: {FLAGS.overlay}, {count:,} images with their classes' colors")
    if count < len(files):
        raise ValueError(f"{len(files) - count:,} of {len(files):,} images were left out, as reported above")


if __name__ == "__main__":
    run(main)
