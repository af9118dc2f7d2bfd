"""Trains some steps as one of N processes, for test_distributed.py: records folder, result, batch and parts on argv."""

import functools
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from data_processing.input_pipeline import batches  # noqa: E402
from data_processing.input_pipeline.transforms import Augmentation  # noqa: E402
from data_processing.records import tfrecord  # noqa: E402
import distributed  # noqa: E402
from losses.multi_label import WeightedSigmoidLoss  # noqa: E402
from models import checkpoint  # noqa: E402
from models.resnet import build_resnet  # noqa: E402
from training.train_step import make_train_step  # noqa: E402

STEPS = 20
CLASSES = 5

folder, result, batch_size, parts, compression = sys.argv[1:]
ranks = distributed.start()
model = build_resnet(18, CLASSES, seed=ranks.rank)  # others than rank 0's must not matter
loss = WeightedSigmoidLoss(CLASSES, neg_select=0.5, any_rank=distributed.any_rank)
weights = checkpoint.model_variables(model)
step, state = make_train_step(
    model,
    weights,
    loss,
    weight_decay=1e-3,
    momentum=0.9,
    accumulate_steps=int(parts),
    average=functools.partial(distributed.average, compression=compression),
    batch_norm_training=False,
)
variables = weights | state | loss.variables_by_name()
distributed.run(lambda ranks, commit: None, variables.values())
index = batches.index_records(tfrecord.shard_paths(folder, "train"), CLASSES)
batches = batches.training_batches(
    index,
    class_num=CLASSES,
    batch_size=int(batch_size),
    image_size=32,
    seed=1,
    augmentation=Augmentation(rotated=0.0, color_jitter=0.0),
    rank=ranks.rank,
    size=ranks.size,
)
losses = []
for batch in batches.take(STEPS):
    losses.append(float(step(batch["image"], batch["label"], tf.constant(0.0001))["loss"]))
losses = np.mean(distributed.gather(losses), axis=0)
if ranks.rank == 0:
    np.savez(result, losses=losses, **{name.replace("/", "|"): np.asarray(v) for name, v in variables.items()})
