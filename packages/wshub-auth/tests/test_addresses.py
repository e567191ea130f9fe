"""The address of a client, without its port."""

import pytest

from wshub_auth import client_address
from wshub_core import Request


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("192.0.2.1:5000", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::]:1", "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.1]:5000", "192.0.2.1"),
        ("[fe80::1%eth0]:5000", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv4_client_is_its_host_and_an_ipv6_client_its_64_bit_network(
    remote: str, expected: str
) -> None:
    assert client_address(Request("GET", "/", remote_address=remote)) == expected
