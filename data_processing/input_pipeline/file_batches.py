"""Images given as files: which ones, batches of them for a network, and what it says of each.

What scripts share that take images as they lie on disk. Files are untrusted (`data_processing.images.image_files`):
one that cannot be used keeps its place in the order, with the reason.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline.transforms import MAX_ASPECT_RATIO, evaluation_image
from data_processing.lists.image_list import decode_line
from distributed import Ranks

LIST_ENDINGS = (".txt", ".tsv", ".lst", ".csv")
# Links that are named of those that are left out.
SHOWN = 5


class ImageFile(NamedTuple):
    """An image to be read.

    Attributes:
      name: its path as the user gave it, on one line without tabs and in UTF-8: anything else stands as an escape.
      label: what follows the path in a list, in single spaces, or "".
      file: the path that opens it.
    """

    name: str
    label: str
    file: str


def list_image_files(images, quiet=False) -> list[ImageFile]:
    """Returns the images that `images` stands for: all below a folder, sorted, or those of a list, or one file.

    A list is a file whose name ends in one of LIST_ENDINGS. A line is a path and, after a tab, a comma (.csv) or white
    space, a label, which may be missing. A path with white space needs a tab after it. Relative paths are looked for
    below the working directory and then below the list's folder. What a folder holds and is left out, links, is counted
    in a line that is printed, unless `quiet`.

    Raises ValueError if there are no images, OSError if `images` or a folder in it cannot be read, ImageListError for
    a list that is not UTF-8. About 200 bytes of memory an image.
    """
    if not images:
        raise ValueError("--images is missing; give a folder, a list or an image")
    if os.path.isdir(images):
        links = []
        files = [ImageFile(_printable(path), "", path) for path in image_files.image_paths(images, links)]
        if links and not quiet:
            first = ", ".join(_printable(path) for path in links[:SHOWN]) + (", …" if len(links) > SHOWN else "")
            print(f"warning: {len(links):,} links left out, to folders or out of {images}: {first}")
        contents = f"no file ends in {', '.join(image_files.EXTENSIONS)}"
    elif images.lower().endswith(LIST_ENDINGS):
        files = _read_list(images)
        contents = "the list is empty"
    else:
        os.stat(images)
        return [ImageFile(_printable(images), "", images)]
    if not files:
        raise ValueError(f"{images}: {contents}; give images with --images")
    return files


def _read_list(path):
    folder = os.path.dirname(path)
    files = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = decode_line(line, f"{path}:{number}")
            if not text:
                continue
            separator = "\t" if "\t" in text else "," if path.lower().endswith(".csv") else None
            name, *label = text.split(separator)
            name = name.strip()
            beside = os.path.join(folder, name)
            file_path = name if os.path.exists(name) or not os.path.exists(beside) else beside
            files.append(ImageFile(name, " ".join(" ".join(label).split()), file_path))
    return files


def _printable(path):
    """File names may hold line ends, tabs and bytes that are no UTF-8; results hold one name a line."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text.translate({code: repr(chr(code))[1:-1] for code in range(32)})


class FileConfig(NamedTuple):
    """How files become batches; see the flags of the same names.

    Attributes:
      batch_size: images that a process computes at once.
      image_size: height and width of the network's input, in pixels.
      crop: what is used of an image, see `transforms.evaluation_image`.
      max_pixels: largest image.
      num_preprocess_threads: files that are read and decoded at the same time.
    """

    batch_size: int
    image_size: int
    crop: str = "center"
    max_pixels: int = image_files.MAX_PIXELS
    num_preprocess_threads: int = 4


def file_batches(paths, config, ranks=Ranks()):
    """Returns a dataset of the images at `paths`, in their order, read and decoded in parallel.

    Args:
      paths: of the files.
      config: a `FileConfig`.
      ranks: which process this is; of the batches it takes every `size`-th.

    Each element is a dictionary of
      image: float32 [batch, image_size, image_size, 3] in [-1, 1], the evaluation crop (see `evaluation_image`), or
        [batch, 10, image_size, image_size, 3] with crop="10crop"; zeros where the file cannot be used;
      index: int64 [batch], into `paths`;
      error: string [batch], why the file cannot be used, or "".
    The last batch has as many rows as are left. An image with more than `max_pixels` pixels, or more than
    MAX_ASPECT_RATIO times as long as wide, counts as one that cannot be used.
    """
    batch_size, size = config.batch_size, config.image_size
    shape = [size, size, 3] if config.crop == "center" else [10, size, size, 3]

    def decode(index):
        try:
            return _decode_file(paths[index], config.max_pixels), b""
        except image_files.ImageError as error:
            return np.zeros([1, 1, 3], np.uint8), str(error).encode()

    def load(index):
        image, error = tf.numpy_function(decode, [index], [tf.uint8, tf.string])
        image = tf.ensure_shape(image, [None, None, 3])
        error = tf.ensure_shape(error, [])
        cropped = tf.cond(error == "", lambda: evaluation_image(image, size, config.crop), lambda: tf.zeros(shape))
        return {"image": tf.ensure_shape(cropped, shape), "index": index, "error": error}

    # Paths are looked up by index in Python: a second copy of millions of strings in TensorFlow would be needless.
    own = tf.data.Dataset.range(len(paths)).filter(lambda index: index // batch_size % ranks.size == ranks.rank)
    dataset = own.map(load, num_parallel_calls=config.num_preprocess_threads, deterministic=True)
    return dataset.batch(batch_size).prefetch(2)


def _decode_file(path, max_pixels):
    """RGB uint8 [height, width, 3]; ImageError for everything that may be wrong with a file."""
    try:
        data = image_files.read_file(path, max_pixels)
    except OSError as error:
        raise image_files.ImageError(error.strerror or str(error)) from error
    except ValueError as error:  # a null byte in the path
        raise image_files.ImageError(str(error)) from error
    image = image_files.decode(data, max_pixels)
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise image_files.ImageError(f"{width} x {height} pixels, more than {MAX_ASPECT_RATIO} times as long as wide")
    return image


def predictions(predict, files, config, ranks=Ranks()):
    """Yields, batch by batch, what a network says of this process's share of images in files.

    Args:
      predict: function of a batch of images to a tensor or array [batch, ...].
      files: list of `ImageFile`.
      config, ranks: of `file_batches`.

    Yields dictionaries of arrays: "prediction", and "index" and "error" of `file_batches`.
    """
    for batch in file_batches([image.file for image in files], config, ranks):
        batch["prediction"] = predict(batch.pop("image"))
        yield {name: np.asarray(value) for name, value in batch.items()}


def by_image(batches, files):
    """Yields, for each batch of `predictions`, of which several processes' may be joined, three things:

    the images that were read, a list of `ImageFile`; the rows of the prediction that belong to them, an array
    [read, ...]; and the other images of the batch, a list of (`ImageFile`, reason).
    """
    for batch in batches:
        prediction, errors = batch["prediction"], batch["error"]
        here = [files[index] for index in batch["index"]]
        read = errors == b""
        unreadable = [(here[k], errors[k].decode("utf-8", "replace")) for k in np.flatnonzero(~read)]
        yield [here[k] for k in np.flatnonzero(read)], prediction[read], unreadable
