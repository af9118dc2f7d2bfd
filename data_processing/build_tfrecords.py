"""Builds TFRecord shards from an image list and a folder of images.

    python data_processing/build_tfrecords.py --image_list=train.txt --images=images --output_dir=records/train \\
        --split=train --num_shards=64 --class_num=11166

Writes train-00000-of-00064.tfrecords … into --output_dir, each when it is complete, with its counts beside it in a
.json. What is complete is not made again, so the same command goes on after a crash. When all shards are there it
writes manifest.json (settings, counts per shard and per class, SHA-256) and rejected.tsv (the images that were left
out, each with the reason).

Started N times, by mpirun or as a Slurm array, each process makes its share of the shards. The images are mixed over
the shards by --random_seed; the same command makes the same bytes, however many processes there are.
"""

from collections import Counter
import json
import os
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, checked
from absl import app, flags
import numpy as np
from tqdm import tqdm

from data_processing import dictionary, image_list, pictures, tfrecord
from data_processing.files import sha256, write_json, write_text
from data_processing.launcher import rank_and_size
from data_processing.shard_writer import build_shards, is_complete, shard_path

flags.DEFINE_string("image_list", None, "Image list: path<TAB>index:confidence…, with paths relative to --images.")
flags.DEFINE_string("output_dir", None, "Folder of the shards; one for each split.")
flags.DEFINE_string("split", "train", "What the shards' names begin with: train or val.")
flags.DEFINE_integer("num_shards", 64, "Number of shards.", lower_bound=1, upper_bound=99999)
flags.DEFINE_enum(
    "label_format",
    "sparse",
    tfrecord.KINDS,
    "sparse: indices and confidences; dense: one float32 a class, as published; single: one class an image.",
)
flags.DEFINE_float("max_rejected", 0.01, "Share of images that may be left out before it is an error.", 0.0, 1.0)
flags.DEFINE_integer("max_pixels", pictures.MAX_PIXELS, "Largest image, in pixels.", lower_bound=1)


def main(argv):
    del argv
    rank, size = rank_and_size(os.environ, arrays=True)
    if not Path(FLAGS.images).is_dir():
        raise ValueError(f"--images={FLAGS.images} is no folder; give the one that the list's paths are relative to")
    if FLAGS.dictionary and (count := len(dictionary.read_names(FLAGS.dictionary))) != FLAGS.class_num:
        raise ValueError(f"{FLAGS.dictionary} has {count} classes, not {FLAGS.class_num}: set --class_num={count}")
    offsets = image_list.line_offsets(FLAGS.image_list)
    if len(offsets) < FLAGS.num_shards:
        raise ValueError(f"{FLAGS.image_list} has {len(offsets):,} images, fewer than --num_shards={FLAGS.num_shards}")
    output = Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    settings = _settings()
    if not _settings_are_there(output, settings):
        _check_list(FLAGS.image_list, FLAGS.class_num, FLAGS.label_format)
        write_json(output / "settings.json", settings)
    parts = np.array_split(np.random.default_rng(FLAGS.random_seed).permutation(offsets), FLAGS.num_shards)
    shards = [shard_path(output, FLAGS.split, k, FLAGS.num_shards) for k in range(FLAGS.num_shards)]
    mine = range(rank, FLAGS.num_shards, size)
    missing = [(shards[k], parts[k]) for k in mine if not is_complete(shards[k])]
    whose = f"process {rank} of {size}: " if size > 1 else ""
    print(f"{whose}{len(offsets):,} images; of {len(mine)} shards {len(mine) - len(missing)} are there already")
    build_shards(missing, settings, FLAGS.image_list, FLAGS.images)
    if all(is_complete(shard) for shard in shards):
        _finish(output, shards, settings, FLAGS.max_rejected)
    else:
        print(f"{whose}done; the last process to end writes {output / 'manifest.json'}")


def _settings():
    """What decides the bytes of the shards."""
    names = ("split", "label_format", "class_num", "num_shards", "random_seed", "max_pixels")
    return {"image_list_sha256": sha256(FLAGS.image_list)} | {name: FLAGS[name].value for name in names}


def _settings_are_there(output, settings):
    """Whether an earlier run left shards, or began to, with these settings; ValueError if it left shards of others."""
    if not (output / "settings.json").exists():
        return False
    there = json.loads((output / "settings.json").read_text())
    other = [f"{name} {there.get(name)}, now {value}" for name, value in settings.items() if there.get(name) != value]
    if other and any(output.glob("*.tfrecords")):
        raise ValueError(
            f"{output} holds shards made with other settings ({'; '.join(other)}); "
            "give another --output_dir, or delete that folder"
        )
    return not other


def _check_list(path, class_num, label_format):
    """Raises ImageListError at the first wrong line, before hours of work."""
    for row in tqdm(image_list.read(path, class_num), "checking the list", unit=" lines", unit_scale=True):
        if label_format == "single" and len(row.labels) != 1:
            raise image_list.ImageListError(
                f"{path}: '{row.path}' has {len(row.labels)} labels; --label_format=single needs one an image"
            )


def _finish(output, shards, settings, max_rejected):
    """Writes manifest.json and rejected.tsv. If several processes come here, they write the same bytes."""
    parts = {shard.name: json.loads(shard.with_suffix(".json").read_text()) for shard in shards}
    rejected = sorted(row for part in parts.values() for row in part.pop("rejected"))
    classes = Counter()
    for part in parts.values():
        classes.update({int(label): count for label, count in part.pop("classes").items()})
    records = sum(part["records"] for part in parts.values())
    write_text(output / "rejected.tsv", "".join(f"{name}\t{reason}\n" for name, reason in rejected))
    manifest = {"settings": settings, "records": records, "rejected": len(rejected), "shards": parts}
    write_json(output / "manifest.json", manifest | {"classes": {str(k): classes[k] for k in sorted(classes)}})
    print(f"{records:,} records of {len(classes):,} classes in {len(shards)} shards; {len(rejected):,} images rejected")
    if len(rejected) > max_rejected * (records + len(rejected)):
        reasons = Counter(reason for _, reason in rejected).most_common(3)
        raise ValueError(
            f"{len(rejected):,} of {records + len(rejected):,} images were rejected, more than --max_rejected="
            f"{max_rejected:g} ({'; '.join(f'{count:,} x {reason}' for reason, count in reasons)}): see "
            f"{output / 'rejected.tsv'}. Mend the images and delete {output}, or allow more."
        )


if __name__ == "__main__":
    flags.mark_flags_as_required(["image_list", "output_dir"])
    app.run(checked(main))
