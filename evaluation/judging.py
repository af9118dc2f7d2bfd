"""What result files of any program are worth, of the form of `voc_results`, which needs neither network nor records."""

from data_processing.sources import voc
from evaluation import outputs, voc_results
from evaluation.detection import DetectionEvaluator


def judge(results, source, folder, max_skipped=0.01):
    """Prints and writes how good detections are: mean average precision by the rules of VOC and of COCO, and a report.

    Args:
      results: the folder that holds the result files, see `voc_results.read`.
      source: `voc_results.Source` of the ground truth.
      folder: to write metrics.json, per_class.tsv, report.html and mistakes.html into, a `Path`.
      max_skipped: share of the annotations that may be bad, see `voc_results.read_truth`.

    Raises ValueError for files that are not as they must be, before anything is written.
    """
    truth = voc_results.read_truth(source, max_skipped)
    found = voc_results.read(results, truth)
    outputs.print_left_out(truth.bad, "left out, bad annotation")
    if found.missing:
        print(f"not there, and counted as no detections: {', '.join(found.missing)}")
    if found.ignored:
        print(f"{found.ignored:,} detections are in images that were left out, and do not count")
    if found.empty:
        print(f"{found.empty:,} detections have a max below their min, and count as wrong")
    evaluator = DetectionEvaluator(len(voc.CLASSES), [("", name) for name in voc.CLASSES])
    evaluator.read_images = truth.read_images
    evaluator.add_images(truth.ids, truth.objects, found.detections)
    evaluator.result()
    settings = {"voc_results": str(results), "dataset": source.dataset, "split": source.split} | evaluator.settings()
    notes = {"skipped": truth.bad, "problems": [f"{name} is not there" for name in found.missing]}
    folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings} | evaluator.metrics | evaluator.by_class() | notes
    outputs.write_metrics(folder / "metrics.json", content)
    print(evaluator.table(len(truth.bad)))
    evaluator.write_report(folder, f"{results} on {source.dataset}, {source.split}")
    outputs.print_written(folder)
