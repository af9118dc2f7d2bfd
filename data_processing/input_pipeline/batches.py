"""From shards to batches, with `tf.data`: indexed, shuffled, read, decoded and batched in parallel.

The order of the records is a pure function of the seed, so a run can begin at any step without reading what was before
it. Epoch e is a permutation of chunks of neighbouring records, shuffled again inside windows of `shuffle_buffer`
records; the epochs follow each other without end. Position s of that sequence is called position s. Step k of `size` ranks
with batches of B takes the positions from k * B * size on; a rank takes every `size`-th of them.

A record or image that is damaged keeps its position, so that nothing moves: its element says `valid` = False.
"""

from concurrent.futures import ThreadPoolExecutor
import dataclasses

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline.transforms import Augmentation, decode_jpeg, evaluation_image, training_image
from data_processing.records import schema, tfrecord

# Neighbours that stay together in the first shuffle, so that disks read megabytes, not single images.
CHUNK = 16
# The kind of labels is that of the first record whose checksum is right, among so many.
PEEKED = 100


@dataclasses.dataclass(frozen=True)
class RecordIndex:
    """Where each record is: 12 bytes a record.

    Attributes:
      paths: of the shards.
      shard: int32 [records], index into `paths`.
      offset: int64 [records], where the record begins in its shard, in bytes.
      kind: of the labels: "sparse", "dense" or "single".
      problems: what is wrong with shards of which a part had to be left out.
    """

    paths: tuple[str, ...]
    shard: np.ndarray
    offset: np.ndarray
    kind: str
    problems: tuple[str, ...]

    def __len__(self):
        return len(self.shard)


def index_records(paths, class_num, threads=16):
    """Returns the `RecordIndex` of the shards `paths`, all of which hold labels of one kind, for `class_num` classes.

    Raises `tfrecord.RecordError` if there are no records, or if the first is not as it must be.
    """
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(tfrecord.index_shard, paths))
    counts = [len(offsets) - 1 for offsets, _ in found]
    problems = tuple(problem for _, problem in found if problem)
    if not sum(counts):
        raise tfrecord.RecordError("; ".join(problems) or f"{paths[0]}: the shards are empty; build them again")
    shard = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
    offset = np.concatenate([offsets[:-1] for offsets, _ in found])
    return RecordIndex(tuple(paths), shard, offset, _first_kind(paths, shard, offset, class_num), problems)


def _first_kind(paths, shard, offset, class_num):
    for k, begin in zip(shard[:PEEKED], offset[:PEEKED], strict=True):
        data = tfrecord.read_record(paths[k], begin)
        if data:
            return schema.label_kind(data, class_num, paths[k])
    raise tfrecord.RecordError(f"{paths[0]}: the first {min(len(shard), PEEKED)} records are damaged; build it again")


