"""Which addresses are of the internet, so that no URL of a stranger reaches into this machine or its network."""

import errno
import ipaddress
import socket

# In the message of the error that a private address is.
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


def socket_factory(private_hosts):
    """Returns a function for aiohttp that makes sockets, to public addresses alone unless `private_hosts`.

    At this place no name, redirect or odd spelling can hide where one leads. It raises OSError, PRIVATE in its message.
    """

    def make(address):
        family, kind, protocol, _, where = address
        if not private_hosts and not is_public(where[0]):
            raise OSError(errno.EACCES, f"{where[0]} {PRIVATE}")
        return socket.socket(family, kind, protocol)

    return make


def is_public(text) -> bool:
    """Whether an address is of the internet and, if a gateway would lead from it to one of IPv4, that one is, too."""
    address = ipaddress.ip_address(text.partition("%")[0])
    leads_to = [
        ipaddress.IPv4Address(int(address) >> bits_behind & 0xFFFFFFFF)
        for network, bits_behind in CARRIERS.items()
        if address in network
    ]
    return address.is_global and address not in LOCAL_GATEWAYS and all(one.is_global for one in leads_to)
