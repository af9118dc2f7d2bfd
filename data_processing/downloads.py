"""Fetches pictures from URLs that nobody vouches for: many at a time, within limits, politely.

A picture is streamed into a file, never held in memory; it gets its name when it has been found to be a picture. Its
name follows from its URL alone, "images/3f/3f0c….jpg", so that no two collide, none leaves the folder, and what is
there need not be fetched again.
"""

import asyncio
import contextlib
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
import errno
import hashlib
import ipaddress
import itertools
import os
from pathlib import Path
import random
import socket
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp

from data_processing import pictures

ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}
# What Flickr sends, as 200 OK, for a photo that is gone: 2,051 bytes with this MD5, or a redirect to this name.
PLACEHOLDER_DIGESTS = {"880a7a58e05d3e83797f27573bb6d35c"}
PLACEHOLDER_NAME = "photo_unavailable"
# Answers that may be others a little later. All others from 400 on stay what they are.
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 5
BLOCK = 2**16
PRIVATE = "is no public address"
# Networks of IPv6 whose addresses hold one of IPv4, each with the number of bits behind it: compatible, mapped and
# translated addresses, NAT64 (RFC 6052) and 6to4 (RFC 3056). Teredo and the like are no public addresses for Python.
CARRIERS = {
    ipaddress.ip_network(network): bits_behind
    for network, bits_behind in (
        ("::/96", 0),
        ("::ffff:0:0/96", 0),
        ("::ffff:0:0:0/96", 0),
        ("64:ff9b::/96", 0),
        ("2002::/16", 80),
    )
}
# NAT64 within one site (RFC 8215), which not every version of Python knows.
LOCAL_GATEWAYS = ipaddress.ip_network("64:ff9b:1::/48")
AGENT = "ml-images-downloader/1.0"


class Limits(NamedTuple):
    """What a download may take.

    Attributes:
      connections: pictures fetched at the same time, from all hosts.
      per_host: pictures fetched at the same time from one host.
      timeout: seconds for one try of one picture.
      attempts: tries of one picture.
      wait: seconds before the second try; they double with each. What a server asks for (Retry-After) counts if more.
      max_wait: seconds at most; a server that asks for more is left alone until the next run.
      max_bytes: of a file.
      max_pixels: of a picture.
      resize_short: pixels that the short side is reduced to, or 0: the bytes stay as they came.
      private_hosts: whether addresses of private networks, and this machine's, may be fetched from.
      placeholders: MD5s, in hexadecimal, of pictures that stand for a missing one.
    """

    connections: int = 256
    per_host: int = 32
    timeout: float = 60.0
    attempts: int = 4
    wait: float = 1.0
    max_wait: float = 120.0
    max_bytes: int = 2**26
    max_pixels: int = pictures.MAX_PIXELS
    resize_short: int = 0
    private_hosts: bool = False
    placeholders: frozenset = frozenset(PLACEHOLDER_DIGESTS)


class Result(NamedTuple):
    """What became of a URL: `path` of the picture below the folder, or a kind of failure, with its details.

    `temporary` says whether another run may fare better. `size` is that of what came over the network, in bytes.
    """

    url: str
    path: str = ""
    kind: str = ""
    detail: str = ""
    temporary: bool = False
    size: int = 0


class _Failure(Exception):
    def __init__(self, kind, detail="", temporary=False, wait=0.0):
        super().__init__(detail)
        self.kind, self.detail, self.temporary, self.wait = kind, detail, temporary, wait


class _Host:
    """What this process does with a host: at most so many connections, none before `not_before` (loop time)."""

    def __init__(self, per_host):
        self.slots, self.not_before, self.users = asyncio.Semaphore(per_host), 0.0, 0


def digest(url) -> str:
    """Returns what the name of a URL's picture is made of: 32 hexadecimal digits."""
    return hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def find(folder, url) -> str | None:
    """Returns the path, below `folder`, of the picture that was fetched from a URL, or None."""
    name = digest(url)
    for ending in ENDINGS.values():
        path = f"images/{name[:2]}/{name}{ending}"
        with contextlib.suppress(OSError):
            # A power cut may leave a name without its content.
            if os.path.getsize(os.path.join(folder, path)):
                return path
    return None


