"""Downloads the images of a list of URLs, and lists what came.

    python data_processing/download_images.py --image_list=urls.txt --output_dir=downloaded

The list is an image list with URLs for paths (labels may be missing). Writes into --output_dir:
    images/3f/3f0c….jpg      the images, named by a digest of the URL; each decodes
    downloaded.txt           the rows of the list whose image came, with its path in place of the URL
    failed.tsv               all other URLs, each once: kind of failure, whether it may pass, details
Every row of the list is in one of the two. What failed for good is not tried again; what may pass (a time-out, an
overloaded server) is tried again when the same command runs again, which fetches nothing twice, however the run before
it ended. A host is left alone until then when 20 of its URLs in a row have failed so. --retry_failed tries all failed
ones again.

Started N times, by mpirun or as a Slurm array, each process fetches its share; the last to end writes the lists.
"""

import asyncio
from collections import Counter
import contextlib
import hashlib
import os
from pathlib import Path
import shutil
import signal
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use
from absl import flags

use("max_pixels resize_short")
flags.DEFINE_integer("connections", 256, "Images fetched at the same time.", lower_bound=1)
flags.DEFINE_integer("per_host", 32, "Images fetched at the same time from one host or address.", lower_bound=1)
flags.DEFINE_float("timeout", 60.0, "Seconds for one try of one image.", lower_bound=0.1)
flags.DEFINE_integer("attempts", 4, "Tries of an image whose failure may pass.", lower_bound=1)
flags.DEFINE_float("retry_wait", 1.0, "Seconds before the second try; they double.", lower_bound=0.0)
flags.DEFINE_float("max_wait", 120.0, "Longest wait, also when a server asks for more.", lower_bound=0.0)
flags.DEFINE_integer("max_bytes", 2**26, "Largest file.", lower_bound=1)
flags.DEFINE_list("placeholders", [], "Images that stand for a missing one, beside Flickr's: sample files.")
flags.DEFINE_bool("retry_failed", False, "Try again what had failed for good.")
flags.DEFINE_bool("allow_private_hosts", False, "Fetch from private networks and this machine, too.")
script(__name__, __doc__, first="connections per_host timeout retry_failed", required="image_list output_dir")

from tqdm import tqdm

from data_processing.download import fetch, folder
from data_processing.lists import image_list
from utils.daemon_threads import DaemonThreads
from utils.files import atomic_write
from utils.launcher import rank_and_size

FAILED_COLUMNS = "# url\tkind\tmay pass\tdetails"


def main(argv):
    del argv
    rank, size = rank_and_size(os.environ, arrays=True)
    output = Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    limits = _limits()
    _done(output, rank, size).unlink(missing_ok=True)
    failed = {} if FLAGS.retry_failed else _read_failed(output)
    scratch = output / f".scratch-{rank}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    counts = Counter()
    urls = _urls_to_fetch(FLAGS.image_list, output, rank, size, failed, counts)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_download(urls, output, limits, scratch, rank, counts))
    shutil.rmtree(scratch, ignore_errors=True)
    process = f"process {rank} of {size}: " if size > 1 else ""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common() if kind not in NOT_FAILED)
    print(
        f"{process}{counts['fetched']:,} fetched ({counts['bytes'] / 1e6:,.1f} MB), {counts['there']:,} were there, "
        f"{counts['failed before']:,} had failed before, {sum(counts.values()) - _good(counts):,} failed"
        + (f": {kinds}" if kinds else "")
    )
    if counts["stopped"]:
        raise ValueError("stopped; the same command resumes from here")
    if _is_last(output, rank, size):
        _write_lists(FLAGS.image_list, output)


NOT_FAILED = ("fetched", "bytes", "there", "failed before", "stopped")


def _good(counts):
    return sum(counts[name] for name in NOT_FAILED)


def _done(output, rank, size):
    return output / f".done-{rank}-of-{size}"


def _is_last(output, rank, size):
    """Notes that this process is done. Returns whether all are and, of those that end in one moment, this is the one.

    If it is killed while it then writes, no other will: all are to be started again, as after any other stop.
    """
    _done(output, rank, size).touch()
    if not all(_done(output, k, size).exists() for k in range(size)):
        return False
    try:
        # Only one can take this away.
        _done(output, 0, size).unlink()
    except FileNotFoundError:
        return False
    for k in range(1, size):
        _done(output, k, size).unlink(missing_ok=True)
    return True


