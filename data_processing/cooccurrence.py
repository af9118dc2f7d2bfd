"""Finds classes that occur together: a network, trained on one source, looks at the images of another.

    python data_processing/cooccurrence.py --data_dir=records --model_dir=out/checkpoint \\
        --dictionary=dictionary_and_semantic_hierarchy.txt --output_dir=cooccurrence

The network predicts class j in an image if its posterior is above --posterior. CO(i, j) is the share of the records'
images of class i in which it does. Writes into --output_dir:
    pairs.tsv             pairs with CO above --min_co, for `augment_labels.py --pairs`; no class is paired with its
                          ancestors or descendants, and none with fewer than --min_images images has a pair
    cooccurrence.npz      all counts, sparse: scipy.sparse.load_npz; rows are classes, columns the network's outputs
    images.npy            images of each class, the denominator of CO
    pairs.png             the strongest pairs

Under `mpirun` each process looks at a share of the images.
"""

import dataclasses
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use
from absl import flags

use("split max_skipped image_size num_preprocess_threads data_format precision batch_norm_epsilon visiable_gpu xla")
flags.DEFINE_string("model_dictionary", "", "Dictionary of the network's outputs; default: --dictionary.")
flags.DEFINE_float("posterior", 0.95, "Probability above which a class is predicted (paper: 0.95).", 0.0, 1.0)
flags.DEFINE_float("min_co", 0.5, "Share above which a pair is strong (paper: 0.5).", 0.0, 1.0)
script(
    __name__,
    __doc__,
    first="data_dir model_dir dictionary output_dir posterior min_co min_images batch_size",
    defaults={"output_dir": "out/cooccurrence"},
)

from matplotlib.figure import Figure
import numpy as np
from scipy import sparse
from tqdm import tqdm

from data_processing.input_pipeline.batches import InputConfig, evaluation_batches
from data_processing.lists import closure, dictionary
from data_processing.lists.label_counts import Counts, strong_pairs
from data_processing.records.index import index_split
import distributed
from evaluation.evaluate import predictions
from models import inference
from models.frozen import fold
from models.resnet import NetworkConfig
from tasks.classification import Classification
from utils.files import atomic_write

SHOWN = 30


def main(argv):
    del argv
    ranks = distributed.start()
    if not FLAGS.dictionary:
        raise ValueError("give --dictionary, that of the records' classes")
    entries = dictionary.read(FLAGS.dictionary)
    outputs = dictionary.read(FLAGS.model_dictionary) if FLAGS.model_dictionary else entries
    network = inference.load(FLAGS.model_dir, config(NetworkConfig))
    if network.description.class_num != len(outputs):
        raise ValueError(
            f"{network.prefix} has {network.description.class_num:,} classes, its dictionary {len(outputs):,}: give "
            "the one that it was trained with as --model_dictionary"
        )
    index = index_split(FLAGS.data_dir, FLAGS.split, len(entries))
    counts, skipped = _count(network.model, index, len(entries), ranks)
    parts = distributed.gather((counts, skipped))
    if ranks.rank:
        return
    for other, more in parts[1:]:
        counts.merge(other)
        skipped += more
    if len(skipped) > FLAGS.max_skipped * len(index):
        raise ValueError(f"{len(skipped):,} of {len(index):,} records are corrupt, {skipped[0]} the first")
    index_of = {entry.wnid: entry.index for entry in entries}
    predicted_as = np.array([index_of.get(entry.wnid, -1) for entry in outputs])
    pairs = strong_pairs(counts, predicted_as, dictionary.ancestors(entries), FLAGS.min_co, FLAGS.min_images)
    _write(Path(FLAGS.output_dir), counts, [closure.Pair(*pair) for pair in pairs], entries)
    few = int(np.sum((counts.images > 0) & (counts.images < FLAGS.min_images)))
    print(
        f"{len(index) - len(skipped):,} images: {len(pairs):,} pairs with CO above {FLAGS.min_co:g}; {few:,} classes "
        f"with fewer than {FLAGS.min_images} images left out"
    )
    print(f"written into {FLAGS.output_dir}")


@dataclasses.dataclass(frozen=True)
class _OtherClasses(Classification):
    """Classification of records of `record_classes` classes, which are not those of the network.

    Single labels are vectors of 0 and 1 here, in evaluation too.
    """

    record_classes: int = 0

    @property
    def class_num(self):
        return self.record_classes

    def eval_transform(self, example, size):
        example = super().eval_transform(example, size)
        return example | {"label": self._training_label(example["label"])}

    def blank(self, size, training):
        return super().blank(size, training=True)


def _count(model, index, class_num, ranks):
    """Returns the `Counts` of this process's share of the images, and the names of corrupt records."""
    score = inference.score_function(fold(model), "sigmoid", xla=FLAGS.xla)
    task = _OtherClasses(model, index.kind, record_classes=class_num)
    batches = evaluation_batches(index, task, config(InputConfig), ranks)
    counts, skipped = Counts(class_num, model.output["logits"].shape[-1]), []
    with tqdm(total=-(-len(index) // ranks.size), unit=" images", disable=ranks.rank > 0) as bar:
        for batch, scores in predictions(lambda batch: {"scores": score(batch["image"])}, batches):
            valid = batch["valid"]
            counts.add(batch["label"][valid], scores["scores"][valid], FLAGS.posterior)
            skipped += [name.decode(errors="replace") for name in batch["name"][~valid]]
            bar.update(len(valid))
    return counts, skipped


def _write(output, counts, pairs, entries):
    output.mkdir(parents=True, exist_ok=True)
    with atomic_write(output / "cooccurrence.npz") as temp_path, open(temp_path, "wb") as file:
        sparse.save_npz(file, counts.together)
    with atomic_write(output / "images.npy") as temp_path, open(temp_path, "wb") as file:
        np.save(file, counts.images)
    closure.write_pairs(output / "pairs.tsv", pairs, entries)
    _draw(output / "pairs.png", pairs[:SHOWN], entries)


def _draw(path, pairs, entries):
    """Draws the share of each pair as a bar, with names and numbers of images."""
    figure = Figure(figsize=(9, 1.2 + 0.28 * max(1, len(pairs))), layout="constrained")
    axes = figure.subplots()
    names = [
        f"{_short(entries[p.label].names)} → {_short(entries[p.other].names)}  ({p.predicted:,}/{p.images:,})"
        for p in pairs
    ]
    axes.barh(range(len(pairs)), [pair.co for pair in pairs], color="tab:blue")
    axes.set_yticks(range(len(pairs)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.axvline(FLAGS.min_co, color="0.4", ls="--", lw=1)
    axes.set_xlabel("CO: share of the first class's images in which the network is sure of the second")
    axes.set_title(f"The {len(pairs)} strongest pairs" if pairs else "No pair is strong")
    with atomic_write(path) as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")


def _short(names):
    name = names.split(",")[0]
    return name if len(name) <= 28 else name[:27] + "…"


if __name__ == "__main__":
    run(main)