async def download(urls, folder, limits, scratch, pool):
    """Yields a `Result` for each URL, as they come.

    Args:
      urls: iterable; it is read as there is room, so it may be long. No URL may come twice.
      folder: that pictures are written into.
      limits: `Limits`.
      scratch: folder of this process, on the same disk, for what is on its way.
      pool: executor in which pictures are checked; its workers are how many pictures are decoded at a time.
    """
    hosts, urls, ended = {}, iter(urls), False
    slots = asyncio.Semaphore(limits.connections)
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, socket_factory=_socket_factory(limits.private_hosts))
    timeout = aiohttp.ClientTimeout(total=limits.timeout)
    # Nothing is unpacked on the way: what is compressed further than a picture is none.
    headers = {"User-Agent": AGENT, "Accept": "image/*", "Accept-Encoding": "identity"}
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers, auto_decompress=False, cookie_jar=jar
    ) as session:
        running = set()
        try:
            while True:
                # More than there are slots, so that those who wait for their turn or their host leave none idle.
                if len(running) < 4 * limits.connections and not ended:
                    # In a thread: it may take long to find the next one that is not there yet.
                    room = 8 * limits.connections - len(running)
                    found = await asyncio.to_thread(lambda room=room: list(itertools.islice(urls, room)))
                    ended = len(found) < room
                    for url in found:
                        task = _fetch(session, url, folder, limits, scratch, pool, hosts, slots)
                        running.add(asyncio.create_task(task))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _socket_factory(private_hosts):
    """Makes sockets, to public addresses alone: here no name, redirect or odd spelling can hide where one leads."""

    def make(address):
        family, kind, protocol, _, where = address
        if not private_hosts and not _is_public(where[0]):
            raise OSError(errno.EACCES, f"{where[0]} {PRIVATE}")
        return socket.socket(family, kind, protocol)

    return make


def _is_public(text):
    """Whether an address is of the internet and, if a gateway would lead from it to one of IPv4, that one is, too."""
    address = ipaddress.ip_address(text.partition("%")[0])
    leads_to = [
        ipaddress.IPv4Address(int(address) >> bits_behind & 0xFFFFFFFF)
        for network, bits_behind in CARRIERS.items()
        if address in network
    ]
    return address.is_global and address not in LOCAL_GATEWAYS and all(one.is_global for one in leads_to)


async def _fetch(session, url, folder, limits, scratch, pool, hosts, slots):
    """Tries to get one picture; returns a `Result`."""
    parts = _split(url)
    if parts is None:
        return Result(url, kind="bad URL", detail="not http:// or https:// and a host")
    host = hosts.setdefault(parts.netloc, _Host(limits.per_host))
    host.users += 1
    aside = Path(scratch, f"{digest(url)}.part")
    loop, size = asyncio.get_running_loop(), 0
    try:
        for attempt in range(limits.attempts):
            await _until(host, loop)
            try:
                async with host.slots, slots:
                    await _until(host, loop)
                    size, md5 = await asyncio.wait_for(_get(session, url, aside, limits), limits.timeout)
                if md5 in limits.placeholders:
                    raise _Failure("placeholder", f"MD5 {md5}")
                path = await loop.run_in_executor(pool, _keep, aside, folder, digest(url), limits)
                return Result(url, path=path, size=size)
            except _Failure as error:
                failure = error
            except (asyncio.TimeoutError, aiohttp.ServerTimeoutError):
                failure = _Failure("timeout", f"more than {limits.timeout:g} s", temporary=True)
            except aiohttp.ClientPayloadError as error:
                failure = _Failure("cut short", str(error), temporary=True)
            # A name that is too long for names of hosts is found when it is looked up.
            except (aiohttp.InvalidURL, UnicodeError) as error:
                failure = _Failure("bad URL", str(error))
            except aiohttp.ClientConnectorCertificateError as error:
                failure = _Failure("certificate", str(error))
            except (aiohttp.ClientError, ConnectionError) as error:
                private = PRIVATE in str(error)
                kind = "private address" if private else "connection"
                failure = _Failure(kind, str(error) or type(error).__name__, temporary=not private)
            except OSError:
                # Not of the network but of the disk: it ends the run.
                raise
            except Exception as error:
                # Nothing that one server sends may end a run, which would end there at each start.
                failure = _Failure("unexpected", f"{type(error).__name__}: {error}", temporary=True)
            finally:
                aside.unlink(missing_ok=True)
            if not failure.temporary or failure.wait > limits.max_wait or attempt == limits.attempts - 1:
                break
            # Half of the wait is random, so that many do not come back together.
            wait = min(limits.max_wait, limits.wait * 2**attempt) * random.uniform(0.5, 1)
            if failure.wait:
                host.not_before = max(host.not_before, loop.time() + failure.wait)
            await asyncio.sleep(max(wait, failure.wait))
    finally:
        host.users -= 1
        if not host.users and host.not_before <= loop.time():
            hosts.pop(parts.netloc, None)
    detail = " ".join(failure.detail.split())[:200]
    return Result(url, kind=failure.kind, detail=detail, temporary=failure.temporary, size=size)


