"""What an administrator writes into `[network] open`."""

from ipaddress import IPv4Network

import pytest

from wnodes_lrms.opening import Opening, opening


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node:3128/tcp", Opening(None, 3128, "tcp")),
        ("10.0.0.5:2049/tcp", Opening(IPv4Network("10.0.0.5/32"), 2049, "tcp")),
        ("10.1.0.0/16:53/udp", Opening(IPv4Network("10.1.0.0/16"), 53, "udp")),
        ("10.1.0.0/16", Opening(IPv4Network("10.1.0.0/16"))),
        ("10.0.0.5", Opening(IPv4Network("10.0.0.5/32"))),
    ],
)
def test_what_can_be_opened(text: str, expected: Opening) -> None:
    assert opening(text) == expected
    assert expected.is_host == (expected.network is None or expected.network.prefixlen == 32)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not of the form"),
        ("node", "single services"),
        ("node:0/tcp", "no port 0"),
        ("node:65536/tcp", "no port 65536"),
        ("node:22", "is not of the form"),
        ("node:22/icmp", "is not of the form"),
        ("node:22/tcp; drop", "is not of the form"),
        ("10.0.0.5/16", "has host bits set"),
        ("nfs.example.org:2049/tcp", "nfs.example.org"),
        ("10.0.0.0/8 accept", "10.0.0.0/8 accept"),
        ("fd00::1", "is not of the form"),
        ("node:\N{FULLWIDTH DIGIT TWO}2/tcp", "is not of the form"),
    ],
)
def test_what_can_not(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        opening(text)
