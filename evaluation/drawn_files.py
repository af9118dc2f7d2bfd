"""Copies of images with what was found drawn into them."""

from evaluation import copies, drawing


def write(path, image, objects, names):
    """Writes a copy of an image, see `copies.write`, with objects drawn into it.

    Args:
      path: of the copy.
      image: uint8 [height, width, 3].
      objects: `box_predictions.FoundObjects`.
      names: of the classes, by index.
    """
    captions = [f"{names[k]} {score:.2f}" for k, score in zip(objects.classes, objects.scores, strict=True)]
    colors = [drawing.color_of(int(k)) for k in objects.classes]
    copies.write(path, drawing.draw(image, objects.boxes, captions, colors))