def epoch_order(records, shuffle_buffer, seed, epoch, first=0):
    """Yields the order of an epoch from position `first` on, window by window: arrays of indices below `records`.

    All of them together are a permutation, fresh for each `epoch`.
    """
    chunks = np.random.default_rng([seed, epoch]).permutation(-(-records // CHUNK)).astype(np.int64)
    order = (chunks[:, None] * CHUNK + np.arange(CHUNK)).ravel()
    order = order[order < records]
    for begin in range(first - first % shuffle_buffer, records, shuffle_buffer):
        window = order[begin : begin + shuffle_buffer]
        np.random.default_rng([seed, epoch, begin]).shuffle(window)
        yield window[max(first - begin, 0) :]


def positions(records, shuffle_buffer, seed, first=0):
    """Yields without end, from position `first` on, two arrays int64 [n]: positions, and the record of each."""
    epoch, start = divmod(first, records)
    while True:
        for window in epoch_order(records, shuffle_buffer, seed, epoch, start):
            yield np.arange(first, first + len(window)), window
            first += len(window)
        epoch, start = epoch + 1, 0


def training_batches(
    index,
    *,
    class_num,
    batch_size,
    image_size,
    seed,
    augmentation=None,
    start=0,
    rank=0,
    size=1,
    shuffle_buffer=2048,
    threads=4,
):
    """Returns an endless dataset of the batches of one rank, from the `start`-th record on.

    `start` counts the records of all ranks and epochs before, so that a run may go on with another number of ranks.

    Each element is a dictionary of
      image: float32 [batch_size, image_size, image_size, 3] in [-1, 1], augmented as `augmentation` says;
      label: float32 [batch_size, class_num], confidences or -1; for single-label records int64 [batch_size];
      name: string [batch_size], the name in the record, or of an invalid one the shard and byte;
      valid: bool [batch_size]. Where False, image and label are those of another record of the batch. If there is none,
        the image is grey and the label -1.
    """
    augmentation = augmentation or Augmentation()

    def mine():
        for position, record in positions(len(index), shuffle_buffer, seed, start):
            own = position % size == rank
            yield position[own], *_places(index, record[own])

    def decode(position, encoded):
        return training_image(encoded, image_size, tf.stack([tf.constant(seed, tf.int64), position]), augmentation)

    dataset = tf.data.Dataset.from_generator(mine, output_signature=(tf.TensorSpec([None], tf.int64),) * 3)
    dataset = _load(dataset.prefetch(1).unbatch(), index, class_num, decode, [image_size, image_size, 3], threads)
    dataset = dataset.batch(batch_size, drop_remainder=True, num_parallel_calls=2).map(_replace_invalid)
    return dataset.prefetch(4)


def evaluation_batches(index, *, class_num, batch_size, image_size, rank=0, size=1, crop="center", threads=4):
    """Returns a dataset of all records once, in their order; of the batches a rank takes every `size`-th.

    Elements are those of `training_batches`, with the evaluation crop (see `evaluation_image`), the last one with as
    many rows as are left; invalid ones are grey, with label -1.
    """
    shape = [image_size, image_size, 3] if crop == "center" else [10, image_size, image_size, 3]

    def decode(position, encoded):
        return evaluation_image(decode_jpeg(encoded), image_size, crop)

    own = np.arange(len(index))
    own = own[own // batch_size % size == rank]
    records = tf.data.Dataset.from_tensor_slices((own, *_places(index, own)))
    return _load(records, index, class_num, decode, shape, threads).batch(batch_size).prefetch(2)


def _places(index, records):
    """Where records are: shard and byte, int64 [records] each."""
    return index.shard[records].astype(np.int64), index.offset[records]


def _load(places, index, class_num, decode, shape, threads):
    """Reads, parses and decodes records in parallel and in order.

    Args:
      places: dataset of position, shard and byte, int64 [] each.
      index: `RecordIndex`.
      class_num: number of classes.
      decode: function of position and encoded image to a float32 tensor of `shape`.
      threads: records worked on at the same time.
    """
    paths = tf.constant(index.paths)

    def parsed(position, serialized):
        record = schema.parse(serialized, index.kind, class_num)
        image = tf.ensure_shape(decode(position, record["image"]), shape)
        return {"image": image, "label": record["label"], "name": record["name"], "valid": True}

    def invalid(position, shard, offset):
        label = tf.constant(-1, tf.int64) if index.kind == "single" else -tf.ones([class_num])
        place = tf.strings.join([paths[shard], ", byte ", tf.strings.as_string(offset)])
        return {"image": tf.zeros(shape), "label": label, "name": place, "valid": False}

    def load(position, shard, offset):
        # An error ends a dataset of one element. What was to come after it, then, comes instead of it.
        good = tfrecord.read_from(paths[shard], offset).take(1).map(lambda serialized: parsed(position, serialized))
        bad = tf.data.Dataset.from_tensors((position, shard, offset)).map(invalid)
        return good.ignore_errors().concatenate(bad).take(1).get_single_element()

    return places.map(load, num_parallel_calls=threads, deterministic=True)


def _replace_invalid(batch):
    """Puts valid rows in the place of invalid ones, if there are any valid ones."""
    valid = batch["valid"]
    rows = tf.range(tf.size(valid))
    donors = tf.cond(tf.reduce_any(valid), lambda: tf.boolean_mask(rows, valid), lambda: rows)
    rows = tf.where(valid, rows, tf.gather(donors, rows % tf.size(donors)))
    return batch | {
        name: tf.cond(tf.reduce_all(valid), lambda x=batch[name]: x, lambda x=batch[name]: tf.gather(x, rows))
        for name in ("image", "label")
    }
