"""The protocol of Caltech-256: n training images a class, the rest for test, several splits; mean and spread.

    python example/caltech256.py --archive=256_ObjectCategories.tar --output_dir=out/caltech256 \\
        -- --pretrain_ckpt=checkpoints/resnet.ckpt --batch_size=32 --lr=0.01 --max_iter=5000

Runs finetune.py, with the flags after `--`, for each number of training images and each split, and writes table.tsv.
What is done is not done again. The records of a split are deleted when it is done.
"""

import json
from pathlib import Path
import shutil
import statistics
import subprocess
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS
from absl import app, flags

from utils.files import write_json, write_tsv

flags.DEFINE_string("archive", None, "256_ObjectCategories.tar, or the folder of its class folders.")
FLAGS.set_default("output_dir", "out/caltech256")
flags.DEFINE_list("counts", ["15", "30", "45", "60"], "Numbers of training images of a class.")
flags.DEFINE_integer("splits", 3, "Number of seeded splits.", lower_bound=1)

FINETUNE = Path(__file__).parents[1] / "finetune.py"


def main(argv):
    if any(argument.lstrip("-").startswith("test_interval") for argument in argv):
        sys.exit("error: --test_interval would choose among a run's checkpoints by its test images; leave it out")
    rows = []
    for count in map(int, FLAGS.counts):
        found = [_run(count, FLAGS.random_seed + k, argv[1:]) for k in range(FLAGS.splits)]
        for title in found[0]:
            for name in found[0][title]:
                values = [metrics[title][name] for metrics in found]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                rows.append((count, title, name, f"{statistics.mean(values):.4f}", f"{spread:.4f}", len(values)))
    table = Path(FLAGS.output_dir, "table.tsv")
    write_tsv(table, "train_per_class\tpixels, crop\tmeasure\tmean\tstandard deviation\tsplits", rows)
    print(table.read_text().expandtabs(18))


def _run(count, seed, arguments):
    """Fine-tunes on one split; returns the metrics of its best checkpoint by size and crop."""
    folder = Path(FLAGS.output_dir, f"{count}-{seed}")
    noted, now = folder / "arguments.json", {"archive": FLAGS.archive, "arguments": arguments}
    if noted.exists() and json.loads(noted.read_text()) != now:
        sys.exit(f"error: {folder} is of a run with other arguments, see {noted}; give another --output_dir")
    if not (folder / "validation.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(noted, now)
        command = [sys.executable, FINETUNE, f"--dataset=caltech256:{FLAGS.archive}", f"--train_per_class={count}"]
        command += [f"--random_seed={seed}", f"--data_dir={folder}/records", f"--log_dir={folder}/log", *arguments]
        print(f"{count} images a class, split {seed}", flush=True)
        if subprocess.run([*command, f"--model_dir={folder}"]).returncode:
            sys.exit(f"error: finetune.py failed on {folder}; its message stands above, the same command goes on")
        shutil.rmtree(folder / "records")
    return json.loads((folder / "validation.json").read_text())["metrics"]


if __name__ == "__main__":
    flags.mark_flags_as_required(["archive"])
    app.run(main)
