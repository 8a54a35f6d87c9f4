"""Ends of tunnels: one text each, and whose they may be."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from pydantic import ValidationError

from wnodes_lrms.tunnel import Tunnel, another, split


@pytest.mark.parametrize(
    "end",
    [
        "10.1.0.3:04789",
        "10.1.0.3:0",
        "10.1.0.3:65536",
        "10.1.0.3:+4789",
        "10.1.0.3: 4789",
        "10.1.0.3:4789\n",
        "10.1.0.03:4789",
        "10.1.0.3",
    ],
)
def test_what_is_no_end(end: str) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        split(end)
    with pytest.raises(ValidationError):
        Tunnel(vni=1, ends={end: ()})


def test_an_end() -> None:
    assert split("10.1.0.3:65535") == (IPv4Address("10.1.0.3"), 65535)


def test_nodes_of_one_host_differ_in_the_port() -> None:
    loopback = IPv4Network("127.0.0.0/8")
    assert another("127.0.0.1:47892", "127.0.0.1:47891", loopback)
    assert not another("127.0.0.1:47891", "127.0.0.1:47891", loopback)
    assert not another("10.1.0.3:47891", "127.0.0.1:47891", loopback)


def test_of_two_hosts_each_may_be_another() -> None:
    assert another("10.1.0.1:4789", "10.1.0.0:4789", IPv4Network("10.1.0.0/31"))
