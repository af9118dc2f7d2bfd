"""The downloader, as a user starts it, against a server on loopback that does what servers do, and worse."""

import itertools
import os
import signal
import subprocess
import sys
import time

from PIL import Image
import pytest

from data_processing.lists import image_list
from tests.image_server import IMAGE, PLACEHOLDER, TIMEOUT, image_server, jpeg
from tests.scripts import ROOT, run_script


@pytest.fixture
def server():
    with image_server() as running:
        yield running


def command(urls, output, *options, private=True):
    fixed = [f"--timeout={TIMEOUT}", "--retry_wait=0.1", "--attempts=2", "--max_bytes=1000000", "--max_wait=3"]
    fixed += ["--max_pixels=1000000"]
    private = ["--allow_private_hosts"] if private else []
    script = ROOT / "data_processing" / "download_images.py"
    return [sys.executable, script, f"--image_list={urls}", f"--output_dir={output}", *fixed, *private, *options]


def run(urls, output, *options, **more):
    _, script, *options = command(urls, output, *options, **more)
    return run_script(script, *options, status=None, timeout=120)


def lists(output):
    """Rows of downloaded.txt, and {URL: kind} of failed.tsv."""
    came = list(image_list.read(output / "downloaded.txt", require_labels=False))
    lines = [line.split("\t") for line in (output / "failed.tsv").read_text().splitlines() if not line.startswith("#")]
    assert len({line[0] for line in lines}) == len(lines)
    return came, {line[0]: line[1] for line in lines}


# What becomes of each kind of URL, and how often the server is asked.
FAILS = {
    "slow": ("timeout", 2),
    "truncated": ("truncated", 2),
    "longer": (("damaged", "connection"), 2),
    "missing": ("HTTP 404", 1),
    "gone": ("HTTP 410", 1),
    "always_busy": ("HTTP 429", 1),
    "never": ("HTTP 429", 2),
    "nowhere": ("HTTP 503", 2),
    "no_redirect": ("bad redirect", 1),
    "loop": ("too many redirects", 6),
    "file_redirect": ("bad redirect", 1),
    "html": ("HTML", 1),
    "gigantic": ("too large", 1),
    "endless": ("too large", 1),
    "trickle": ("timeout", 2),
    "bomb": ("not an image", 1),
    "scans": ("not an image", 1),
    "placeholder": ("placeholder", 1),
    "flickr": ("placeholder", 1),
    "empty": ("damaged", 2),
    "hangup": ("connection", 4),  # aiohttp asks once more each time, itself
}
COMES = {"fine": 1, "busy": 2, "down": 2, "moved": 1, "delayed": 1}


def test_each_url_is_accounted_for_exactly_once(server, tmp_path):
    names = [f"{server.url}/{kind}/a.jpg" for kind in (*FAILS, *COMES)]
    odd = [
        f"{server.url}/fine/../../x",
        f"{server.url}/other/../../x",
        f"{server.url}/fine/one/same.jpg",
        f"{server.url}/fine/two/same.jpg",
        f"{server.url}/fine/{'long' * 200}.jpg",
        f"{server.url}/fine/%2e%2e%2fescape",
        f"{server.url}/fine/caf%C3%A9.jpg?x=1&y=a/b",
    ]
    wrong = ["../../etc/passwd", "ftp://127.0.0.1/a.jpg", "http://", "http://[", "http://127.0.0.1:99999/a.jpg"]
    wrong += [f"http://{'a' * 64}.example/a.jpg", f"http://{'é' * 64}.example/a.jpg"]
    rows = [image_list.Row(url, (k,), (0.5,)) for k, url in enumerate([*names, *odd, *wrong, *names[-5:]])]
    urls, output, sample = tmp_path / "urls.txt", tmp_path / "out", tmp_path / "sample.jpg"
    image_list.write(urls, rows)
    sample.write_bytes(PLACEHOLDER)
    before = {path.name for path in tmp_path.parent.iterdir()}
    done = run(urls, output, f"--placeholders={sample}", "--connections=64", "--per_host=64")
    assert done.returncode == 0, done.stderr
    came, failed = lists(output)

    for kind, (_, asked) in FAILS.items():
        assert server.seen[f"/{kind}/a.jpg"] == asked, (kind, server.seen[f"/{kind}/a.jpg"])
    for kind, asked in COMES.items():
        assert server.seen[f"/{kind}/a.jpg"] == asked, kind
    _check_reasons(server, failed)
    assert [failed[url] for url in wrong] == ["bad URL"] * len(wrong)
    # Rows that came keep their labels and order; a URL that is there twice came once.
    good = [f"{server.url}/{kind}/a.jpg" for kind in COMES]
    expected = [row for row in rows if row.path in (*good, *odd)]
    assert [row.labels for row in came] == [row.labels for row in expected]
    assert len(came) + len(failed) == len(rows)
    assert came[-1].path == came[len(COMES) - 1].path
    # Each file is the image that was served, and nothing else is anywhere.
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert files == {row.path for row in came} | {"downloaded.txt", "failed.tsv"}
    assert all((output / row.path).read_bytes() == IMAGE for row in came)
    assert {path.name for path in tmp_path.parent.iterdir()} == before
    assert len({row.path for row in came}) == len(COMES) + len(odd)

    # The same command again fetches nothing that came and nothing that failed for good.
    server.seen.clear()
    assert run(urls, output, f"--placeholders={sample}", "--connections=64", "--per_host=64").returncode == 0
    again = {path.split("/")[1] for path in server.seen}
    assert again == {"slow", "truncated", "longer", "always_busy", "never", "nowhere", "trickle", "empty", "hangup"}
    came_again, failed_again = lists(output)
    assert came_again == came
    assert failed_again.keys() == failed.keys()
    _check_reasons(server, failed_again)


