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
from flags import FLAGS, run, script, use
from absl import flags

use("random_seed")
flags.DEFINE_string("archive", None, "256_ObjectCategories.tar, or the folder of its class folders.")
flags.DEFINE_list("counts", ["15", "30", "45", "60"], "Numbers of training images of a class.")
script(
    __name__,
    __doc__,
    first="output_dir counts splits",
    required="archive",
    defaults={"output_dir": "out/caltech256"},
)

from utils.files import write_json, write_tsv

FINETUNE = Path(__file__).parents[1] / "finetune.py"


def main(arguments):
    """Runs the protocol; `arguments` are the flags for finetune.py."""
    if any(argument.lstrip("-").startswith("test_interval") for argument in arguments):
        raise ValueError("--test_interval would choose among a run's checkpoints by its test images; leave it out")
    rows = []
    for count in map(int, FLAGS.counts):
        splits = [_finetune(count, FLAGS.random_seed + k, arguments) for k in range(FLAGS.splits)]
        for title in splits[0]:
            for name in splits[0][title]:
                values = [metrics[title][name] for metrics in splits]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                rows.append((count, title, name, f"{statistics.mean(values):.4f}", f"{spread:.4f}", len(values)))
    table = Path(FLAGS.output_dir, "table.tsv")
    write_tsv(table, "train_per_class\tpixels, crop\tmetric\tmean\tstandard deviation\tsplits", rows)
    print(table.read_text().expandtabs(18))


def _finetune(count, seed, arguments):
    """Fine-tunes on one split; returns the metrics of its best checkpoint by size and crop."""
    folder = Path(FLAGS.output_dir, f"{count}-{seed}")
    noted, now = folder / "arguments.json", {"archive": FLAGS.archive, "arguments": arguments}
    if noted.exists() and json.loads(noted.read_text()) != now:
        raise ValueError(f"{folder} is of a run with other arguments, see {noted}; give another --output_dir")
    if not (folder / "validation.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(noted, now)
        own = [f"--dataset=caltech256:{FLAGS.archive}", f"--train_per_class={count}", f"--random_seed={seed}"]
        own += [f"--data_dir={folder}/records", f"--log_dir={folder}/log", "--test_interval=0"]
        print(f"{count} images a class, split {seed}", flush=True)
        if run_finetune([*own, *arguments, f"--model_dir={folder}"]):
            raise ValueError(f"finetune.py failed on {folder}; its message stands above, the same command resumes")
        shutil.rmtree(folder / "records")
    content = json.loads((folder / "validation.json").read_text())
    return content.get("metrics") or content["measures"]  # its name before


def run_finetune(arguments):
    """Runs finetune.py as a process of its own; returns its exit status."""
    return subprocess.run([sys.executable, FINETUNE, *arguments]).returncode


if __name__ == "__main__":
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    for_finetune = sys.argv[end + 1 :]
    del sys.argv[end:]
    run(lambda _: main(for_finetune))
