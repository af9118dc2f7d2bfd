"""Batches of examples, with `tf.data`: in the order of `order.py`, read by `reading.py`, transformed by a task.

A record or image that is damaged keeps its position, so that nothing moves: its element says `valid` = False.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline import order, reading
from data_processing.input_pipeline.read_ahead import AHEAD
from distributed import Ranks


class InputConfig(NamedTuple):
    """How examples become batches; see the flags of the same names.

    Attributes:
      image_size: height and width of the network's input, in pixels.
      batch_size: images that a process computes at once.
      accumulate_steps: batches of a process that make one step together, and come as one.
      shuffle_buffer: records that are shuffled together.
      num_preprocess_threads: records that are read and decoded at the same time.
      random_seed: of the order and of the augmentation.
    """

    image_size: int
    batch_size: int
    accumulate_steps: int = 1
    shuffle_buffer: int = 2048
    num_preprocess_threads: int = 4
    random_seed: int = 1234


def training_batches(index, task, config, start=0, ranks=Ranks()):
    """Returns an endless dataset of the batches of one rank, from the `start`-th record on.

    Args:
      index: `RecordIndex`.
      task: a `tasks.base.Task`, of which `parse`, `train_transform`, `blank` and `batched` are used.
      config: an `InputConfig`.
      start: counts the records of all ranks and epochs before, so that a run may resume with another number of ranks.
      ranks: which process this is.

    Each element is a dictionary of what `train_transform` returns, with a first axis of batch_size * accumulate_steps:
      image: float32 [batch, image_size, image_size, 3] in [-1, 1], and what the task's records hold;
      name: string [batch], the name in the record, or of an invalid one the shard and byte;
      valid: bool [batch]. Where False, all but the name is that of another record of the batch, or, if no record of it
        is valid, of `blank`.
    """

    def mine():
        positions = order.sample_positions(
            len(index), config.shuffle_buffer, config.random_seed, start, index.portrait if task.shapes_vary else None
        )
        for position, record in positions:
            own = position % ranks.size == ranks.rank
            yield position[own], record[own]

    def parse(position, serialized):
        seed = tf.stack([tf.constant(config.random_seed, tf.int64), position])
        return task.train_transform(task.parse(serialized), config.image_size, seed)

    blank = task.blank(config.image_size, training=True)
    examples = reading.load(mine, index, parse, blank, config.num_preprocess_threads)
    batch_size = config.batch_size * config.accumulate_steps
    batches = task.batched(examples, batch_size, training=True)
    # A single example has no other that could stand for it.
    return (batches.map(reading.replace_invalid) if batch_size > 1 else batches).prefetch(4)


def evaluation_batches(index, task, config, ranks=Ranks()):
    """Returns a dataset of all records once, in their order; of the batches a rank takes every `size`-th.

    Elements are those of `training_batches`, by `eval_transform`, of `config.batch_size` images, the last one with as
    many as are left; invalid ones are those of `blank`.
    """

    def parse(position, serialized):
        return task.eval_transform(task.parse(serialized), config.image_size)

    own = np.arange(len(index))
    own = own[own // config.batch_size % ranks.size == ranks.rank]
    windows = [(some, some) for some in np.split(own, range(AHEAD, len(own), AHEAD))]
    blank = task.blank(config.image_size, training=False)
    examples = reading.load(lambda: windows, index, parse, blank, config.num_preprocess_threads)
    return task.batched(examples, config.batch_size, training=False).prefetch(2)