async def _until(host, loop):
    while (left := host.not_before - loop.time()) > 0:
        await asyncio.sleep(left)


def _split(url):
    """The parts of a URL, or None if it is none that can be fetched."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        return parts if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


async def _get(session, url, aside, limits):
    """Streams what a URL leads to into the file `aside`; returns its size in bytes and its MD5."""
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(url, allow_redirects=False) as response:
            if response.status in REDIRECTS and "Location" in response.headers:
                try:
                    url = urljoin(url, response.headers["Location"])
                except ValueError as error:
                    raise _Failure("bad redirect", response.headers["Location"]) from error
                if _split(url) is None:
                    raise _Failure("bad redirect", url)
                if Path(urlsplit(url).path).name.startswith(PLACEHOLDER_NAME):
                    raise _Failure("placeholder", url)
                continue
            _check(response, limits)
            md5, size = hashlib.md5(usedforsecurity=False), 0
            with open(aside, "wb") as file:
                async for block in response.content.iter_chunked(BLOCK):
                    size += len(block)
                    if size > limits.max_bytes:
                        raise _Failure("too large", f"more than {limits.max_bytes} bytes")
                    md5.update(block)
                    file.write(block)
            return size, md5.hexdigest()
    raise _Failure("too many redirects", f"more than {MAX_REDIRECTS}")


def _check(response, limits):
    """Raises _Failure for an answer that is no picture by its status or headers."""
    if response.status != 200:
        temporary = response.status in TEMPORARY
        raise _Failure(f"HTTP {response.status}", temporary=temporary, wait=_retry_after(response) if temporary else 0)
    if (response.content_length or 0) > limits.max_bytes:
        raise _Failure("too large", f"{response.content_length} bytes")


def _retry_after(response):
    """Seconds that a server asks for, as a number or a date; 0 if it does not."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
        return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
    return 0.0


def _keep(aside, folder, name, limits):
    """Checks that a file is a picture, makes it smaller if asked to, and gives it its name; returns its path."""
    data = aside.read_bytes()
    try:
        if limits.resize_short:
            jpeg, _, _ = pictures.as_jpeg(data, limits.max_pixels)
            aside.write_bytes(pictures.shrink(jpeg, limits.resize_short))
            ending = ".jpg"
        else:
            ending = ENDINGS[pictures.check(data, limits.max_pixels)]
    except pictures.PictureError as error:
        cut = str(error).startswith(pictures.CUT_SHORT) or not data
        kind = "HTML" if str(error).startswith("HTML") else "damaged" if cut else "not a picture"
        raise _Failure(kind, str(error), temporary=cut) from error
    path = f"images/{name[:2]}/{name}{ending}"
    final = Path(folder, path)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(aside, final)
    return path
