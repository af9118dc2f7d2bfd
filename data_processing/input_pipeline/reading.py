"""From positions to examples: records are read ahead, parsed and decoded in parallel, and in order."""

import contextlib
import itertools

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline.read_ahead import read_ahead

# Records that Python hands to TensorFlow together.
TOGETHER = 32


def load(windows, index, parse, blank, threads):
    """Returns a dataset of examples in the order of `windows`.

    Args:
      windows: function to an iterator of pairs of arrays int64 [n]: positions, each another than the one before it, and
        their records; of how many go together see `read_ahead`.
      index: `RecordIndex`.
      parse: function of position and record, string [], to a dictionary of tensors: the example.
      blank: what stands for a record that is damaged, or that `parse` fails on: a dictionary like an example's.
      threads: records read, and worked on, at the same time.

    To each example comes "valid", bool [], and the "name" of a blank one is the shard and byte of its record.
    """
    paths, failures = tf.constant(index.paths), []

    def rows():
        try:
            yield from _rows(windows(), index, threads)
        except Exception as error:
            failures.append(error)

    def example(position, shard, offset, record, spare):
        def stand_in():
            place = tf.strings.join([paths[shard], ", byte ", tf.strings.as_string(offset)])
            return tf.nest.map_structure(tf.convert_to_tensor, blank | {"name": place, "valid": False})

        return position, tf.cond(spare, stand_in, lambda: parse(position, record) | {"valid": tf.constant(True)})

    number, flag = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.bool)
    signature = (number, number, number, tf.TensorSpec([None], tf.string), flag)
    read = tf.data.Dataset.from_generator(rows, output_signature=signature).prefetch(1).unbatch()
    # An error loses its element, and then the blank one behind it comes instead. (A dataset for each record, that ends
    # with its error, would cost a third of a millisecond.) Half of the elements are blank, and no work.
    examples = read.map(example, num_parallel_calls=2 * threads, deterministic=True).ignore_errors()
    examples = examples.scan(np.int64(-1), lambda last, pair: (pair[0], (pair[0] != last, pair[1])))
    examples = examples.filter(lambda is_first, _: is_first).map(lambda _, example: example)

    def failure():
        # Nor is an error of reading, which is no damage, to be left out.
        for error in failures:
            raise error
        yield from ()

    return examples.concatenate(tf.data.Dataset.from_generator(failure, output_signature=examples.element_spec))


def _rows(windows, index, threads):
    """Yields some records at a time, each with a blank one behind it: position, shard, byte, bytes, and which is blank.

    The arrays have a first axis of two rows a record.
    """
    planned, wanted = itertools.tee(windows)
    with contextlib.closing(read_ahead((records for _, records in wanted), index, threads)) as read:
        for positions, records in planned:
            for k in range(0, len(records), TOGETHER):
                own = records[k : k + TOGETHER]
                places = (positions[k : k + TOGETHER], index.shard[own].astype(np.int64), index.offset[own])
                contents = list(itertools.islice(read, len(own)))
                if len(contents) < len(own):
                    return  # Python ends
                data = np.full([len(own), 2], b"", object)
                data[:, 0] = contents
                yield *(np.repeat(place, 2) for place in places), data.ravel(), np.tile([False, True], len(own))


def replace_invalid(batch):
    """Puts valid rows in the place of invalid ones, if there are any valid ones; names and "valid" stay."""
    valid = batch["valid"]
    others = {name: tensor for name, tensor in batch.items() if name not in ("name", "valid")}

    def replaced():
        rows = tf.range(tf.size(valid))
        donors = tf.cond(tf.reduce_any(valid), lambda: tf.boolean_mask(rows, valid), lambda: rows)
        rows = tf.where(valid, rows, tf.gather(donors, rows % tf.size(donors)))
        return {name: tf.gather(tensor, rows) for name, tensor in others.items()}

    return batch | tf.cond(tf.reduce_all(valid), lambda: others, replaced)
