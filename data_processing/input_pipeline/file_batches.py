"""Images given as files: which ones, batches of them for a network, and what it says of each.

What scripts share that take images as they lie on disk. Files are untrusted (`data_processing.images.image_files`):
one that cannot be used keeps its place in the order, with the reason.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline import groups
from data_processing.input_pipeline.transforms import MAX_ASPECT_RATIO
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
      max_pixels: largest image.
      num_preprocess_threads: files that are read and decoded at the same time.
    """

    batch_size: int
    max_pixels: int = image_files.MAX_PIXELS
    num_preprocess_threads: int = 4


def file_batches(paths, transform, config, ranks=Ranks()):
    """Returns a dataset of the images at `paths`, read and decoded in parallel.

    Args:
      paths: of the files.
      transform: function of an image, uint8 [height, width, 3], to a network's input: a tensor, or several in a
        dictionary or tuple. Images whose first tensors have other shapes come in different batches, so that none is
        padded for the sake of another.
      config: a `FileConfig`.
      ranks: which process this is; of each `size` times `batch_size` images it takes its `batch_size`.

    Each element is a dictionary of
      input: what `transform` returns, with a first axis for the batch; of a file that cannot be used, it is that of an
        image of one black pixel;
      index: int64 [batch], into `paths`;
      error: string [batch], why the file cannot be used, or "".
    Images of one shape are in their order, and their last batch has as many rows as are left; of many shapes others may
    have fewer than `batch_size`, see `groups`. An image with more than `max_pixels` pixels, or more than
    MAX_ASPECT_RATIO times as long as wide, counts as one that cannot be used.
    """
    batch_size = config.batch_size

    def decoded(index):
        try:
            return decode_file(paths[index], config.max_pixels), b""
        except image_files.ImageError as error:
            return np.zeros([1, 1, 3], np.uint8), str(error).encode()

    def load(index):
        image, error = tf.numpy_function(decoded, [index], [tf.uint8, tf.string])
        image = tf.ensure_shape(image, [None, None, 3])
        return {"input": transform(image), "index": index, "error": tf.ensure_shape(error, [])}

    # Paths are looked up by index in Python: a second copy of millions of strings in TensorFlow would be needless.
    own = tf.data.Dataset.range(len(paths)).filter(lambda index: index // batch_size % ranks.size == ranks.rank)
    dataset = own.map(load, num_parallel_calls=config.num_preprocess_threads, deterministic=True)
    return groups.by_shape(dataset, batch_size, lambda example: tf.nest.flatten(example["input"])[0]).prefetch(2)


def decode_file(path, max_pixels=image_files.MAX_PIXELS):
    """Returns the image in a file, RGB uint8 [height, width, 3].

    Raises ImageError for everything that may be wrong with it, also if it has more than `max_pixels` pixels or is more
    than MAX_ASPECT_RATIO times as long as wide.
    """
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


def predictions(predict, files, transform, config, ranks=Ranks()):
    """Yields, batch by batch, what a network says of this process's share of images in files.

    Args:
      predict: function of a batch of inputs to a tensor or array [batch, ...], or to several in a dictionary or tuple.
      files: list of `ImageFile`.
      transform, config, ranks: of `file_batches`.

    Yields dictionaries of arrays: "prediction", and "index" and "error" of `file_batches`.
    """
    for batch in file_batches([image.file for image in files], transform, config, ranks):
        batch["prediction"] = predict(batch.pop("input"))
        yield tf.nest.map_structure(np.asarray, batch)


def by_image(batches, files):
    """Yields, for each batch of `predictions`, of which several processes' may be joined, three things:

    the images that were read, a list of `ImageFile`; the rows of the prediction that belong to them, an array
    [read, ...] or several; and the other images of the batch, a list of (`ImageFile`, reason).
    """
    for batch in batches:
        errors = batch["error"]
        here = [files[index] for index in batch["index"]]
        read = errors == b""
        unreadable = [(here[k], errors[k].decode("utf-8", "replace")) for k in np.flatnonzero(~read)]
        rows = tf.nest.map_structure(lambda array, read=read: array[read], batch["prediction"])
        yield [here[k] for k in np.flatnonzero(read)], rows, unreadable
