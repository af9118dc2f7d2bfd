"""Evaluation of a network that says the class of each pixel: mean intersection over union, by the rules of VOC."""

import numpy as np

from evaluation import confusion, outputs, segmentation_report

MEASURES = {
    "mIoU": "mIoU, mean over classes",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy of classes",
}


class SegmentationEvaluator:
    """Intersection over union of classes, from one confusion matrix over the pixels of all images that are not void.

    Attributes:
      class_num: number of classes, the background included.
      names: of the classes, by index; see `outputs.class_names`.
      masks: an object with `write(name, mask)`, integer [height, width], that takes each predicted mask as it comes, as
        `voc_segmentation_results.MaskFiles`; or None.
      read_images: function from a list of images' names to {name: (image, truth, prediction)}, uint8 [height, width, 3]
        and twice integer [height, width], void -1 or 255, for the page of the worst; it may leave some out. None: the
        page shows no images.
      shown: the metrics that are worth a line of progress.
      image_names, image_iou: of the images, in the order in which they came; the latter, a list of floats, is the mean
        IoU over the classes that are in an image or predicted there, NaN where all is void.
      confusion: int64 [class_num, class_num], numbers of pixels by true class and predicted one, of all images.
      iou: float64 [class_num], once `result` was called; NaN of a class that is nowhere.
    """

    shown = ("mIoU", "pixel_accuracy", "mean_accuracy")

    def __init__(self, class_num, names=None):
        """`names` are (WordNet id or "", names) of each class, by index, or None."""
        self.class_num = class_num
        self.names = outputs.class_names(names, class_num)
        self.masks = self.read_images = None
        self.image_names, self.image_iou = [], []
        self.confusion = np.zeros([class_num, class_num], np.int64)
        self.iou = self.metrics = None

    def settings(self):
        """Returns what the metrics depend on, by name."""
        return {
            "void": "left out",
            "mean": "over the classes that are in truth or prediction, the background among them",
        }

    def disk_space(self, images):
        """Returns how many bytes `images` images take on the disk until `result` is called."""
        del images
        return 0

    def add(self, batch, outputs):
        """Adds images.

        Args:
          batch: "name", bytes [images]; where masks are kept "original", integer [images, 2], height and width.
          outputs: "confusion", integer [images, class_num, class_num], as of `confusion.count`; where masks are kept
            "prediction", integer [images, h, w], as of `masks`, in its first rows and columns.

        Raises ValueError if the confusions are not of the classes, OSError if a mask cannot be written.
        """
        names = [name.decode(errors="replace") for name in np.asarray(batch["name"]).tolist()]
        self.add_images(names, np.asarray(outputs["confusion"]))
        if self.masks:
            for name, mask, (height, width) in zip(names, outputs["prediction"], batch["original"], strict=True):
                self.masks.write(name, np.asarray(mask)[:height, :width])

    def add_images(self, names, confusions):
        """Adds images by name, and the confusion of each, integer [images, class_num, class_num]."""
        confusions = np.asarray(confusions, np.int64)
        if confusions.shape != (len(names), self.class_num, self.class_num):
            raise ValueError(f"confusions of shape {confusions.shape}, not of {self.class_num} classes")
        self.image_names += names
        self.image_iou += [_mean(confusion.overlaps(one)) for one in confusions]
        self.confusion += confusions.sum(axis=0)

    def result(self):
        """Returns the metrics by name.

        They are: `images`; `pixels`, those that are not void; `mIoU`, the mean IoU over the classes that are in truth
        or prediction; `pixel_accuracy`, the share of the pixels whose class is right; `mean_accuracy`, the mean of
        these shares over the classes that are there. All in [0, 1], NaN without a pixel.
        """
        right, of_class = np.diag(self.confusion), self.confusion.sum(axis=1)
        self.iou = confusion.overlaps(self.confusion)
        self.metrics = {
            "images": len(self.image_names),
            "pixels": int(of_class.sum()),
            "mIoU": _mean(self.iou),
            "pixel_accuracy": float(confusion.shares(right.sum(), of_class.sum())),
            "mean_accuracy": _mean(confusion.shares(right, of_class)),
        }
        return self.metrics

    def by_class(self):
        """Returns {"IoU": {class: value}}, NaN of a class that is nowhere; its index follows a name of several."""
        return {"IoU": dict(zip(outputs.unique_names(self.names), self.iou.tolist(), strict=True))}

    def table(self, skipped=0):
        """Returns the metrics as a person reads them; `skipped` is the number of records that were left out."""
        return segmentation_report.table(self, MEASURES, skipped)

    def write_report(self, folder, title):
        """Writes per_class.tsv, report.html and worst.html into `folder`.

        Args:
          folder: a `Path`.
          title: what was evaluated, on what.
        """
        rows = segmentation_report.class_rows(self)
        outputs.write_table(folder / "per_class.tsv", segmentation_report.COLUMNS, rows)
        segmentation_report.write_page(folder / "report.html", self, rows, title)
        segmentation_report.write_worst(folder / "worst.html", self, title)


def _mean(values):
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else np.nan
