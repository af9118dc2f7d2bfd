"""Requests to servers that nobody vouches for: so many at the same time, and few to one server, whatever its names.

A server is an address. So names are looked up here, and a request goes to an address that was chosen before: it has its
place there first, and no name, spelling or redirect is a way around.
"""

import asyncio
import contextlib
import socket
import weakref

import aiohttp
from yarl import URL

from data_processing.download import addresses
from utils.daemon_threads import DaemonThreads

AGENT = "ml-images-downloader/1.0"
# Names that are looked up at the same time, for how many seconds what was found is good, and of how many it is known.
LOOKUPS, KEPT, MOST_NAMES = 64, 300, 10_000
# Seconds after which the next of several addresses is tried: IPv6, where it leads nowhere.
CONNECT = 5.0


class Allowance:
    """Seconds that a try of a URL may still take. Waiting for a place does not count."""

    def __init__(self, seconds):
        self.left = seconds

    async def limit(self, coroutine):
        """Returns what a coroutine does; TimeoutError (of asyncio) if it takes longer than what is left."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await asyncio.wait_for(coroutine, self.left)
        finally:
            self.left -= loop.time() - began


class Places:
    """The places at servers.

    Attributes:
      waiting: how many wait for a place at a server whose places are taken.
      changed: event, set when there is one more.
    """

    def __init__(self, connections, per_server):
        self._all, self._per_server = asyncio.Semaphore(connections), per_server
        self._servers = weakref.WeakValueDictionary()
        self.waiting, self.changed = 0, asyncio.Event()

    @contextlib.asynccontextmanager
    async def at(self, server):
        """Waits for a place, which is taken inside."""
        place = self._servers.get(server)
        if place is None:
            place = self._servers[server] = asyncio.Semaphore(self._per_server)
        if place.locked():
            self.waiting += 1
            self.changed.set()
            try:
                await place.acquire()
            finally:
                self.waiting -= 1
        else:
            await place.acquire()
        try:
            async with self._all:
                yield
        finally:
            place.release()


class Names:
    """Addresses of names."""

    def __init__(self):
        self._found, self._threads = {}, DaemonThreads(LOOKUPS, "lookup")

    async def addresses(self, name) -> list[str]:
        """Returns the addresses of a host; whoever finds that one does not answer moves it to the end of that list.

        Raises aiohttp.ClientConnectionError if there is none.
        """
        loop = asyncio.get_running_loop()
        until, future = self._found.get(name, (0, None))
        if until < loop.time():
            future = loop.run_in_executor(self._threads, _look_up, name)
            # (Whoever asked may have given up: then nobody sees the error.)
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._found.pop(name, None)
            self._found[name] = loop.time() + KEPT, future
            if len(self._found) > MOST_NAMES:
                del self._found[next(iter(self._found))]
        try:
            # (One may give up while others still wait for the same name.)
            return await asyncio.shield(future)
        except OSError as error:
            self._found.pop(name, None)
            raise aiohttp.ClientConnectionError(f"{name}: {error.strerror or error}") from error

    def close(self):
        self._threads.shutdown()


def _look_up(name):
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(where[0] for *_, where in found))


class Servers:
    """All requests of a download.

    Args:
      connections: requests at the same time.
      per_server: requests at the same time to one address.
      private: whether addresses of private networks may be asked.
    """

    def __init__(self, connections, per_server, private):
        self.places, self._per_server = Places(connections, per_server), per_server
        self._names, self._sockets = Names(), addresses.Sockets(private)
        # Nothing is unpacked on the way: what is compressed further than an image is none.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=self._sockets.make),
            headers={"User-Agent": AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._names.close()
        await self._session.close()

    async def ask(self, url, allowance, use):
        """Requests a URL, and no redirect; returns what the coroutine `use(response)` does.

        Raises what aiohttp does, also ClientConnectionError with `addresses.PRIVATE`; and asyncio's TimeoutError.
        """
        url = URL(url)
        found = await allowance.limit(self._names.addresses(url.raw_host))
        allowed = [address for address in found if self._sockets.may(address)]
        if not allowed:
            raise aiohttp.ClientConnectionError(f"{found[0]} {addresses.PRIVATE}")
        for address in allowed:
            is_last = address == allowed[-1]
            async with self.places.at(addresses.server(address)):
                try:
                    return await allowance.limit(self._ask_at(address, url, None if is_last else CONNECT, use))
                except aiohttp.ClientSSLError:
                    raise
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                    found.sort(key=lambda other: other == address)
                    if is_last:
                        raise

    async def _ask_at(self, address, url, connect, use):
        headers = {"Host": url.host_port_subcomponent}
        # One that is kept open serves only its own name, over TLS: there may not be ever more of them.
        if self._sockets.open[addresses.server(address)] >= self._per_server:
            headers["Connection"] = "close"
        async with self._session.get(
            url.with_host(address),
            headers=headers,
            server_hostname=url.raw_host.rstrip(".") if url.scheme == "https" else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect),
        ) as response:
            return await use(response)
