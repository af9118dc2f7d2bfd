"""The index of two processes, started by the real mpirun: made by the first, and had by the other from there."""

from pathlib import Path
import re
import shutil

import numpy as np

from data_processing.records.index import index_records
from tests.helpers import MPIRUN, python, run
from tests.sample_shards import CLASSES, write_shards


def test_the_first_process_opens_the_shards_and_the_other_has_the_same_index(tmp_path):
    folder = tmp_path / "records"
    paths = {"train": write_shards(folder), "val": write_shards(folder / "val", "boxes", counts=[5, 9])}
    Path(paths["train"][2]).write_bytes(Path(paths["train"][2]).read_bytes()[:-1])
    shutil.copytree(folder, tmp_path / "copy")
    write_shards(folder / "elsewhere", counts=[1])
    done = run([*MPIRUN, "-np", "2", *python("tests/distributed_index.py", folder, tmp_path)], status=1)
    for split, kind in (("train", "sparse"), ("val", "boxes")):
        expected = index_records(paths[split], CLASSES)
        assert expected.kind == kind and len(expected) > 10
        for rank in range(2):
            index = np.load(tmp_path / f"{split}-{rank}.npz", allow_pickle=True)
            assert set(index["opened"]) == (set() if rank else set(paths[split]))
            for name in ("paths", "shard", "offset", "kind", "problems", "portrait"):
                np.testing.assert_array_equal(index[name], getattr(expected, name))
            assert (index["shard"].dtype, index["offset"].dtype) == (np.int32, np.int64)
    # What is wrong with a shard is said once, and an error reaches both.
    assert len(re.findall("^warning: .*truncated in record 17", done.stdout, re.M)) == 3
    first, second = ((tmp_path / f"error-{rank}.txt").read_text() for rank in range(2))
    assert "no shards train-" in first and second == f"process 0: {first}"
    # One that reads a copy of its own knows where that is.
    copied, own = np.load(tmp_path / "copy.npz"), index_records(paths["train"], CLASSES)
    assert copied["paths"].tolist() == [str(tmp_path / "copy" / Path(path).name) for path in paths["train"]]
    np.testing.assert_array_equal(copied["offset"], own.offset)
    assert f"elsewhere: 1 records here, and {len(own):,} where process 0 runs; give all the same ones" in done.stderr