def _check_reasons(server, failed):
    # Some may fail in one of two ways: whether bytes beyond the said length are seen depends on how packets fall.
    for kind, (reason, _) in FAILS.items():
        assert failed[f"{server.url}/{kind}/a.jpg"].startswith(reason), kind


def test_private_addresses_are_not_fetched_from(server, tmp_path):
    port = server.server_port
    spelled = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0x7f.1", "0.0.0.0"]
    spelled += ["10.0.0.1", "169.254.169.254"]
    rows = [image_list.Row(f"http://{host}:{port}/fine/{k}", (), ()) for k, host in enumerate(spelled)]
    image_list.write(tmp_path / "urls.txt", rows)
    done = run(tmp_path / "urls.txt", tmp_path / "out", private=False)
    assert done.returncode == 0, done.stderr
    came, failed = lists(tmp_path / "out")
    assert not came and not server.seen
    assert set(failed.values()) <= {"private address", "bad URL", "connection"}, failed
    assert failed[rows[0].path] == failed[rows[-1].path] == "private address"


def test_politeness(server, tmp_path):
    image_list.write(tmp_path / "urls.txt", [image_list.Row(f"{server.url}/delayed/{k}", (), ()) for k in range(24)])
    assert run(tmp_path / "urls.txt", tmp_path / "out", "--per_host=3").returncode == 0
    assert server.most == 3
    assert len(lists(tmp_path / "out")[0]) == 24


def test_one_server_has_few_connections_whatever_its_names(server, tmp_path):
    """Spelled in many ways, by other users, and after redirects."""
    port = server.server_port
    hosts = "127.0.0.1 127.1 127.0.1 0x7f.1 0177.1 2130706433 0x7f000001 localhost LOCALHOST".split()
    spelled = [f"http://{host}:{port}/delayed/{k}" for k, host in enumerate(hosts)]
    spelled += [f"http://user{k}:word@127.0.0.1:{port}/delayed/u{k}" for k in range(15)]
    spelled += [f"{server.url}/elsewhere/e{k}" for k in range(15)]
    image_list.write(tmp_path / "urls.txt", [image_list.Row(url, (), ()) for url in spelled])
    done = run(tmp_path / "urls.txt", tmp_path / "out", "--per_host=3", "--timeout=20")
    assert done.returncode == 0, done.stderr
    came, failed = lists(tmp_path / "out")
    assert not failed and len(came) == len(spelled)
    assert server.most_open == 3


def test_resizes_at_the_door(server, tmp_path):
    (tmp_path / "urls.txt").write_text(f"{server.url}/fine/a.jpg\t1:0.5\n{server.url}/commented/a\t1:0.5\n")
    assert run(tmp_path / "urls.txt", tmp_path / "out", "--resize_short=12").returncode == 0
    rows = lists(tmp_path / "out")[0]
    assert len(rows) == 2
    for row in rows:
        with Image.open(tmp_path / "out" / row.path) as image:
            assert image.size == (16, 12) and image.format == "JPEG" and "comment" not in image.info


