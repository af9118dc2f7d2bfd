"""Many processes that train as one: the only file that knows Horovod.

Started by `mpirun` or `horovodrun`, each process has a rank from 0 and, with GPUs, one GPU. A process alone needs no
Horovod, and pays nothing for what is here: functions leave at once what there is nobody to share with.

Under `horovodrun --min-np … --max-np …` training is elastic: processes may die and join while it runs.
"""

import os
import pickle
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from utils.launcher import rank_and_size

try:
    from horovod.common.elastic import ObjectState, run_fn
    from horovod.common.exceptions import HorovodInternalError
    import horovod.tensorflow as hvd
except ImportError:
    hvd, ObjectState = None, object

# Set by `horovodrun`. One process may be joined by others then, so that it is never treated as one alone.
ELASTIC = os.environ.get("HOROVOD_ELASTIC") == "1"

# Gradients are sent in groups of about so many bytes, from the last layer to the first, as they come out of the
# backward pass: large enough for the network's bandwidth, small enough that sending starts early.
GROUP_BYTES = 32 * 2**20


class Ranks(NamedTuple):
    """Which process this is.

    Attributes:
      rank: from 0, over all machines.
      size: number of processes.
      local_rank: from 0, on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def start() -> Ranks:
    """Joins the other processes and takes this one's GPU; to be called before any operation of TensorFlow.

    Raises ValueError if a launcher has started several processes, and Horovod is not there, or cannot join them.
    """
    _, launched = rank_and_size(os.environ)
    if hvd is None:
        if launched > 1 or ELASTIC:
            raise ValueError(
                f"started as {launched} processes, but Horovod is not installed here: run `make horovod`, and start "
                "with the mpirun and python of .venv/bin"
            )
    devices = tf.config.list_physical_devices("GPU")
    if launched == 1 and not ELASTIC:
        tf.config.set_visible_devices(devices[:1], "GPU")
        return Ranks()
    hvd.init()
    ranks = this_process()
    if ranks.size != launched and not ELASTIC:
        raise ValueError(
            f"started as {launched} processes, of which Horovod sees {ranks.size}: start them with the mpirun of "
            ".venv/bin, which Horovod was built for"
        )
    if devices:
        if ranks.local_rank >= len(devices):
            raise ValueError(
                f"process {ranks.local_rank} of this machine has no GPU: it has {len(devices)}; start as many "
                "processes a machine"
            )
        tf.config.set_visible_devices(devices[ranks.local_rank], "GPU")
    return ranks


def run(train, variables):
    """Gives `variables`, TensorFlow's or Keras's, everywhere the values of rank 0, and calls `train(ranks, commit)`.

    `train` calls `commit` now and then, on all ranks after the same step. Elastic training keeps the values of then,
    and takes new processes in. When one dies, the others call `train` anew, with the values of the last commit of rank
    0; likewise when some join, with the present ones. It must therefore take all that it needs from `variables`.
    """
    if ELASTIC:
        variables = [v if isinstance(v, tf.Variable) else v.value for v in variables]
        run_fn(_as_horovod_error(train), _restart)(_State(variables))
        return
    broadcast(variables)
    train(this_process(), lambda: None)


class _State(ObjectState):
    """What elastic training shares and takes back: variables. (Horovod's own shares none when TensorFlow is eager.)"""

    def __init__(self, variables):
        self.variables = variables
        self.save()
        super().__init__(bcast_object=hvd.broadcast_object, get_rank=hvd.rank)

    def save(self):
        self.values = [variable.numpy() for variable in self.variables]

    def restore(self):
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(value)

    def sync(self):
        hvd.broadcast_variables(self.variables, root_rank=0)
        self.save()


def _as_horovod_error(train):
    """Makes of an operation's failure the error that elastic training waits for; Horovod's own sees some of them."""

    def run_once(state):
        try:
            train(this_process(), state.commit)
        except tf.errors.OpError as error:
            if "Horovod" not in error.message:
                raise
            raise HorovodInternalError(error.message) from error

    return run_once


def _restart():
    hvd.shutdown()
    hvd.init()


def this_process() -> Ranks:
    """Returns which process this is, after `start`."""
    return Ranks() if _alone() else Ranks(hvd.rank(), hvd.size(), hvd.local_rank())


def _alone():
    return hvd is None or not hvd.is_initialized() or (hvd.size() == 1 and not ELASTIC)


def average(tensors, compression="none"):
    """Returns the means over ranks of `tensors`, a list of float tensors: gradients, or moving averages.

    Args:
      tensors: in the order of the layers, from the first to the last; of the same shapes on all ranks.
      compression: "none", or "fp16", in which they are then sent and added up. (Horovod 0.28.1 cannot add bfloat16.)
    """
    if _alone():
        return tensors
    means = [None] * len(tensors)
    for group in groups([tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors]):
        reduced = hvd.grouped_allreduce(
            [tensors[k] for k in group], op=hvd.Average, compression=getattr(hvd.Compression, compression)
        )
        for k, mean in zip(group, reduced, strict=True):
            means[k] = mean
    return means


def groups(sizes, limit=GROUP_BYTES):
    """Returns lists of indices of `sizes`, in bytes, from the last to the first: neighbours up to `limit` together.

    A tensor above the limit, as of the logits layer of 11,166 classes, is a group of its own.
    """
    grouped, total = [], limit
    for k in reversed(range(len(sizes))):
        if total + sizes[k] > limit:
            grouped.append([])
            total = 0
        grouped[-1].append(k)
        total += sizes[k]
    return grouped


def any_rank(flags):
    """Returns where `flags`, bool [n], is true on any rank; all ranks must call it."""
    return flags if _alone() else tf.cast(hvd.allreduce(tf.cast(flags, tf.int32), op=hvd.Max), tf.bool)


def gather_flags(flags):
    """Returns `flags`, bool of any shape, of all ranks one after the other, [ranks, …]; all ranks must call it."""
    if _alone():
        return flags[None]
    gathered = hvd.allgather(tf.cast(flags[None], tf.uint8))
    return tf.cast(tf.ensure_shape(gathered, [hvd.size(), *flags.shape]), tf.bool)


def mean(value):
    """Returns the mean of `value`, float32 of any shape, over all ranks; all ranks must call it."""
    return value if _alone() else hvd.allreduce(value, op=hvd.Average)


def broadcast(variables):
    """Gives `variables`, TensorFlow's or Keras's, everywhere the values of rank 0; all ranks must call it."""
    if not _alone():
        hvd.broadcast_variables([v if isinstance(v, tf.Variable) else v.value for v in variables], root_rank=0)


def gather(value):
    """Returns a list of the `value` of each rank, anything that pickle takes; all ranks must call it."""
    return [value] if _alone() else hvd.allgather_object(value)


def from_first(compute):
    """Returns what `compute()` returns on rank 0, anything that pickle takes, everywhere; all ranks must call it.

    The others do not compute, but have it from there, arrays in pieces of `GROUP_BYTES`. In elastic training others may
    join at any time, who would not be waited for: there each computes it.

    An error of rank 0 is raised there, and on the others as a ValueError with its message.
    """
    if _alone() or ELASTIC:
        return compute()
    value, pickled, arrays, failure = None, b"", [], None
    if hvd.rank() == 0:
        try:
            value = compute()
            pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)  # the arrays are beside it
        except Exception as error:
            failure = error
    arrays = [np.frombuffer(array.raw(), np.uint8) for array in arrays]
    message = f"process 0: {failure}" if failure else ""
    sizes, pickled, message = hvd.broadcast_object(([array.size for array in arrays], pickled, message))
    if failure:
        raise failure
    if message:
        raise ValueError(message)
    arrays = arrays or [np.empty(size, np.uint8) for size in sizes]
    for array in arrays:
        for begin in range(0, array.size, GROUP_BYTES):
            piece = array[begin : begin + GROUP_BYTES]
            with tf.device("CPU:0"):
                received = hvd.broadcast(tf.constant(piece), root_rank=0, name="from_first")
            if hvd.rank() > 0:
                piece[:] = received
    return value if hvd.rank() == 0 else pickle.loads(pickled, buffers=arrays)


def on_first(batches, consume):
    """Calls `consume` on rank 0 with the batches of all ranks, and returns its result; None on the others.

    All ranks must call it: the others compute and send theirs.

    Args:
      batches: iterable of arrays [batch, …] in dictionaries and tuples of one structure on all ranks; some ranks may
        have fewer. Those that come together are joined in the order of ranks, filled up with -1 where they are wider
        on another rank.
      consume: function of the iterable of joined batches, which must go through all of them.
    """
    joined = _joined(iter(batches))
    if this_process().rank == 0:
        return consume(joined)
    for _ in joined:
        pass
    return None


def _joined(batches):
    while parts := [part for part in gather(next(batches, None)) if part is not None]:
        yield tf.nest.map_structure(_concatenated, *parts)


def _concatenated(*arrays):
    widest = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    return np.concatenate([_filled_up(array, widest) for array in arrays])


def _filled_up(array, shape):
    missing = [(0, 0), *((0, most - size) for most, size in zip(shape, array.shape[1:], strict=True))]
    return np.pad(array, missing, constant_values=-1) if np.any(missing) else array
