"""Which addresses are of the internet."""

from collections import Counter
import socket

import pytest

from data_processing.download import addresses


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.0.0.1 ::1 fe80::1%eth0 ::ffff:127.0.0.1 ::ffff:0:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 "
    "64:ff9b::169.254.169.254 64:ff9b:1::808:808 2002:7f00:1:: 2002:c0a8:101::1 2001:0:1::1 0.0.0.0 :: "
    "0.1.2.3 100.64.0.1 172.16.0.1 192.168.0.1 192.0.2.1 198.18.0.1 255.255.255.255 240.0.0.1 224.0.0.1 239.1.1.1 "
    "ff02::1 ff0e::1 fec0::1 fc00::1 fd00::1 fe80::1 100::1 200::1 5f00::1 4000::1 2001:db8::1 3fff::1 ::8.8.8.8 "
    "::ffff:0:8.8.8.8 ::ffff:224.0.0.1 64:ff9b::224.0.0.1 64:ff9b::f000:1 2002:e000:1:: 2002:f000:1::".split(),
)
def test_addresses_that_are_not_of_one_machine_on_the_internet(address):
    assert not addresses.is_public(address)


def test_public_addresses():
    for address in "8.8.8.8 2606:4700::1111 64:ff9b::8.8.8.8 2002:808:808::1 ::ffff:8.8.8.8 2a00:1450::1".split():
        assert addresses.is_public(address), address


def test_one_server_of_several_addresses():
    for address in "8.8.8.8 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2002:808:808:5::9".split():
        assert addresses.server(address) == "8.8.8.8"
    assert addresses.server("2606:4700:0::1111") == addresses.server("2606:4700::1111") == "2606:4700::1111"
    assert addresses.server("fe80::1%eth0") == "fe80::1"


def test_sockets_are_counted_while_they_are_open():
    sockets = addresses.Sockets(private=False)

    def of(address):
        return socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)

    first, second = sockets.make(of("8.8.8.8")), sockets.make(of("8.8.8.8"))
    third = sockets.make(of("8.8.4.4"))
    assert sockets.open == Counter({"8.8.8.8": 2, "8.8.4.4": 1})
    with pytest.raises(OSError, match="127.0.0.1 is no public address"):
        sockets.make(of("127.0.0.1"))
    third.close()
    second.close()
    second.close()
    assert dict(sockets.open) == {"8.8.8.8": 1}
    first.close()
    assert not sockets.open