# Threads that do not return: of a decoder, or of a look-up of a name.
ENDLESS = """
import sys, threading
sys.path.insert(0, {root!r})
sys.argv[0] = {script!r}
from data_processing.images import image_files
from data_processing.download import servers
def endless(*_):
    print("began", flush=True)
    threading.Event().wait()
{what} = endless
import runpy
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("what", ["image_files.check", "servers._look_up"])
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stops_while_an_image_is_checked_or_a_name_looked_up(server, tmp_path, what, stop):
    (tmp_path / "urls.txt").write_text(f"{server.url}/fine/a.jpg\t1\n")
    _, script, *options = command(tmp_path / "urls.txt", tmp_path / "out", "--timeout=1000")
    code = ENDLESS.format(root=str(ROOT), script=str(script), what=what)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "began\n"
    process.send_signal(stop)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "the same command resumes" in text and "Traceback" not in text
    assert not list((tmp_path / "out").glob(".scratch*")) and not (tmp_path / "out" / "downloaded.txt").exists()
    assert run(tmp_path / "urls.txt", tmp_path / "out").returncode == 0
    assert len(lists(tmp_path / "out")[0]) == 1


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_resumes_after_it_was_stopped(server, tmp_path, stop):
    count = 120
    rows = [image_list.Row(f"{server.url}/delayed/{k}.jpg", (k,), (1.0,)) for k in range(count)]
    rows += [image_list.Row(f"{server.url}/missing/{k}.jpg", (k,), (1.0,)) for k in range(10)]
    image_list.write(tmp_path / "urls.txt", rows)
    output = tmp_path / "out"
    process = subprocess.Popen(
        command(tmp_path / "urls.txt", output, "--connections=4"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while server.seen.total() < 30:
        time.sleep(0.02)
    process.send_signal(stop)
    text = process.communicate(timeout=20)[0].decode()
    assert process.returncode != 0 and not (output / "downloaded.txt").exists()
    assert stop == signal.SIGKILL or "the same command resumes" in text
    there = len(list(output.rglob("images/*/*.jpg")))
    assert 0 < there < count
    time.sleep(0.5)
    server.seen.clear()
    assert run(tmp_path / "urls.txt", output).returncode == 0
    came, failed = lists(output)
    assert [row.labels for row in came] == [(k,) for k in range(count)] and len(failed) == 10
    assert sum(seen for path, seen in server.seen.items() if "delayed" in path) == count - there
    assert not list(output.rglob("*.part")) and not list(output.glob(".*"))


def test_stops_while_it_looks_for_something_to_fetch(server, tmp_path):
    """A list without an end, of one URL that failed."""
    output, urls = tmp_path / "out", tmp_path / "urls.txt"
    output.mkdir()
    (output / "failed.tsv").write_text(f"{server.url}/missing/a\tHTTP 404\tno\t\n")
    os.mkfifo(urls)
    process = subprocess.Popen(command(urls, output), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with open(urls, "w") as pipe:
            for k in itertools.count():
                pipe.write(f"{server.url}/missing/a\t\n" * 100)
                if k == 100:
                    process.send_signal(signal.SIGTERM)
                assert k < 1_000_000
    except BrokenPipeError:
        pass
    text = process.communicate(timeout=20)[0]
    assert process.returncode == 1 and "the same command resumes" in text and not server.seen


def test_of_ranks_that_end_in_one_moment_one_writes(tmp_path):
    code = """
import sys, threading
from pathlib import Path
from data_processing import download_images
output, last, barrier = Path(sys.argv[1]), [], threading.Barrier(4)
def end(rank):
    for _ in range(200):
        barrier.wait()
        last.append(download_images._is_last(output, rank, 4))
        barrier.wait()
ranks = [threading.Thread(target=end, args=[rank]) for rank in range(4)]
[rank.start() for rank in ranks], [rank.join() for rank in ranks]
print(len(last), sum(last), len(list(output.iterdir())))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "800 200 0\n", done.stderr


def test_ranks_share_the_list(server, tmp_path):
    image_list.write(
        tmp_path / "urls.txt", [image_list.Row(f"{server.url}/numbered/{k % 40}", (k,), (1.0,)) for k in range(60)]
    )
    together = [
        subprocess.Popen(
            command(tmp_path / "urls.txt", tmp_path / "out"),
            env=os.environ | {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert all(process.wait(60) == 0 for process in together)
    assert all(": 0 fetched" not in process.stdout.read() for process in together)
    came, failed = lists(tmp_path / "out")
    assert len(came) == 60 and not failed and set(server.seen.values()) == {1}
    assert [(tmp_path / "out" / row.path).read_bytes() for row in came] == [jpeg(k % 40) for k in range(60)]
