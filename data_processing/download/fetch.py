"""Fetches images from URLs that nobody vouches for: many at a time, within limits, politely.

An image is streamed into a file, never held in memory, and checked before it gets its name.
"""

import asyncio
import contextlib
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
import functools
import hashlib
import itertools
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from data_processing.download import addresses
from data_processing.download.folder import digest, keep
from data_processing.download.retry_queue import HOST_DOWN, RetryQueue
from data_processing.download.servers import Allowance, Servers
from data_processing.images import image_files
from utils.daemon_threads import DaemonThreads

# What Flickr sends, as 200 OK, for a photo that is gone: 2,051 bytes with this MD5, or a redirect to this name.
PLACEHOLDER_DIGESTS = {"880a7a58e05d3e83797f27573bb6d35c"}
PLACEHOLDER_NAME = "photo_unavailable"
# Answers that may be others a little later. All others from 400 on stay what they are.
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 5
BLOCK = 2**16
# URLs that have begun, or wait for their host, for each connection.
QUEUED = 64


class Limits(NamedTuple):
    """What a download may take.

    Attributes:
      connections: images fetched at the same time, from all hosts.
      per_host: images fetched at the same time from one host, and from one address, whatever the hosts' names there.
      timeout: seconds for one try of one image; its check comes on top.
      attempts: tries of one image.
      retry_wait: seconds before the second try; they double with each. What a server asks for (Retry-After) counts if
        it is more.
      max_wait: seconds at most; what a server wants to be asked for later than that fails until the next run.
      max_bytes: of a file.
      max_pixels: of an image.
      resize_short: pixels that the short side is reduced to, or 0: the bytes stay as they came.
      allow_private_hosts: whether addresses of private networks, and this machine's, may be fetched from.
      placeholders: MD5s, in hexadecimal, of images that stand for a missing one.
    """

    connections: int = 256
    per_host: int = 32
    timeout: float = 60.0
    attempts: int = 4
    retry_wait: float = 1.0
    max_wait: float = 120.0
    max_bytes: int = 2**26
    max_pixels: int = image_files.MAX_PIXELS
    resize_short: int = 0
    allow_private_hosts: bool = False
    placeholders: frozenset = frozenset(PLACEHOLDER_DIGESTS)


