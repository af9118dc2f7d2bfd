"""Trains some steps as one of N processes, for test_distributed.py: records folder, result, batch and parts on argv."""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from data_processing.input_pipeline.batches import InputConfig, training_batches  # noqa: E402
from data_processing.input_pipeline.transforms import Augmentation  # noqa: E402
from data_processing.records import tfrecord  # noqa: E402
from data_processing.records.index import index_records  # noqa: E402
import distributed  # noqa: E402
from losses.multi_label import LossConfig  # noqa: E402
from losses.weighted import WeightedSigmoidLoss  # noqa: E402
from models.resnet import build_resnet  # noqa: E402
from tasks.classification import Classification  # noqa: E402
from training.state import TrainState  # noqa: E402
from training.train_step import StepConfig, make_train_step  # noqa: E402

STEPS = 20
CLASSES = 5

folder, result, batch_size, parts, compression = sys.argv[1:]
ranks = distributed.start()
task = Classification(
    model=build_resnet(10, CLASSES, seed=ranks.rank),  # others than rank 0's must not matter
    kind="sparse",
    loss=WeightedSigmoidLoss(CLASSES, LossConfig(neg_select=0.5), any_rank=distributed.any_rank),
    augmentation=Augmentation(rotated=0.0, color_jitter=0.0),
    batch_norm_training=False,
)
state = TrainState(task)
config = StepConfig(weight_decay=1e-3, accumulate_steps=int(parts), compression=compression)
step = make_train_step(task, state, config, ranks.rank)
variables = state.variables_by_name()
distributed.run(lambda ranks, commit: None, variables.values())
index = index_records(tfrecord.shard_paths(folder, "train"), CLASSES)
inputs = InputConfig(image_size=32, batch_size=int(batch_size), random_seed=1)
losses = []
for batch in training_batches(index, task, inputs, ranks=ranks).take(STEPS):
    losses.append(float(step(batch, tf.constant(0.0001))["loss"]))
losses = np.mean(distributed.gather(losses), axis=0)
if ranks.rank == 0:
    np.savez(result, losses=losses, **{name.replace("/", "|"): np.asarray(v) for name, v in variables.items()})
