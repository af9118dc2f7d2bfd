"""Trains a segmentation as one of N processes, for test_distributed_segmentation.py.

On argv: records folder, result, batch of a process, parts, and which batch normalisation is frozen: "all" or "none".
"""

from pathlib import Path
import sys
import zlib

sys.path.insert(0, str(Path(__file__).parents[1]))
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from data_processing.input_pipeline.batches import InputConfig, training_batches  # noqa: E402
from data_processing.records import tfrecord  # noqa: E402
from data_processing.records.index import index_records  # noqa: E402
import distributed  # noqa: E402
from models.resnet import NetworkConfig  # noqa: E402
from tasks import segmentation  # noqa: E402
from training.state import TrainState  # noqa: E402
from training.train_step import StepConfig, make_train_step  # noqa: E402

STEPS = 3
CLASSES = 4

folder, result, batch_size, parts, frozen = sys.argv[1:]
ranks = distributed.start()
config = segmentation.SegmentationConfig(
    resnet_size=10,
    network=NetworkConfig(),
    class_weights=(0.5, 1.0, 2.0, 1.5),
    hard_share=0.7,
    random_seed=1 + ranks.rank,  # others than rank 0's must not matter
)
task = segmentation.build(config, CLASSES)
if frozen == "all":
    for layer in task.model.layers:
        layer.trainable = layer.trainable and not isinstance(layer, keras.layers.BatchNormalization)
state = TrainState(task, ema_decay=0.5)
step = make_train_step(task, state, StepConfig(weight_decay=1e-3, accumulate_steps=int(parts)), ranks.rank)
variables = state.variables_by_name()
distributed.run(lambda ranks, commit: None, variables.values())
state.average.reset()
index = index_records(tfrecord.shard_paths(folder, "train"), CLASSES)
inputs = InputConfig(65, int(batch_size), int(parts), shuffle_buffer=8, random_seed=1)
losses, seen = [], []
for batch in training_batches(index, task, inputs, ranks=ranks).take(STEPS):
    crops = zip(batch["name"].numpy().tolist(), batch["image"].numpy(), batch["mask"].numpy(), strict=True)
    seen.append(
        [
            (f"{name} {zlib.crc32(image.tobytes())} {zlib.crc32(mask.tobytes())}", int((mask >= 0).sum()))
            for name, image, mask in crops
        ]
    )
    losses.append(float(step(batch, tf.constant(0.01))["loss"]))
losses = distributed.gather(losses)
# A rank takes every size-th image of a step.
seen = [
    [one for together in zip(*of_ranks, strict=True) for one in together]
    for of_ranks in zip(*distributed.gather(seen), strict=True)
]
if ranks.rank == 0:
    named = {name.replace("/", "|"): np.asarray(value) for name, value in variables.items()}
    digests, counted = np.moveaxis(np.array(seen), -1, 0)
    np.savez(result, losses=losses, digests=digests, counted=counted.astype(int), **named)
