"""What makes training, fine-tuning and evaluation one loop: a task, from the record to the metrics.

The data of a sample goes through the methods in this order:

    record → parse → train_transform or eval_transform → batch → augment → forward → loss, or evaluator

A task is a value: it says what is to be computed, and holds no state of a run. Records' schema, transforms, head, loss
and evaluator of a kind of task stand together in one file of this folder.
"""

from training import plan


class Task:
    """The interface of a task; each method of it without a body is a subclass's to write.

    Attributes:
      class_num: number of classes.
      model: the `keras.Model` whose variables are trained, saved and restored (`models.checkpoint.model_variables`).
      loss: see `losses/base.py`; None where nothing is trained.
      head: "softmax" or "sigmoid", what the logits are meant for, which checkpoints say; None without logits.
      new_scopes: beginnings of the names of variables that --pretrain_ckpt need not hold, e.g. ("logits/",).
      class_scopes: those of them that mean other things where classes are others.
      primary_metric: name of the metric, more is better, by which the best checkpoint is chosen.
      shapes_vary: whether batches of training differ in the sizes of their images.
      network_name: what its network is called.
    """

    new_scopes: tuple[str, ...] = ()
    class_scopes: tuple[str, ...] = ()
    shapes_vary = False

    @property
    def network_name(self):
        return f"ResNet-{self.model.name.removeprefix('resnet_')}"

    def of_records(self, kind):
        """Returns the task for records that hold another kind of what it needs, see `records.index.RecordIndex`."""
        return self

    def parse(self, serialized):
        """Returns the example in a record, string []: a dictionary of tensors, with "name", string []."""
        raise NotImplementedError

    def train_transform(self, example, size, seed):
        """Returns the example as it is trained on: "image" decoded, cropped, flipped, and the rest with it.

        Args:
          example: of `parse`.
          size: of the network's input, in pixels.
          seed: int64 [2], from which alone all random numbers are drawn.

        What cannot be used is an error of an operation.
        """
        raise NotImplementedError

    def eval_transform(self, example, size):
        """Returns the example as it is evaluated on; args as of `train_transform`."""
        raise NotImplementedError

    def blank(self, size, training):
        """Returns what stands for an example that cannot be used: like a transform's result, and worth no loss."""
        raise NotImplementedError

    def batched(self, examples, batch_size, training):
        """Returns a dataset of batches of transformed examples; in training of whole ones, in the examples' order."""
        return examples.batch(batch_size, drop_remainder=training, num_parallel_calls=2 if training else None)

    def augment(self, batch, seed):
        """Returns a batch augmented as a whole, on the device, inside the compiled training step; `seed` int64 [2].

        Of a batch in parts (`accumulate_steps`) it is given each part, before this is computed. Labels must stay: the
        loss has counted them.
        """
        return batch

    def forward(self, batch, training=False, seed=None):
        """Returns the network's outputs of a batch: a dictionary of tensors [batch, …].

        Args:
          batch: of transformed examples.
          training: whether the loss is to be computed from it; batch normalisation uses the batch's statistics then.
          seed: int64 [2], of dropout.
        """
        raise NotImplementedError

    def eval_batch_size(self, batch_size):
        """Returns how many images to evaluate at once, where memory holds `batch_size` as the network sees them."""
        return batch_size

    def evaluator(self, scratch_dir=None, names=None):
        """Returns a new evaluator, see `evaluation/evaluate.py`.

        Args:
          scratch_dir: a folder for its temporary files, or None.
          names: (WordNet id or "", names) of each class, by index, for its report, or None.
        """
        raise NotImplementedError

    def views(self, crops):
        """Returns {title: task} of what images are evaluated by at the end; the first is that of all validations.

        `crops` are those that a user asks for, where a task has several.
        """
        del crops
        return {"whole": self}

    def settings(self):
        """Returns what a checkpoint says of the network beyond what all do, by the names of `checkpoint.Metadata`."""
        return {}

    def run_settings(self):
        """Returns what a run goes on with as it began, or says that it does not, by name, for its settings.json."""
        return {}

    def memory(self, batch_size, size):
        """Returns about how many bytes a process needs, by what they are for; see `training.plan.memory`."""
        return plan.memory(self.model, batch_size, size)

    def pictures(self, batch, names):
        """Returns images of a batch of training as a person looks at them, float32 [batch, height, width, 3] in [0, 1].

        `names` are those of the classes, or None.
        """
        del names
        return batch["image"] / 2 + 0.5

    def pictures_of_outputs(self, batch, outputs, names):
        """Returns the same of a batch of evaluation with what the network says of them, a list; [] to show none."""
        return []

    def captions(self, batch, names):
        """Returns a line for each image of a batch that says what it is labelled with; `names` by class, or None."""
        raise NotImplementedError
