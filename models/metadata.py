"""What a checkpoint says of itself besides its weights."""

from typing import NamedTuple


class Metadata(NamedTuple):
    """What a checkpoint of ours says of its network besides the weights; None where nothing is known.

    Attributes:
      head: "softmax" or "sigmoid", what the logits are meant for.
      loss: name of the loss that it was trained with.
      image_size: height and width of the images, in pixels, that it was trained or validated with at last.
      dictionary: text of the dictionary of its classes, see `lists.dictionary.parse`.
    """

    head: str | None = None
    loss: str | None = None
    image_size: int | None = None
    dictionary: str | None = None


class Description(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      resnet_size: the network's depth; 0 if it is none of `models.resnet.DEPTHS`.
      class_num: number of classes; 0 without logits, as of a network that was trained for boxes or masks.
      step: steps that it was trained.
      head, loss, image_size, dictionary: see `Metadata`.
    """

    resnet_size: int
    class_num: int
    step: int
    head: str | None = None
    loss: str | None = None
    image_size: int | None = None
    dictionary: str | None = None
