"""From positions to examples: records are read, parsed and decoded in parallel and in order.

How a record's bytes come from its shard is decided here and nowhere else.
"""

import numpy as np
import tensorflow as tf

from data_processing.records import tfrecord


def places(index, records):
    """Returns where records are: shard and byte, int64 [records] each. (Held once, by the index, not by TensorFlow.)"""
    return index.shard[records].astype(np.int64), index.offset[records]


def load(positions, index, parse, blank, threads):
    """Returns a dataset of examples in the order of `positions`.

    Args:
      positions: dataset of a sample's position, shard and byte, int64 [] each.
      index: `RecordIndex`.
      parse: function of position and record, string [], to a dictionary of tensors: the example.
      blank: what stands for a record that is damaged, or that `parse` fails on: a dictionary like an example's.
      threads: records worked on at the same time.

    To each example comes "valid", bool [], and the "name" of a blank one is the shard and byte of its record.
    """
    paths = tf.constant(index.paths)

    def valid(position, record):
        return parse(position, record) | {"valid": True}

    def invalid(shard, offset):
        place = tf.strings.join([paths[shard], ", byte ", tf.strings.as_string(offset)])
        return blank | {"name": place, "valid": False}

    def example(position, shard, offset):
        # An error ends a dataset of one element. What was to come after it, then, comes instead of it.
        good = tfrecord.read_from(paths[shard], offset).take(1).map(lambda record: valid(position, record))
        bad = tf.data.Dataset.from_tensors((shard, offset)).map(invalid)
        return good.ignore_errors().concatenate(bad).take(1).get_single_element()

    return positions.map(example, num_parallel_calls=threads, deterministic=True)


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
