"""Classification of whole images, with one label each or with many: record, transforms, head, loss and evaluator."""

import dataclasses
import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data_processing.input_pipeline.augmentation import NEUTRAL, augmented
from data_processing.input_pipeline.transforms import (
    Augmentation,
    decode_jpeg,
    evaluation_image,
    training_crop,
    training_image,
)
from data_processing.records import schema
import distributed
from evaluation.multi_label import MultiLabelConfig, MultiLabelEvaluator
from evaluation.single_label import SingleLabelEvaluator
from losses.multi_label import FUNCTIONS, LossConfig, MultiLabelLoss, balanced_weights
from losses.single_label import SoftmaxLoss
from losses.weighted import Spread, WeightedSigmoidLoss
from models import inference
from models.resnet import NetworkConfig, build_resnet, resolve_data_format
from tasks.base import Task


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """See `Task`.

    Attributes:
      model: a network of `models.resnet`, with its logits.
      kind: of the records' labels, one of `schema.KINDS`.
      head: "softmax" or "sigmoid". With sigmoids, single labels are trained on as vectors of 0 and 1.
      loss: one of `losses`.
      augmentation: how training images are augmented.
      crop: what is evaluated of an image, one of `models.inference.CROPS`.
      drop_rate: share of the features that dropout sets to 0 before the logits.
      batch_norm_training: whether batch normalisation uses the batch's statistics and moves its averages.
      evaluation: the `MultiLabelConfig`.
    """

    model: keras.Model
    kind: str
    head: str = "sigmoid"
    loss: object = None
    augmentation: Augmentation = Augmentation()
    crop: str = "center"
    drop_rate: float = 0.0
    batch_norm_training: bool = True
    evaluation: MultiLabelConfig = MultiLabelConfig()

    new_scopes = class_scopes = ("logits/",)

    @functools.cached_property
    def _backbone(self):
        return keras.Model(self.model.input, self.model.output["feature"])

    @property
    def class_num(self):
        return self.model.output["logits"].shape[-1]

    @property
    def primary_metric(self):
        return "top_1" if self.kind == "single" else "macro_map"

    def of_records(self, kind):
        return dataclasses.replace(self, kind=kind)

    def parse(self, serialized):
        return schema.parse(serialized, self.kind, self.class_num)

    def train_transform(self, example, size, seed):
        """With --augment_on=device the image is the crop, uint8, and "drawn" is what `augment` makes of it."""
        example = example | {"label": self._training_label(example["label"])}
        if not self._on_device:
            return example | {"image": training_image(example["image"], size, seed, self.augmentation)}
        image, drawn = training_crop(example["image"], size, seed, self.augmentation)
        return example | {"image": tf.cast(tf.round(image), tf.uint8), "drawn": drawn}

    @property
    def _on_device(self):
        return self.augmentation.augment_on == "device"

    def augment(self, batch, seed):
        del seed  # what is drawn comes with the images
        if not self._on_device:
            return batch
        others = {name: x for name, x in batch.items() if name != "drawn"}
        return others | {"image": augmented(batch["image"], batch["drawn"])}

    def eval_transform(self, example, size):
        return example | {"image": evaluation_image(decode_jpeg(example["image"]), size, self.crop)}

    def blank(self, size, training):
        """Grey, and labelled -1: unknown."""
        label = tf.constant(-1, tf.int64) if self.kind == "single" else -tf.ones([self.class_num])
        crops = [10] if self.crop == "10crop" and not training else []
        blank = {"image": tf.zeros([*crops, size, size, 3]), "label": label, "name": ""}
        if training:
            blank["label"] = self._training_label(label)
        if training and self._on_device:
            blank |= {"image": tf.fill([size, size, 3], tf.constant(128, tf.uint8)), "drawn": tf.constant(NEUTRAL)}
        return blank

    def _training_label(self, label):
        if self.kind != "single" or self.head == "softmax":
            return label
        return tf.where(label < 0, -1.0, tf.one_hot(label, self.class_num))

    def forward(self, batch, training=False, seed=None):
        """Returns "logits", float32 [batch, class_num], in evaluation the mean over the crops."""
        if not training:
            return {"logits": inference.apply(self.model, batch["image"], "logits")}
        if not self.drop_rate:
            return {"logits": self.model(batch["image"], training=self.batch_norm_training)["logits"]}
        feature = self._backbone(batch["image"], training=self.batch_norm_training)
        kept = tf.nn.experimental.stateless_dropout(feature, self.drop_rate, seed)
        return {"logits": self.model.get_layer("logits")(kept)}

    def views(self, crops):
        return {crop: dataclasses.replace(self, crop=crop) for crop in (self.crop, *crops)}

    def eval_batch_size(self, batch_size):
        return inference.images_at_once(batch_size, self.crop)

    def evaluator(self, scratch_dir=None, names=None):
        if self.kind == "single":
            return SingleLabelEvaluator(self.class_num, self.head, names)
        return MultiLabelEvaluator(self.class_num, self.evaluation, scratch_dir, names)

    def run_settings(self):
        return {"augment_on": self.augmentation.augment_on}

    def pictures(self, batch, names):
        """As the network sees them."""
        return super().pictures(self.augment(batch, None), names)

    def captions(self, batch, names):
        labels = np.asarray(batch["label"])
        classes = [np.flatnonzero(label > 0) if label.ndim else [label] for label in labels]
        return [", ".join(names[k] if names and k >= 0 else str(k) for k in row) for row in classes]