def _limits():
    samples = (hashlib.md5(Path(path).read_bytes()).hexdigest() for path in FLAGS.placeholders)
    return config(fetch.Limits, placeholders=frozenset({*fetch.PLACEHOLDER_DIGESTS, *samples}))


def _failed_files(output):
    """What failed is noted as it fails, by each process in a file of its own; failed.tsv is of complete runs."""
    return [path for path in (output / "failed.tsv", *sorted(output.glob(".failed-*.tsv"))) if path.exists()]


def _read_failed(output):
    """Returns {digest of the URL: whether it may pass} of all that has failed."""
    failed = {}
    for path in _failed_files(output):
        for url, _, may_pass, _ in _failed_rows(path):
            failed[folder.digest(url)] = may_pass == "yes"
    return failed


def _failed_rows(path):
    with open(path, "rb") as file:
        for line in file:
            # The last line of a run that was killed may be half a line.
            fields = line.decode("utf-8", "replace").rstrip("\n").split("\t")
            if line.endswith(b"\n") and len(fields) == 4 and not line.startswith(b"#"):
                yield fields


def _urls_to_fetch(path, output, rank, size, failed, counts):
    """Yields the URLs of a list that are this process's and were not fetched, nor failed for good; each once.

    It ends early when `counts` has "stopped": on a resume there may be nothing to yield for minutes. It holds about 80
    bytes for each of this process's URLs, 0.8 GB for ten million; and `failed` 110 for each that had failed.
    """
    yielded = set()
    for row in tqdm(image_list.read(path, require_labels=False), "list", unit=" rows", unit_scale=True, position=1):
        if counts["stopped"]:
            return
        name = folder.digest(row.path)
        if int(name, 16) % size != rank or (key := bytes.fromhex(name)) in yielded:
            continue
        yielded.add(key)
        if folder.find(output, row.path):
            counts["there"] += 1
        elif failed.get(name) is False:
            counts["failed before"] += 1
        else:
            yield row.path


async def _download(urls, output, limits, scratch, rank, counts):
    """Fetches, notes what fails, and shows what happens; counts go into `counts`."""
    task = asyncio.current_task()

    def stop():
        counts["stopped"] = 1
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    began = time.monotonic()
    with (
        DaemonThreads(len(os.sched_getaffinity(0)), "check") as pool,
        open(output / f".failed-{rank}.tsv", "a", encoding="utf-8", errors="replace") as failures,
        tqdm(unit=" images", unit_scale=True, smoothing=0.1, position=0) as bar,
    ):
        async for result in fetch.download(urls, output, limits, scratch, pool):
            counts["bytes"] += result.size
            if result.path:
                counts["fetched"] += 1
                bar.update()
            else:
                counts[result.kind] += 1
                may_pass = "yes" if result.temporary else "no"
                failures.write(f"{result.url}\t{result.kind}\t{may_pass}\t{result.detail}\n")
                failures.flush()
            failed = {kind: count for kind, count in counts.items() if kind not in NOT_FAILED}
            rate = counts["bytes"] / 1e6 / (time.monotonic() - began)
            shown = [f"{rate:.1f} MB/s", *(f"{count:,} {kind}" for kind, count in failed.items())]
            bar.set_postfix_str(", ".join(shown), refresh=False)


def _write_lists(path, output):
    """Writes downloaded.txt and failed.tsv, of all that is there and all that was noted, in the order of the list.

    Holds about 300 bytes for each URL that failed.
    """
    failures = {}
    for failed_path in _failed_files(output):
        for fields in _failed_rows(failed_path):
            failures[bytes.fromhex(folder.digest(fields[0]))] = "\t".join(fields)
    came, written = 0, set()
    with atomic_write(output / "downloaded.txt") as good_path, atomic_write(output / "failed.tsv") as bad_path:
        with open(good_path, "w", encoding="utf-8") as good, open(bad_path, "w", encoding="utf-8") as bad:
            bad.write(FAILED_COLUMNS + "\n")
            for row in image_list.read(path, require_labels=False):
                if fetched := folder.find(output, row.path):
                    good.write(image_list.format_row(row._replace(path=fetched), path))
                    came += 1
                elif (key := bytes.fromhex(folder.digest(row.path))) not in written:
                    written.add(key)
                    bad.write(failures.get(key, f"{row.path}\tnot tried\tyes\t") + "\n")
    for failed_path in output.glob(".failed-*.tsv"):
        failed_path.unlink(missing_ok=True)
    print(f"{came:,} rows in {output / 'downloaded.txt'}; {len(written):,} URLs in {output / 'failed.tsv'}")


if __name__ == "__main__":
    run(main)
