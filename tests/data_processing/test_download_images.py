"""The downloader, as a user starts it, against a server on loopback that does what servers do, and worse."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import ipaddress
import itertools
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
from PIL import Image
import pytest

from data_processing.download import addresses
from data_processing.download.retry_queue import HOST_DOWN
from data_processing.lists import image_list

ROOT = Path(__file__).parents[2]
TIMEOUT = 2.0


def jpeg(seed=0, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


PICTURE = jpeg()
PLACEHOLDER = jpeg(99)
# An image of many pixels in few bytes.
BOMB = io.BytesIO()
Image.new("L", (9000, 9000)).save(BOMB, "PNG")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        with server.lock:
            server.seen[self.path] += 1
            seen = server.seen[self.path]
            server.active += 1
            server.most = max(server.most, server.active)
        try:
            self.serve(self.path.split("?")[0].removeprefix("/").split("/")[0], seen)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.active -= 1

    def serve(self, kind, seen):
        if kind == "slow":
            time.sleep(TIMEOUT + 1)
            self.answer(PICTURE)
        elif kind == "delayed":
            time.sleep(0.2)
            self.answer(PICTURE)
        elif kind == "truncated":
            self.answer(PICTURE[:-200], length=len(PICTURE))
            self.close_connection = True
        elif kind == "longer":  # than it says
            self.answer(PICTURE, length=len(PICTURE) // 2)
            self.close_connection = True
        elif kind == "missing":
            self.answer(b"no", 404)
        elif kind == "gone":
            self.answer(b"no", 410)
        elif kind == "busy":
            self.answer(*((b"", 429) if seen == 1 else (PICTURE,)), **({"Retry_After": "1"} if seen == 1 else {}))
        elif kind == "always_busy":
            self.answer(b"", 429, Retry_After="9999")
        elif kind == "later":
            self.answer(b"", 429, Retry_After="100")
        elif kind == "never":
            self.answer(b"", 429, Retry_After="Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
        elif kind == "nowhere":
            self.answer(b"", 503, Retry_After="Mon, 01 Jan 2035 00:00:00 +99999999999999")
        elif kind == "down":
            self.answer(*((b"", 503) if seen == 1 else (PICTURE,)))
        elif kind == "loop":
            self.answer(b"", 302, Location=self.path)
        elif kind == "private":
            self.answer(b"", 302, Location=f"http://127.0.0.2:{self.server.server_port}/fine/secret")
        elif kind == "no_redirect":
            self.answer(b"", 302, Location="http://[::bad")
        elif kind == "file_redirect":
            self.answer(b"", 302, Location="file:///etc/passwd")
        elif kind == "moved":
            self.answer(b"", 301, Location="/fine/moved")
        elif kind == "html":
            self.answer(b"<!DOCTYPE html><title>hello</title>", Content_Type="image/jpeg")
        elif kind == "gigantic":
            self.answer(b"", length=10**12)
            self.close_connection = True
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(PICTURE * 100)
        elif kind == "trickle":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"\xff")
                time.sleep(0.05)
        elif kind == "bomb":
            self.answer(BOMB.getvalue())
        elif kind == "placeholder":
            self.answer(PLACEHOLDER)
        elif kind == "flickr":
            self.answer(b"", 302, Location="/pw/images/en-us/photo_unavailable.png")
        elif kind == "empty":
            self.answer(b"")
        elif kind == "hangup":
            self.close_connection = True
            self.connection.close()
        elif kind == "numbered":
            self.answer(jpeg(int(self.path.rsplit("/", 1)[1])))
        else:
            self.answer(PICTURE)


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *_):
        pass  # clients that hang up


@pytest.fixture
def server():
    running = Server(("127.0.0.1", 0), Handler)
    running.lock, running.seen, running.active, running.most = threading.Lock(), Counter(), 0, 0
    running.url = f"http://127.0.0.1:{running.server_port}"
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()


def command(urls, output, *options, private=True):
    fixed = [f"--timeout={TIMEOUT}", "--retry_wait=0.1", "--attempts=2", "--max_bytes=1000000", "--max_wait=3"]
    fixed += ["--max_pixels=1000000"]
    private = ["--allow_private_hosts"] if private else []
    script = ROOT / "data_processing" / "download_images.py"
    return [sys.executable, script, f"--image_list={urls}", f"--output_dir={output}", *fixed, *private, *options]


def run(urls, output, *options, **more):
    return subprocess.run(command(urls, output, *options, **more), capture_output=True, text=True, timeout=120)


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
    assert all((output / row.path).read_bytes() == PICTURE for row in came)
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


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.0.0.1 ::1 fe80::1%eth0 ::ffff:127.0.0.1 ::ffff:0:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 "
    "64:ff9b::169.254.169.254 64:ff9b:1::808:808 2002:7f00:1:: 2002:c0a8:101::1 2001:0:1::1 0.0.0.0 ::".split(),
)
def test_addresses_that_lead_to_private_ones(address):
    assert not addresses.is_public(address)


def test_public_addresses():
    for address in ("8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1"):
        assert addresses.is_public(address)


def test_what_one_url_does_is_a_failure_and_what_the_disk_does_ends_the_run(tmp_path, monkeypatch):
    async def fetch(error):
        async def get(*_):
            raise error

        monkeypatch.setattr(fetch, "_get", get)
        limits = fetch.Limits(attempts=1)
        return [r async for r in fetch.download(["http://a/"], tmp_path, limits, tmp_path, None)]

    for error in (OverflowError("odd"), RecursionError("odd"), KeyError("odd")):
        [result] = asyncio.run(fetch(error))
        assert result.kind == "unexpected" and result.temporary and type(error).__name__ in result.detail
    with pytest.raises(OSError, match="No space"):
        asyncio.run(fetch(OSError(28, "No space left on device")))


def test_a_redirect_to_a_private_address_is_not_followed(server, tmp_path, monkeypatch):
    """The first host counts as public here, the one that it redirects to does not."""
    real = ipaddress.ip_address
    monkeypatch.setattr(
        addresses.ipaddress, "ip_address", lambda text: real("8.8.8.8" if text == "127.0.0.1" else text)
    )

    async def fetch():
        limits = fetch.Limits(timeout=5)
        (tmp_path / "scratch").mkdir()
        with ThreadPoolExecutor(1) as pool:
            urls = [f"{server.url}/private/a", f"{server.url}/fine/a"]
            return [r async for r in fetch.download(urls, tmp_path, limits, tmp_path / "scratch", pool)]

    kinds = {result.url.split("/")[3]: result.kind for result in asyncio.run(fetch())}
    assert kinds == {"private": "private address", "fine": ""}
    assert "/fine/secret" not in server.seen


def test_politeness(server, tmp_path):
    image_list.write(tmp_path / "urls.txt", [image_list.Row(f"{server.url}/delayed/{k}", (), ()) for k in range(24)])
    assert run(tmp_path / "urls.txt", tmp_path / "out", "--per_host=3").returncode == 0
    assert server.most == 3
    assert len(lists(tmp_path / "out")[0]) == 24


def test_one_host_keeps_no_other_waiting(server, tmp_path):
    """Of a host that says "later" more URLs than there are places, then a good host's, then a dead one's."""
    good = server.url.replace("127.0.0.1", "localhost")
    urls = [f"{server.url}/later/{k}" for k in range(80)] + [f"{good}/numbered/{k}" for k in range(4)]
    with socket.socket() as unheard:  # bound, so that nobody else is there, but does not listen
        unheard.bind(("127.0.0.1", 0))
        urls += [f"http://127.0.0.1:{unheard.getsockname()[1]}/{k}" for k in range(60)]

        async def fetch():
            limits = fetch.Limits(connections=4, attempts=2, wait=0.01, private_hosts=True)
            found = []
            with ThreadPoolExecutor(1) as pool:
                async for result in fetch.download(urls, tmp_path, limits, tmp_path, pool):
                    found.append(result)
                    if len(found) == 64:  # those of the first host come when it may be asked again
                        return found

        found = asyncio.run(asyncio.wait_for(fetch(), 60))
    assert {result.url for result in found if result.path} == {url for url in urls if url.startswith(good)}
    kinds = Counter(result.kind for result in found if not result.path)
    assert kinds.keys() == {"connection", "host down"} and kinds["host down"] >= 60 - HOST_DOWN - 4
    assert all(result.temporary for result in found if not result.path)
    assert sum(count for path, count in server.seen.items() if "later" in path) <= 4


def test_resizes_at_the_door(server, tmp_path):
    (tmp_path / "urls.txt").write_text(f"{server.url}/fine/a.jpg\t1:0.5\n")
    assert run(tmp_path / "urls.txt", tmp_path / "out", "--resize_short=12").returncode == 0
    [row] = lists(tmp_path / "out")[0]
    with Image.open(tmp_path / "out" / row.path) as image:
        assert image.size == (16, 12) and image.format == "JPEG"


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_goes_on_after_it_was_stopped(server, tmp_path, stop):
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
    assert stop == signal.SIGKILL or "the same command goes on" in text
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
    assert process.returncode == 1 and "the same command goes on" in text and not server.seen


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
