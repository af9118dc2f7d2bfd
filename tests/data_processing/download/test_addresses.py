"""Which addresses are of the internet."""

import pytest

from data_processing.download import addresses


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
