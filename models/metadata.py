"""What a checkpoint says of itself besides its weights."""

from typing import NamedTuple


class Metadata(NamedTuple):
    """What a checkpoint of ours says of its network besides the weights; None where nothing is known.

    Attributes:
      head: "softmax" or "sigmoid", what the logits are meant for; "boxes" of a network that finds objects, "masks" of
        one that says the class of each pixel.
      loss: name of the loss that it was trained with.
      image_size: height and width of the images, in pixels, that it was trained or validated with at last; of one with
        boxes the short side.
      dictionary: text of the dictionary of its classes, see `lists.dictionary.parse`.
      anchors: sizes of the anchors of a network with boxes, in pixels, with commas between.
      long_side: what the long side of an image is reduced to, if it is more, in pixels; of one with boxes.
      output_stride, decoder: of a network with masks, see `models.deeplab.DeepLabConfig`.
    """

    head: str | None = None
    loss: str | None = None
    image_size: int | None = None
    dictionary: str | None = None
    anchors: str | None = None
    long_side: int | None = None
    output_stride: int | None = None
    decoder: bool | None = None


class Description(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      resnet_size: the network's depth; 0 if it is none of `models.resnet.DEPTHS`.
      class_num: number of classes; 0 of a network without a head.
      step: steps that it was trained.
      head, loss, image_size, dictionary, anchors, long_side, output_stride, decoder: see `Metadata`.
    """

    resnet_size: int
    class_num: int
    step: int
    head: str | None = None
    loss: str | None = None
    image_size: int | None = None
    dictionary: str | None = None
    anchors: str | None = None
    long_side: int | None = None
    output_stride: int | None = None
    decoder: bool | None = None
