"""Evaluation of a network that finds objects: mean average precision by the rules of VOC and of COCO."""

import numpy as np

from evaluation import average_precision, coco, detection_report, outputs
from evaluation.average_precision import Detections, TrueObjects

MEASURES = {
    "mAP": "mAP, VOC 2007: 11 points",
    "mAP_area": "mAP, VOC 2010 on: area",
    "mAP_coco": "mAP, COCO: IoU 0.5 to 0.95",
    "mAP_coco_50": "  at IoU 0.5",
    "mAP_coco_75": "  at IoU 0.75",
}


class DetectionEvaluator:
    """Mean average precision of boxes, which are edges [left, top, right, bottom] in pixels of the original image.

    Attributes:
      class_num: number of classes.
      names: of the classes, by index; see `outputs.class_names`.
      read_images: function from a list of images' names to {name: uint8 [height, width, 3]}, for the page of mistakes;
        it may leave some out. None: the page shows no images.
      shown: the metrics that are worth a line of progress.
      image_names: of the images, in the order in which they came.
      objects, detections: of all images, once `result` was called; and matches, found, curves of `average_precision`,
        the `coco.CocoAP` as coco, and ap, ap_area, float64 [classes], NaN without objects that are not difficult.
    """

    shown = ("mAP", "mAP_area", "mAP_coco")

    def __init__(self, class_num, names=None):
        """`names` are (WordNet id or "", names) of each class, by index, or None."""
        self.class_num = class_num
        self.names = outputs.class_names(names, class_num)
        self.read_images = None
        self.image_names, self.parts = [], []
        self.objects = self.detections = self.matches = self.found = self.curves = self.metrics = None
        self.ap = self.ap_area = self.coco = None

    def settings(self):
        """Returns what the metrics depend on, by name."""
        return {
            "overlap": average_precision.MIN_OVERLAP,
            "difficult": "of no weight; in COCO's measure as iscrowd",
            "boxes": "VOC's inclusive pixels: width = xmax - xmin + 1, in COCO's measure too",
        }

    def disk_space(self, images):
        """Returns how many bytes `images` images take on the disk until `result` is called."""
        del images
        return 0

    def add(self, batch, outputs):
        """Adds images.

        Args:
          batch: "box" [images, n, 4]; "label", integer [images, n], -1 where there is none; "difficult", bool [images,
            n]; "name", bytes [images].
          outputs: "boxes" [images, m, 4]; "scores" [images, m]; "classes", integer [images, m], -1 where there is none.

        Raises ValueError if a label or a class is none of the network's.
        """
        names = [name.decode(errors="replace") for name in np.asarray(batch["name"]).tolist()]
        image, place = np.nonzero(np.asarray(batch["label"]) != -1)
        objects = TrueObjects(image, *(np.asarray(batch[key])[image, place] for key in ("label", "box", "difficult")))
        image, place = np.nonzero(np.asarray(outputs["classes"]) != -1)
        values = (np.asarray(outputs[key])[image, place] for key in ("classes", "boxes", "scores"))
        self.add_images(names, objects, Detections(image, *values))

    def add_images(self, names, objects, detections):
        """Adds images by name, and their `TrueObjects` and `Detections`, whose `image` is an index into `names`.

        Of detections with equal scores those that come first are counted first. Raises ValueError as `add`.
        """
        for what, labels in (("a record has an object of", objects.label), ("a detection is of", detections.label)):
            outside = (labels < 0) | (labels >= self.class_num)
            if outside.any():
                raise ValueError(f"{what} class {labels[outside][0]}, the network has {self.class_num} classes")
        begin = len(self.image_names)
        self.image_names += names
        self.parts.append([one._replace(image=one.image + begin) for one in (objects, detections)])

    def result(self):
        """Returns the metrics by name.

        They are: `images`; `objects`, those that are not difficult, and `difficult`, the others; `detections`; and, as
        means over the classes with objects that are not difficult, in [0, 1], NaN without one: `mAP`, by the 11 points
        of VOC 2007, `mAP_area`, by the area of VOC from 2010 on, `mAP_coco`, by COCO's rules over IoU 0.5, 0.55, …
        0.95, and `mAP_coco_50` and `mAP_coco_75`, by those at IoU 0.5 and 0.75. See `average_precision` and `coco`.
        """
        truth, found = zip(*self.parts, strict=True)
        objects = self.objects = TrueObjects(*_joined(truth, (np.int64, np.int64, np.float64, bool)))
        detections = self.detections = Detections(*_joined(found, (np.int64, np.int64, np.float64, np.float64)))
        self.matches = average_precision.best_matches(objects, detections)
        self.found = average_precision.outcomes(objects, detections, self.matches)
        self.curves = average_precision.class_curves(objects, detections, self.found, self.class_num)
        self.ap = np.array([average_precision.eleven_points(curve) for curve in self.curves])
        self.ap_area = np.array([average_precision.area(curve) for curve in self.curves])
        self.coco = coco.average_precision(objects, detections, self.class_num)
        difficult = int(objects.difficult.sum())
        columns = (self.ap, self.ap_area, *self.coco)
        self.metrics = {
            "images": len(self.image_names),
            "objects": len(objects.label) - difficult,
            "difficult": difficult,
            "detections": len(detections.label),
            **{name: _mean(column) for name, column in zip(MEASURES, columns, strict=True)},
        }
        return self.metrics

    def by_class(self):
        """Returns {"AP": {class: value}, "AP_area": …, "AP_coco": …}, of the classes with objects, by their names."""
        names = outputs.unique_names(self.names)
        columns = {"AP": self.ap, "AP_area": self.ap_area, "AP_coco": self.coco.all}
        present = np.flatnonzero(~np.isnan(self.ap))
        return {key: {names[k]: float(column[k]) for k in present} for key, column in columns.items()}

    def table(self, skipped=0):
        """Returns the metrics as a person reads them; `skipped` is the number of records that were left out."""
        return detection_report.table(self, MEASURES, skipped)

    def write_report(self, folder, title):
        """Writes per_class.tsv, report.html and mistakes.html into `folder`.

        Args:
          folder: a `Path`.
          title: what was evaluated, on what.
        """
        rows = detection_report.class_rows(self)
        outputs.write_table(folder / "per_class.tsv", detection_report.COLUMNS, rows)
        detection_report.write_page(folder / "report.html", self, rows, title)
        detection_report.write_mistakes(folder / "mistakes.html", self, title)


def _joined(parts, kinds):
    """The fields of all `parts`, each as one array of its kind."""
    return [np.concatenate(arrays).astype(kind) for arrays, kind in zip(zip(*parts, strict=True), kinds, strict=True)]


def _mean(values):
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else np.nan
