"""cooccurrence.py as a user runs it: a network of other classes, sure of one of them, looks at records."""

import numpy as np
import pytest
from scipy import sparse

from data_processing.lists import dictionary
from models import checkpoint
from models.resnet import build_resnet
from tests.helpers import CLASSES, RECORDS, write_shard
from tests.scripts import run_script


@pytest.mark.parametrize("label_format", ["sparse", "single"])
def test_counts_and_pairs(tmp_path, label_format):
    """The network knows the records' classes 4 and 0 and one that they have not, and is always sure of 4 alone."""
    entries = [dictionary.Entry(k, f"n{k:08d}", 4 if k == 1 else -1, f"class {k}") for k in range(CLASSES)]
    dictionary.write(tmp_path / "dictionary.txt", entries)
    known = [entries[4], entries[0], dictionary.Entry(0, "n00000099", -1, "other")]
    known = [entry._replace(index=k, parent=-1) for k, entry in enumerate(known)]
    dictionary.write(tmp_path / "known.txt", known)
    model = build_resnet(10, len(known))
    model.get_layer("logits").bias.assign([99, -99, -99])
    checkpoint.save(tmp_path / "model", 1, checkpoint.model_variables(model), 1)
    write_shard(tmp_path / "records" / "train-00000-of-00001.tfrecords", label_format, damaged=[3])
    flags = dict(
        data_dir=tmp_path / "records",
        model_dir=tmp_path / "model",
        model_dictionary=tmp_path / "known.txt",
        dictionary=tmp_path / "dictionary.txt",
        output_dir=tmp_path / "out",
        image_size=32,
        batch_size=8,
        data_format="NHWC",
        min_images=6,
        max_skipped=0.1,
    )
    done = run_script("data_processing/cooccurrence.py", *(f"--{name}={value}" for name, value in flags.items()))
    # Of class 3 there is one image too few; class 1 is below class 4; 4 is no pair with itself.
    each = RECORDS // CLASSES
    assert (
        f"{RECORDS - 1} images: 2 pairs with CO above 0.5; 1 classes with fewer than 6 images left out" in done.stdout
    )
    lines = (tmp_path / "out" / "pairs.tsv").read_text().splitlines()[1:]
    assert sorted(line.split("\t")[:2] for line in lines) == [[f"n{k:08d}", "n00000004"] for k in (0, 2)]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "images.npy"), [each, each, each, each - 1, each])
    counts = sparse.load_npz(tmp_path / "out" / "cooccurrence.npz").toarray()
    np.testing.assert_array_equal(counts, [[each - (k == 3), 0, 0] for k in range(CLASSES)])
    assert (tmp_path / "out" / "pairs.png").stat().st_size > 1000