class ClassificationConfig(NamedTuple):
    """How a network is built and trained to classify; see the flags of the names of the fields, and of theirs."""

    resnet_size: int
    network: NetworkConfig
    losses: LossConfig
    augmentation: Augmentation
    drop_rate: float = 0.0
    top_k_pred: int = 5
    random_seed: int = 1234
    accumulate_steps: int = 1


def choose_loss(loss, head, kind):
    """Returns the name of the loss to train with, see `build`, from what a user asks for.

    Args:
      loss: a name, of which "plain" is another for "sigmoid", or None: that of the head.
      head: "softmax", "sigmoid", or None: softmax for single labels without a loss of sigmoids, else sigmoid.
      kind: of the records' labels.

    Raises ValueError if these contradict each other.
    """
    if head == "softmax" and kind != "single":
        raise ValueError(f"--data_dir has {kind} labels, several an image: they need --head=sigmoid")
    if head == "softmax" and loss not in (None, "softmax"):
        raise ValueError(f"--loss={loss} is of a sigmoid head; leave --head=softmax or --loss out")
    if loss:
        return "sigmoid" if loss == "plain" else loss
    return "softmax" if head == "softmax" or (head is None and kind == "single") else "sigmoid"


def build(config, kind, class_num, loss, class_counts=None):
    """Returns the task to train a network that has random weights.

    Args:
      config: the `ClassificationConfig`.
      kind: of the records' labels, one of `schema.KINDS`.
      class_num: number of classes.
      loss: "weighted" (the paper's), one of `losses.multi_label.FUNCTIONS`, or "softmax", which needs single labels.
      class_counts: of "class_balanced", the sums of the training records' labels by class, floats [class_num].

    Raises ValueError for a `presence` that elastic training cannot keep.
    """
    network = config.network._replace(data_format=resolve_data_format(config.network.data_format))
    augment_on = config.augmentation.augment_on or ("device" if keras.distribution.list_devices("gpu") else "host")
    return Classification(
        model=build_resnet(config.resnet_size, class_num, network, seed=config.random_seed),
        kind=kind,
        head="softmax" if loss == "softmax" else "sigmoid",
        loss=_loss(config, class_num, loss, class_counts),
        augmentation=config.augmentation._replace(augment_on=augment_on),
        drop_rate=config.drop_rate,
        # During training histograms do: no disk is needed, and they say by how much they may be wrong.
        evaluation=MultiLabelConfig(top_k_pred=config.top_k_pred, ap_mode="binned"),
    )


def _loss(config, class_num, loss, class_counts):
    if loss == "softmax":
        return SoftmaxLoss(config.losses.label_smoothing)
    if loss == "weighted":
        presence, ranks = config.losses.presence, distributed.this_process()
        if presence != "global" and distributed.ELASTIC:
            raise ValueError(
                f"--presence={presence} counts by process, and in elastic training these come and go: leave it out, or "
                "start a fixed number of processes by mpirun"
            )
        spread = Spread(ranks.rank, ranks.size, config.accumulate_steps, distributed.gather_flags)
        return WeightedSigmoidLoss(class_num, config.losses, config.random_seed, distributed.any_rank, spread)
    weights = 1.0
    if loss == "class_balanced":
        if class_counts is None:
            raise ValueError("--loss=class_balanced weighs classes by how often they occur, and nothing counted them")
        weights = balanced_weights(class_counts)
    return MultiLabelLoss(FUNCTIONS[loss], config.losses, weights)
