"""Indexes records as one of N processes, for test_distributed_index.py: folders of records and of results on argv."""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np  # noqa: E402

from data_processing.records import offset_file, tfrecord  # noqa: E402
from data_processing.records.index import index_split  # noqa: E402
import distributed  # noqa: E402

CLASSES = 6

folder, result = sys.argv[1:]
ranks = distributed.start()
opened = []


def noting(function):
    """The function, which notes in `opened` what it is called with."""

    def call(path, *args):
        opened.append(str(path))
        return function(path, *args)

    return call


for module, name in ((tfrecord, "index_shard"), (tfrecord, "read_record"), (offset_file, "read")):
    setattr(module, name, noting(getattr(module, name)))
distributed.GROUP_BYTES = 100  # so that arrays go in several pieces, of which the last is smaller
for split in ("train", "val"):
    index = index_split(folder, split, CLASSES)
    np.savez(
        Path(result, f"{split}-{ranks.rank}.npz"),
        opened=np.array(opened, str),
        **{name: getattr(index, name) for name in ("paths", "shard", "offset", "kind", "problems", "portrait")},
    )
    opened.clear()
try:
    index_split(Path(folder, "none"), "train", CLASSES)
except ValueError as error:
    Path(result, f"error-{ranks.rank}.txt").write_text(str(error))
# They still work together.
assert distributed.from_first(lambda: ranks.rank + 7) == 7
index = index_split(folder if ranks.rank == 0 else Path(result, "copy"), "train", CLASSES)
if ranks.rank:
    np.savez(Path(result, "copy.npz"), paths=index.paths, offset=index.offset)
# Another number of records.
index_split(folder if ranks.rank == 0 else Path(folder, "elsewhere"), "train", CLASSES)
