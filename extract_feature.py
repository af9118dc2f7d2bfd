"""Writes the features of images: what the network's last layer before the classes says of each, 2048 numbers.

    python extract_feature.py --pretrain_ckpt=./ckpts --images=imglist.txt --result=features.txt

`--images` is a folder, a list (path and label, if any, on each line) or one image. `--result` decides the form by its
ending: .txt or .tsv is a line of path, label and numbers for each image, .npz and .h5 are arrays `names`, `labels`
and `features`. The checkpoint knows its own depth and number of classes. Memory holds a few batches and the paths, but
no features, however many images there are; the paths of an .npz stand in it as wide as the longest, 4 bytes a
character, so millions of them belong into an .h5. Under `mpirun` each process computes a share of the features, and the
first one writes them.

An image that cannot be read is reported and left out; then the exit status is 1, and the result holds the others.
"""

import collections
import os
import shutil
import sys
import tempfile
import zipfile

from flags import FLAGS, checked
from absl import app
import h5py
import numpy as np
from tqdm import tqdm

from data_processing.input_pipeline import file_batches
import distributed
from models import checkpoint
from models.inference import output_function
from models.resnet import resolve_data_format
from utils.files import atomic_write

BATCH_SIZE = 32
# Nine digits give back a float32 exactly.
NUMBER = "%.9g"


def main(argv):
    del argv
    ranks = distributed.start()
    write = _writer(FLAGS.result)
    found = file_batches.list_image_files(FLAGS.images)
    model, description = checkpoint.load_model(
        FLAGS.pretrain_ckpt or FLAGS.model_dir,
        data_format=resolve_data_format(FLAGS.data_format),
        precision=FLAGS.precision,
        batch_norm_epsilon=FLAGS.batch_norm_epsilon,
        expected={"resnet_size": int(FLAGS.resnet_size)} if FLAGS["resnet_size"].present else {},
    )
    width = model.output["feature"].shape[-1]
    predict = output_function(model, "feature", FLAGS.crop, FLAGS.xla)
    if ranks.rank:
        collections.deque(_predictions(predict, found, ranks), maxlen=0)
        return
    print(f"ResNet-{description.resnet_size}, step {description.step:,}: {width} numbers for each of {len(found):,}")
    with atomic_write(FLAGS.result) as temp_path, tqdm(total=len(found), unit=" images") as bar:
        written = write(temp_path, _features(_predictions(predict, found, ranks), bar), width)
    print(f"written: {FLAGS.result}, {written:,} features")
    if written < len(found):
        raise ValueError(f"{len(found) - written:,} of {len(found):,} images could not be read and were left out")


def _predictions(predict, found, ranks):
    """Yields what `file_batches.predict_files` yields, for the images of all ranks."""
    return file_batches.predict_files(
        predict,
        found,
        join=distributed.gathered,
        batch_size=FLAGS.batch_size if FLAGS["batch_size"].present else BATCH_SIZE,
        image_size=FLAGS.image_size,
        rank=ranks.rank,
        size=ranks.size,
        crop=FLAGS.crop,
        threads=FLAGS.num_preprocess_threads,
    )


def _features(predictions, bar):
    """Yields the images that could be read and their features, batch by batch; reports the others."""
    for read, features, unreadable in predictions:
        for image, reason in unreadable:
            bar.write(f"left out: {image.name}: {reason}", file=sys.stderr)
        yield read, features
        bar.update(len(read) + len(unreadable))


def _writer(result):
    """Returns the function that writes the form that `result` asks for; ValueError if there is none."""
    writers = {".tsv": write_text, ".txt": write_text, ".npz": write_npz, ".h5": write_hdf5}
    ending = os.path.splitext(result)[1].lower()
    if ending not in writers:
        raise ValueError(f"--result={result}: name a file that ends in {', '.join(writers)}")
    return writers[ending]


def write_text(path, batches, width):
    """Writes path<TAB>label<TAB>numbers with spaces between them, as published; returns how many lines.

    Args:
      path: of the file to write.
      batches: iterable of a list of `file_batches.ImageFile` and their features, float32 [images, width].
      width: of a feature.
    """
    form = " ".join([NUMBER] * width)
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for read, features in batches:
            for image, feature in zip(read, features, strict=True):
                file.write(f"{image.name}\t{image.label}\t{form % tuple(feature.tolist())}\n")
            count += len(read)
    return count


def write_npz(path, batches, width):
    """Writes arrays `names`, `labels` (text) and `features` (float32 [images, width]) for `numpy.load`.

    Arguments and result as of `write_text`. Features go to a nameless file beside it first, since an array begins with
    its length: on disk there must be room for them twice.
    """
    names, labels = [], []
    with tempfile.TemporaryFile(dir=path.parent) as temp_path:
        for read, features in batches:
            names += [image.name for image in read]
            labels += [image.label for image in read]
            temp_path.write(np.ascontiguousarray(features, np.float32).data)
        temp_path.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
        with zipfile.ZipFile(path, "w") as archive:
            for name, texts in (("names", names), ("labels", labels)):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.array(texts, np.str_), allow_pickle=False)
            with archive.open("features.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header | {"shape": (len(names), width)})
                shutil.copyfileobj(temp_path, file)
    return len(names)


def write_hdf5(path, batches, width):
    """Writes datasets `names`, `labels` (text) and `features` (float32 [images, width]), batch after batch.

    Arguments and result as of `write_text`.
    """
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        names = file.create_dataset("names", (0,), text, maxshape=(None,), chunks=(1024,))
        labels = file.create_dataset("labels", (0,), text, maxshape=(None,), chunks=(1024,))
        table = file.create_dataset("features", (0, width), np.float32, maxshape=(None, width), chunks=(64, width))
        count = 0
        for read, features in batches:
            for dataset in (names, labels, table):
                dataset.resize(count + len(read), axis=0)
            names[count:] = [image.name for image in read]
            labels[count:] = [image.label for image in read]
            table[count:] = features
            count += len(read)
    return count


if __name__ == "__main__":
    app.run(checked(main))
