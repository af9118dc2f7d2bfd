"""Which addresses are of the internet, so that no URL of a stranger reaches into this machine or its network."""

from collections import Counter
import errno
import ipaddress
import socket

# In the message of the error that a private address is.
PRIVATE = "is no public address"
# Networks of IPv6 whose addresses hold one of IPv4, each with the number of bits behind it: mapped addresses, NAT64
# (RFC 6052) and 6to4 (RFC 3056).
CARRIERS = {
    ipaddress.ip_network(network): bits_behind
    for network, bits_behind in (("::ffff:0:0/96", 0), ("64:ff9b::/96", 0), ("2002::/16", 80))
}
# All of IPv6 that was ever given out for single machines (RFC 4291, 2.4), and what in there is for documents, which not
# every version of Python knows (RFC 9637). What is site-local, multicast or translated within a site lies elsewhere.
UNICAST = ipaddress.ip_network("2000::/3")
DOCUMENTS = ipaddress.ip_network("3fff::/20")


class _Socket(socket.socket):
    """A socket that is counted while it is open."""

    server = counter = None

    def close(self):
        if self.counter is not None:
            self.counter[self.server] -= 1
            if not self.counter[self.server]:  # (of millions)
                del self.counter[self.server]
            self.counter = None
        super().close()


class Sockets:
    """Makes sockets for aiohttp. At this place no name, redirect or odd spelling can hide where one leads.

    Attributes:
      open: {server: how many are open}.
    """

    def __init__(self, private):
        """Args: whether they may lead to private addresses, too."""
        self._private, self.open = private, Counter()

    def may(self, text) -> bool:
        """Whether an address may be connected to."""
        return self._private or is_public(text)

    def make(self, address):
        """Returns a socket for what getaddrinfo has; raises OSError, PRIVATE in its message, where none may lead."""
        family, kind, protocol, _, where = address
        if not self.may(where[0]):
            raise OSError(errno.EACCES, f"{where[0]} {PRIVATE}")
        made = _Socket(family, kind, protocol)
        made.server, made.counter = server(where[0]), self.open
        self.open[made.server] += 1
        return made


def server(text) -> str:
    """Returns one text for all addresses that are the same machine's: that of IPv4, where one of IPv6 holds it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return str(_carried(address) or address)


def is_public(text) -> bool:
    """Whether an address, or the one of IPv4 that it holds, is of one machine on the internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    address = _carried(address) or address
    if address.version == 6 and (address not in UNICAST or address in DOCUMENTS):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _carried(address):
    """The address of IPv4 that one of IPv6 holds, or None."""
    for network, bits_behind in CARRIERS.items():
        if address in network:
            return ipaddress.IPv4Address(int(address) >> bits_behind & 0xFFFFFFFF)
    return None
