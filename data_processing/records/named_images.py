"""Images of records by their names, for a person to look at."""

import contextlib

from data_processing.images import image_files
from data_processing.records import schema, tfrecord


def read(paths, names, kind):
    """Returns {name: (image, what the record says of it)} of those of `names` that records have, in a pass over all.

    An image is uint8 [height, width, 3]; the other is what `schema.decode` returns.

    Args:
      paths: of the shards.
      names: of images; what is damaged is left out.
      kind: of the records, see `schema.KINDS`.
    """
    wanted, found = set(names), {}
    for path in paths:
        offsets, _ = tfrecord.index_shard(path)
        for record in tfrecord.unchecked_records(path, offsets):
            with contextlib.suppress(tfrecord.RecordError, image_files.ImageError):
                name, encoded, held = schema.decode(record, kind)
                if (text := name.decode(errors="replace")) in wanted:
                    found[text] = image_files.decode(encoded), held
    return found
