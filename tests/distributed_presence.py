"""Counts some batches as one of N processes, for test_distributed_presence.py: presence, parts and result on argv."""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from data_processing.input_pipeline.transforms import Augmentation  # noqa: E402
import distributed  # noqa: E402
from losses.multi_label import LossConfig  # noqa: E402
from models.resnet import NetworkConfig  # noqa: E402
from tasks import classification  # noqa: E402

STEPS, IMAGES, CLASSES = 25, 8, 12

presence, parts, result = sys.argv[1:]
ranks = distributed.start()
losses = LossConfig(neg_select=0.5, presence=presence)
config = classification.ClassificationConfig(10, NetworkConfig(), losses, Augmentation(), accumulate_steps=int(parts))
loss = classification.build(config, "sparse", CLASSES, "weighted").loss
count = tf.function(loss.count, autograph=False)
random = np.random.default_rng(ranks.rank)
labels = np.float32(random.random((STEPS, IMAGES, CLASSES)) < np.linspace(0, 0.3, CLASSES) ** 2)
weights, selected = [], []
for step in range(STEPS):
    weights.append(count({"label": tf.constant(labels[step])}, tf.constant(step, tf.int64)).numpy())
counters = {name.replace("/", "|"): variable.numpy() for name, variable in loss.variables_by_name().items()}
gathered = distributed.gather((labels, np.array(weights), counters))
if ranks.rank == 0:
    of_ranks = zip(*gathered, strict=True)
    labels, weights, counters = of_ranks
    names = {name: np.stack([one[name] for one in counters]) for name in counters[0]}
    np.savez(result, labels=np.stack(labels), weights=np.stack(weights), **names)
