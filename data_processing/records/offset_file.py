"""Where the records of a shard begin, noted beside it, so that nobody has to go from header to header: NAME.offsets.

    magic      8 bytes, MAGIC
    version    uint32, VERSION
    checksum   uint32, the CRC-32C of the lengths
    shard      uint64, its size in bytes
    records    uint64
    lengths    uint32 [records], bytes of each record with what frames it, in their order

All are little-endian: 32 bytes, and 4 a record. A shard with a problem, or with a record of 4 GiB, has no such file. It
counts as long as the shard is of that size and not newer, and is never needed: without it the headers say the same.
"""

from pathlib import Path
import struct

import google_crc32c
import numpy as np

from data_processing.records import tfrecord
from utils.files import write_bytes

MAGIC, VERSION = b"TFRoffs\n", 1
HEAD = struct.Struct("<8sIIQQ")
LENGTH = np.dtype("<u4")


def write(shard, lengths):
    """Notes the records of a whole shard, which is at its place already.

    Args:
      shard: its path.
      lengths: bytes of each record with its frame, in their order, int [records].

    Raises OSError or ValueError where nothing can be written. Several processes may write the same.
    """
    lengths = np.asarray(lengths, np.int64)
    if lengths.max(initial=0) > np.iinfo(LENGTH).max:
        return
    content = lengths.astype(LENGTH).tobytes()
    head = HEAD.pack(MAGIC, VERSION, google_crc32c.value(content), lengths.sum(), len(lengths))
    write_bytes(place(shard), head + content)


def read(shard) -> np.ndarray | None:
    """Returns what `tfrecord.index_shard` would find, int64 [records + 1]; None if nothing is noted that counts.

    What is returned rises from 0 to the end of the shard by what frames a record at least. Raises OSError without the
    shard.
    """
    of_shard = Path(shard).stat()
    try:
        written, content = place(shard).stat().st_mtime_ns, place(shard).read_bytes()
    except OSError:
        return None
    head, content = content[: HEAD.size], content[HEAD.size :]
    count, odd = divmod(len(content), LENGTH.itemsize)
    expected = HEAD.pack(MAGIC, VERSION, google_crc32c.value(content), of_shard.st_size, count)
    if head != expected or odd or of_shard.st_mtime_ns > written:
        return None
    lengths = np.frombuffer(content, LENGTH)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    # TensorFlow crashes where a wild offset leads it: a checksum that is right is not enough.
    is_whole = offsets[-1] == of_shard.st_size and lengths.min(initial=tfrecord.FRAME) >= tfrecord.FRAME
    return offsets if is_whole else None


def place(shard) -> Path:
    """Returns the path of the file that is, or would be, beside a shard."""
    return Path(shard).with_suffix(".offsets")