class Result(NamedTuple):
    """What became of a URL: `path` of the image below the folder, or a kind of failure, with its details.

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


async def download(urls, folder, limits, scratch, pool):
    """Yields a `Result` for each URL, as they come.

    Args:
      urls: iterable; it is read as there is room, so it may be long. No URL may come twice.
      folder: that images are written into.
      limits: `Limits`.
      scratch: folder of this process, on the same disk, for what is on its way.
      pool: executor in which images are checked; its workers are how many images are decoded at a time.
    """
    loop = asyncio.get_running_loop()
    # It may take long to find the next URL whose image is not there yet.
    reader = DaemonThreads(1, "list")
    queue = RetryQueue(limits.per_host, limits.attempts, limits.retry_wait, limits.max_wait)
    urls, ended, reading, waker, running = iter(urls), False, None, None, {}
    async with Servers(limits.connections, limits.per_host, limits.allow_private_hosts) as servers:
        try:
            while True:
                if waker is None or waker.done():
                    servers.places.changed.clear()
                    waker = asyncio.create_task(servers.places.changed.wait())
                while _is_room(running, servers, limits) and (job := queue.take(loop.time())):
                    if job.host_is_down:
                        queue.end(job, loop.time())
                        detail = f"{HOST_DOWN} URLs of {job.name} failed one after another"
                        yield Result(job.url, kind="host down", detail=detail, temporary=True)
                    else:
                        task = asyncio.create_task(_fetch(servers, job.url, folder, limits, scratch, pool))
                        running[task] = job
                room = queue.untouched < limits.connections and len(queue) < QUEUED * limits.connections
                if room and not ended and reading is None:
                    reading = loop.run_in_executor(reader, _some, urls, 4 * limits.connections)
                tasks = running.keys() | ({reading} if reading else set())
                pause = queue.sleep(loop.time()) if _is_room(running, servers, limits) else None
                if not tasks:
                    if pause is None:
                        return
                    await asyncio.sleep(pause)
                    continue
                done, _ = await asyncio.wait(tasks | {waker}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {reading, waker}:
                    result, asked = task.result()
                    if not queue.tried(running.pop(task), loop.time(), result.temporary, asked):
                        yield result
                if reading in done:
                    more, reading = reading.result(), None
                    ended = not more
                    for url in more:
                        if parts := _split(url):
                            queue.add(url, f"{parts.raw_host.rstrip('.')}:{parts.port}")
                        else:
                            yield Result(url, kind="bad URL", detail="not http:// or https:// and a host")
        finally:
            reader.shutdown()
            for task in (*running, *filter(None, (reading, waker))):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _is_room(running, servers, limits):
    """Whether another try may begin. Those that wait for a server keep nobody from another."""
    begun = len(running) - servers.places.waiting
    return begun < limits.connections and len(running) < QUEUED * limits.connections


def _some(urls, count):
    return list(itertools.islice(urls, count))


async def _fetch(servers, url, folder, limits, scratch, pool):
    """Tries once to get an image; returns a `Result`, and how many seconds its host asks to be left alone."""
    temp_path, size = Path(scratch, f"{digest(url)}.part"), 0
    try:
        size, md5 = await _get(servers, url, temp_path, limits)
        if md5 in limits.placeholders:
            raise _Failure("placeholder", f"MD5 {md5}")
        loop = asyncio.get_running_loop()
        settings = limits.max_pixels, limits.resize_short
        path = await loop.run_in_executor(pool, keep, temp_path, folder, digest(url), *settings)
        return Result(url, path=path, size=size), 0.0
    except _Failure as error:
        failure = error
    except image_files.ImageError as error:
        truncated = str(error).startswith(image_files.TRUNCATED) or not size
        kind = "HTML" if str(error).startswith("HTML") else "damaged" if truncated else "not an image"
        failure = _Failure(kind, str(error), temporary=truncated)
    except (asyncio.TimeoutError, aiohttp.ServerTimeoutError):
        failure = _Failure("timeout", f"more than {limits.timeout:g} s", temporary=True)
    except aiohttp.ClientPayloadError as error:
        failure = _Failure("truncated", str(error), temporary=True)
    # A name that is too long for names of hosts is found when it is looked up.
    except (aiohttp.InvalidURL, UnicodeError) as error:
        failure = _Failure("bad URL", str(error))
    except aiohttp.ClientConnectorCertificateError as error:
        failure = _Failure("certificate", str(error))
    except (aiohttp.ClientError, ConnectionError) as error:
        private = addresses.PRIVATE in str(error)
        kind = "private address" if private else "connection"
        failure = _Failure(kind, str(error) or type(error).__name__, temporary=not private)
    except OSError:
        # Not of the network but of the disk: it ends the run.
        raise
    except Exception as error:
        # Nothing that one server sends may end a run, which would end there at each start.
        failure = _Failure("unexpected", f"{type(error).__name__}: {error}", temporary=True)
    finally:
        temp_path.unlink(missing_ok=True)
    detail = " ".join(failure.detail.split())[:200]
    return Result(url, kind=failure.kind, detail=detail, temporary=failure.temporary, size=size), failure.wait


def _split(url):
    """The parts of a URL, or None if it is none that can be fetched."""
    try:
        parts = URL(url)
        return parts if parts.scheme in ("http", "https") and parts.raw_host and parts.raw_host.strip(".") else None
    except ValueError:
        return None


async def _get(servers, url, temp_path, limits):
    """Streams what a URL leads to into the file `temp_path`; returns its size in bytes and its MD5."""
    allowance = Allowance(limits.timeout)
    for _ in range(MAX_REDIRECTS + 1):
        came = await servers.ask(url, allowance, functools.partial(_receive, url, temp_path, limits))
        if not isinstance(came, str):
            return came
        url = came
    raise _Failure("too many redirects", f"more than {MAX_REDIRECTS}")


async def _receive(url, temp_path, limits, response):
    """Streams what a server answers into a file; returns size and MD5 or, of a redirect, the URL that it leads to."""
    if response.status in REDIRECTS and "Location" in response.headers:
        try:
            url = urljoin(url, response.headers["Location"])
        except ValueError as error:
            raise _Failure("bad redirect", response.headers["Location"]) from error
        if not (parts := _split(url)):
            raise _Failure("bad redirect", url)
        if parts.name.startswith(PLACEHOLDER_NAME):
            raise _Failure("placeholder", url)
        return url
    _check(response, limits)
    md5, size = hashlib.md5(usedforsecurity=False), 0
    with open(temp_path, "wb") as file:
        async for block in response.content.iter_chunked(BLOCK):
            size += len(block)
            if size > limits.max_bytes:
                raise _Failure("too large", f"more than {limits.max_bytes} bytes")
            md5.update(block)
            file.write(block)
    return size, md5.hexdigest()


def _check(response, limits):
    """Raises _Failure for an answer that is no image by its status or headers."""
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
