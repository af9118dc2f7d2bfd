"""Fetching from within a process: what one URL may not do to others."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import ipaddress
import socket

import pytest

from data_processing.download import addresses, fetch
from data_processing.download.retry_queue import HOST_DOWN
from tests.image_server import image_server


@pytest.fixture
def server():
    with image_server() as running:
        yield running


def test_what_one_url_does_is_a_failure_and_what_the_disk_does_ends_the_run(tmp_path, monkeypatch):
    async def run(error):
        async def get(*_):
            raise error

        monkeypatch.setattr(fetch, "_get", get)
        limits = fetch.Limits(attempts=1)
        return [r async for r in fetch.download(["http://a/"], tmp_path, limits, tmp_path, None)]

    for error in (OverflowError("odd"), RecursionError("odd"), KeyError("odd")):
        [result] = asyncio.run(run(error))
        assert result.kind == "unexpected" and result.temporary and type(error).__name__ in result.detail
    with pytest.raises(OSError, match="No space"):
        asyncio.run(run(OSError(28, "No space left on device")))


def test_a_redirect_to_a_private_address_is_not_followed(server, tmp_path, monkeypatch):
    """The first host counts as public here, the one that it redirects to does not."""
    real = ipaddress.ip_address
    monkeypatch.setattr(
        addresses.ipaddress, "ip_address", lambda text: real("8.8.8.8" if text == "127.0.0.1" else text)
    )

    async def run():
        limits = fetch.Limits(timeout=5)
        (tmp_path / "scratch").mkdir()
        with ThreadPoolExecutor(1) as pool:
            urls = [f"{server.url}/private/a", f"{server.url}/fine/a"]
            return [r async for r in fetch.download(urls, tmp_path, limits, tmp_path / "scratch", pool)]

    kinds = {result.url.split("/")[3]: result.kind for result in asyncio.run(run())}
    assert kinds == {"private": "private address", "fine": ""}
    assert "/fine/secret" not in server.seen


def test_one_host_keeps_no_other_waiting(server, tmp_path):
    """Of a host that says "later" more URLs than there are places, then a good host's, then a dead one's."""
    good = server.url.replace("127.0.0.1", "localhost")
    urls = [f"{server.url}/later/{k}" for k in range(80)] + [f"{good}/numbered/{k}" for k in range(4)]
    with socket.socket() as unheard:  # bound, so that nobody else is there, but does not listen
        unheard.bind(("127.0.0.1", 0))
        urls += [f"http://127.0.0.1:{unheard.getsockname()[1]}/{k}" for k in range(60)]

        async def run():
            limits = fetch.Limits(connections=4, attempts=2, retry_wait=0.01, allow_private_hosts=True)
            results = []
            with ThreadPoolExecutor(1) as pool:
                async for result in fetch.download(urls, tmp_path, limits, tmp_path, pool):
                    results.append(result)
                    if len(results) == 64:  # those of the first host come when it may be asked again
                        return results

        results = asyncio.run(asyncio.wait_for(run(), 60))
    assert {result.url for result in results if result.path} == {url for url in urls if url.startswith(good)}
    kinds = Counter(result.kind for result in results if not result.path)
    assert kinds.keys() == {"connection", "host down"} and kinds["host down"] >= 60 - HOST_DOWN - 4
    assert all(result.temporary for result in results if not result.path)
    assert sum(count for path, count in server.seen.items() if "later" in path) <= 4
