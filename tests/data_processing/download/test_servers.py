"""Requests by address: what one server's names may not do to other servers, and which address is asked."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
import socket

import aiohttp
import pytest

from data_processing.download import fetch, servers
from tests.image_server import image_server


@pytest.fixture
def server():
    with image_server() as running:
        yield running


def test_a_server_of_many_names_keeps_no_other_waiting(server, tmp_path):
    """It answers when the other server's images have come, and not before."""
    with image_server("127.0.0.2") as other:
        names = ["127.0.0.1", "127.1", "127.0.1", "0x7f.1", "2130706433", "0177.1"]
        urls = [f"http://{name}:{server.server_port}/gated/{k}" for k, name in enumerate(names)]
        urls += [f"{other.url}/numbered/{k}" for k in range(4)]

        async def run():
            limits = fetch.Limits(connections=2, per_host=1, allow_private_hosts=True)
            results = []
            with ThreadPoolExecutor(1) as pool:
                async for result in fetch.download(urls, tmp_path, limits, tmp_path, pool):
                    results.append(result)
                    if sum(result.url.startswith(other.url) for result in results) == 4:
                        server.gate.set()
            return results

        results = asyncio.run(asyncio.wait_for(run(), 50))
    assert [result.url for result in results[:4]] == urls[-4:]
    assert sorted(result.url for result in results) == sorted(urls) and all(result.path for result in results)
    assert server.most == server.most_open == 1


def ask(url, found, monkeypatch, **options):
    """Asks for a URL whose name has the addresses `found`; returns status and the server's address."""
    looked_up = []

    def look_up(name):
        looked_up.append(name)
        return list(found)

    monkeypatch.setattr(servers, "_look_up", look_up)

    async def use(response):
        return response.status, response.url.host

    async def run():
        async with servers.Servers(4, 4, **({"private": True} | options)) as asked:
            allowance = servers.Allowance(20)
            return [await asked.ask(url, allowance, use) for _ in range(2)]

    return asyncio.run(run()), looked_up


def test_the_next_address_is_asked_where_one_does_not_answer(server, monkeypatch):
    url = f"http://images.example:{server.server_port}/fine/a"
    answers, looked_up = ask(url, ["127.0.0.3", "127.0.0.1"], monkeypatch)
    assert answers == [(200, "127.0.0.1")] * 2 and looked_up == ["images.example"]
    with pytest.raises(aiohttp.ClientConnectorError, match=r"127\.0\.0\.[34]"):
        ask(url, ["127.0.0.3", "127.0.0.4"], monkeypatch)


def test_addresses_that_are_private_are_left_out(server, monkeypatch):
    url = f"http://images.example:{server.server_port}/fine/a"
    public = "127.0.0.1"
    monkeypatch.setattr(servers.addresses, "is_public", lambda address: address == public)
    answers, _ = ask(url, ["127.0.0.2", "127.0.0.1"], monkeypatch, private=False)
    assert answers == [(200, "127.0.0.1")] * 2
    with pytest.raises(aiohttp.ClientConnectionError, match="127.0.0.2 is no public address"):
        ask(url, ["127.0.0.2"], monkeypatch, private=False)


def test_names_that_have_no_address_are_looked_up_again(monkeypatch):
    def look_up(name):
        looked_up.append(name)
        raise socket.gaierror(-2, "Name or service not known")

    looked_up = []
    monkeypatch.setattr(servers, "_look_up", look_up)

    async def run():
        names = servers.Names()
        for _ in range(2):
            errors = await asyncio.gather(*[names.addresses("a.example") for _ in range(3)], return_exceptions=True)
            assert {str(error) for error in errors} == {"a.example: Name or service not known"}
        names.close()

    asyncio.run(run())
    assert looked_up == ["a.example"] * 2
