"""Fetches images from URLs that nobody vouches for: many at a time, within limits, politely.

An image is streamed into a file, never held in memory; it gets its name when it has been found to be an image. Its
name follows from its URL alone, "images/3f/3f0c….jpg", so that no two collide, none leaves the folder, and what is
there need not be fetched again.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
import contextlib
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
import hashlib
import itertools
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp

from data_processing.download import addresses
from data_processing.download.retry_queue import HOST_DOWN, RetryQueue
from data_processing.images import image_files

ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}
# What Flickr sends, as 200 OK, for a photo that is gone: 2,051 bytes with this MD5, or a redirect to this name.
PLACEHOLDER_DIGESTS = {"880a7a58e05d3e83797f27573bb6d35c"}
PLACEHOLDER_NAME = "photo_unavailable"
# Answers that may be others a little later. All others from 400 on stay what they are.
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 5
BLOCK = 2**16
# Names that are looked up at the same time; and URLs that have begun, or wait for their host, for each connection.
LOOKUPS = 64
QUEUED = 64
AGENT = "ml-images-downloader/1.0"


class Limits(NamedTuple):
    """What a download may take.

    Attributes:
      connections: images fetched at the same time, from all hosts.
      per_host: images fetched at the same time from one host.
      timeout: seconds for one try of one image.
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


def digest(url) -> str:
    """Returns what the name of a URL's image is made of: 32 hexadecimal digits."""
    return hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def find(folder, url) -> str | None:
    """Returns the path, below `folder`, of the image that was fetched from a URL, or None."""
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
      folder: that images are written into.
      limits: `Limits`.
      scratch: folder of this process, on the same disk, for what is on its way.
      pool: executor in which images are checked; its workers are how many images are decoded at a time.
    """
    loop = asyncio.get_running_loop()
    # In its threads names are looked up, and those of dead hosts take long.
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "lookup"))
    # It may take long to find the next URL whose image is not there yet.
    reader = ThreadPoolExecutor(1, "list")
    queue = RetryQueue(limits.per_host, limits.attempts, limits.retry_wait, limits.max_wait)
    urls, ended, reading, running = iter(urls), False, None, {}
    async with _session(limits) as session:
        try:
            while True:
                while len(running) < limits.connections and (job := queue.take(loop.time())):
                    if job.host_is_down:
                        queue.end(job, loop.time())
                        detail = f"{HOST_DOWN} URLs of {job.name} failed one after another"
                        yield Result(job.url, kind="host down", detail=detail, temporary=True)
                    else:
                        task = asyncio.create_task(_fetch(session, job.url, folder, limits, scratch, pool))
                        running[task] = job
                room = queue.untouched < limits.connections and len(queue) < QUEUED * limits.connections
                if room and not ended and reading is None:
                    reading = loop.run_in_executor(reader, _some, urls, 4 * limits.connections)
                tasks = running.keys() | ({reading} if reading else set())
                pause = queue.sleep(loop.time()) if len(running) < limits.connections else None
                if not tasks:
                    if pause is None:
                        return
                    await asyncio.sleep(pause)
                    continue
                done, _ = await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {reading}:
                    result, asked = task.result()
                    if not queue.tried(running.pop(task), loop.time(), result.temporary, asked):
                        yield result
                if reading in done:
                    more, reading = reading.result(), None
                    ended = not more
                    for url in more:
                        if parts := _split(url):
                            queue.add(url, parts.netloc)
                        else:
                            yield Result(url, kind="bad URL", detail="not http:// or https:// and a host")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            reader.shutdown()


def _session(limits):
    connector = aiohttp.TCPConnector(
        limit=0, ttl_dns_cache=300, socket_factory=addresses.socket_factory(limits.allow_private_hosts)
    )
    # Nothing is unpacked on the way: what is compressed further than an image is none.
    headers = {"User-Agent": AGENT, "Accept": "image/*", "Accept-Encoding": "identity"}
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=limits.timeout),
        headers=headers,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _some(urls, count):
    return list(itertools.islice(urls, count))


async def _fetch(session, url, folder, limits, scratch, pool):
    """Tries once to get an image; returns a `Result`, and how many seconds its host asks to be left alone."""
    temp_path, size = Path(scratch, f"{digest(url)}.part"), 0
    try:
        size, md5 = await asyncio.wait_for(_get(session, url, temp_path, limits), limits.timeout)
        if md5 in limits.placeholders:
            raise _Failure("placeholder", f"MD5 {md5}")
        loop = asyncio.get_running_loop()
        path = await loop.run_in_executor(pool, _keep, temp_path, folder, digest(url), limits)
        return Result(url, path=path, size=size), 0.0
    except _Failure as error:
        failure = error
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
        parts = urlsplit(url)
        _ = parts.port
        return parts if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


async def _get(session, url, temp_path, limits):
    """Streams what a URL leads to into the file `temp_path`; returns its size in bytes and its MD5."""
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
            with open(temp_path, "wb") as file:
                async for block in response.content.iter_chunked(BLOCK):
                    size += len(block)
                    if size > limits.max_bytes:
                        raise _Failure("too large", f"more than {limits.max_bytes} bytes")
                    md5.update(block)
                    file.write(block)
            return size, md5.hexdigest()
    raise _Failure("too many redirects", f"more than {MAX_REDIRECTS}")


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


def _keep(temp_path, folder, name, limits):
    """Checks that a file is an image, makes it smaller if asked to, and gives it its name; returns its path."""
    data = temp_path.read_bytes()
    try:
        if limits.resize_short:
            jpeg, _, _ = image_files.as_jpeg(data, limits.max_pixels)
            temp_path.write_bytes(image_files.shrink(jpeg, limits.resize_short))
            ending = ".jpg"
        else:
            ending = ENDINGS[image_files.check(data, limits.max_pixels)]
    except image_files.ImageError as error:
        truncated = str(error).startswith(image_files.TRUNCATED) or not data
        kind = "HTML" if str(error).startswith("HTML") else "damaged" if truncated else "not an image"
        raise _Failure(kind, str(error), temporary=truncated) from error
    path = f"images/{name[:2]}/{name}{ending}"
    final = Path(folder, path)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temp_path, final)
    return path
