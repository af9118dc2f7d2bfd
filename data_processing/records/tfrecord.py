"""Shards: TFRecord files, their names, and where in them each record begins.

A TFRecord file repeats: length uint64, masked CRC-32C of the length uint32, the record, its masked CRC uint32.
"""

import itertools
import os
from pathlib import Path
import struct

import google_crc32c
import numpy as np
import tensorflow as tf

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
# Bytes that a record takes besides its own.
FRAME = HEADER.size + FOOTER.size


class RecordError(ValueError):
    """A shard or record is not as it must be; the message names the file and what to do."""


def shard_paths(folder, split):
    """Returns the paths, sorted, of the shards of "train" or "val" in `folder`.

    They are named `<split>-…tfrecords` in the folder, or anything ending in .tfrecords in its subfolder `<split>`, or,
    for "train" only, in the folder itself (published layout). Raises RecordError if there are none.
    """
    folder = Path(folder)
    for files in (folder.glob(f"{split}-*.tfrecords"), (folder / split).glob("*.tfrecords")):
        paths = sorted(str(path) for path in files)
        if paths:
            return paths
    paths = sorted(str(path) for path in folder.glob("*.tfrecords"))
    if split == "train" and paths:
        return paths
    raise RecordError(
        f"{folder}: no shards {split}-*.tfrecords here nor *.tfrecords in {folder / split}; "
        "give the folder with --data_dir, or build shards with data_processing/build_tfrecords.py"
    )


def index_shard(path):
    """Finds the records of a shard by going from header to header, without reading them.

    Returns:
      offsets, int64 [records + 1]: where each record's header begins, and where the last record ends; and None, or
      what is wrong with the rest of the file, which is then left out.
    """
    offsets, offset = [0], 0
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        while offset < end:
            header = os.pread(file.fileno(), HEADER.size, offset)
            if len(header) < HEADER.size:
                return np.array(offsets), f"{path}: truncated in the header of record {len(offsets)}"
            length, crc = HEADER.unpack(header)
            if masked_crc(header[:8]) != crc:
                return np.array(offsets), f"{path}: damaged at byte {offset}; the rest of the shard is left out"
            offset += length + FRAME
            if offset > end:
                return np.array(offsets), f"{path}: truncated in record {len(offsets)}"
            offsets.append(offset)
    return np.array(offsets), None


def read_record(path, offset):
    """Returns the record that begins at a byte of a shard; b"" if a checksum is wrong or the shard ends before it.

    `offset` is one that `index_shard` found.
    """
    records = tf.data.Dataset.from_tensors((str(path), np.int64(offset))).flat_map(read_from).ignore_errors()
    return next(records.as_numpy_iterator(), b"")


def unchecked_records(path, offsets):
    """Yields the records of a shard, by the offsets of `index_shard`; their own checksums are not looked at."""
    with open(path, "rb") as file:
        for begin, end in itertools.pairwise(offsets.tolist()):
            length = end - begin - FRAME
            yield os.pread(file.fileno(), length, begin + HEADER.size)


def records_at(path, offsets):
    """Yields the records that begin at bytes of a shard, int64 [records], each checked; those that are damaged not."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        for offset in offsets.tolist():
            header = os.pread(file.fileno(), HEADER.size, offset)
            if len(header) < HEADER.size or FOOTER.pack(masked_crc(header[:8])) != header[8:]:
                continue
            # A length may be anything, even if its checksum is right.
            length = min(HEADER.unpack(header)[0], end)
            data = os.pread(file.fileno(), length + FOOTER.size, offset + HEADER.size)
            record, footer = data[:length], data[length:]
            if footer == FOOTER.pack(masked_crc(record)):
                yield record


def record_in(frame):
    """Returns the record in a `frame`, bytes or memoryview; b"" if it is damaged: a checksum or the length is wrong."""
    if len(frame) < HEADER.size + FOOTER.size:
        return b""
    length, crc = HEADER.unpack_from(frame)
    record = bytes(frame[HEADER.size : -FOOTER.size])
    whole = length == len(record) and crc == masked_crc(bytes(frame[:8]))
    return record if whole and frame[-FOOTER.size :] == FOOTER.pack(masked_crc(record)) else b""


def framed_size(header):
    """Returns how many bytes a record takes in a file with its `header` and footer; 0 if the header is damaged."""
    if len(header) < HEADER.size:
        return 0
    length, crc = HEADER.unpack(header)
    return HEADER.size + length + FOOTER.size if crc == masked_crc(header[:8]) else 0


def read_from(path, offset):
    """Returns a dataset of the records of a shard from a byte on; string [] `path`, int64 [] `offset`.

    A checksum that is wrong is an error of the operation. The byte is one that `index_shard` found: TensorFlow believes
    a length whose checksum is right, and crashes if it is close to 2**64. For use inside `flat_map` or `interleave`
    only: TensorFlow cannot copy this dataset as one of its own, as it does to optimise.
    """
    # The public `tf.data.TFRecordDataset` cannot begin within a file. Unbuffered: most readers want one record.
    variant = tf.raw_ops.TFRecordDatasetV2(filenames=path, compression_type="", buffer_size=0, byte_offsets=offset)
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def frame(record):
    """Returns a record as it stands in a TFRecord file, between its header and its footer."""
    length = struct.pack("<Q", len(record))
    return length + FOOTER.pack(masked_crc(length)) + record + FOOTER.pack(masked_crc(record))


def masked_crc(data):
    """The CRC-32C of `data`, rotated and shifted as TFRecord files have it (TensorFlow, lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
