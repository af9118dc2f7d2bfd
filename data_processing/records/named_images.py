"""Images of records by their names, for a person to look at."""

import contextlib

from data_processing.images import image_files
from data_processing.records import schema, tfrecord


def read(paths, names):
    """Returns {name: uint8 [height, width, 3]} of those of `names` that records with boxes have, in a pass over all.

    Args:
      paths: of the shards.
      names: of images; what is damaged is left out.
    """
    wanted, found = set(names), {}
    for path in paths:
        offsets, _ = tfrecord.index_shard(path)
        for record in tfrecord.unchecked_records(path, offsets):
            with contextlib.suppress(tfrecord.RecordError, image_files.ImageError):
                name, encoded, _ = schema.decode(record, "boxes")
                if (text := name.decode(errors="replace")) in wanted:
                    found[text] = image_files.decode(encoded)
    return found
