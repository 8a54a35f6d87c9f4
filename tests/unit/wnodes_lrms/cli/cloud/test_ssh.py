"""The command line of ssh into a VM."""

from pathlib import Path

import pytest

from wnodes_lrms.cli.cloud.ssh import arguments
from wnodes_lrms.errors import RejectedError


def test_a_login() -> None:
    vm = {"id": "0b5f", "address": "192.0.2.7"}
    argv = arguments(vm, "root", Path("/k"), ["uname", "-a"], {"XDG_CONFIG_HOME": "/c d"})
    assert argv[:5] == [
        "ssh",
        "-o",
        "HostKeyAlias=wnodes-0b5f",
        "-o",
        'UserKnownHostsFile="/c d/wnodes/known_hosts"',
    ]
    assert argv[-8:] == ["-i", "/k", "-l", "root", "--", "192.0.2.7", "uname", "-a"]


def test_an_ipv6_address() -> None:
    argv = arguments({"id": "0b5f", "address": "2001:db8::7"}, "root", None, (), {"HOME": "/h"})
    assert argv[-2:] == ["--", "2001:db8::7"]


@pytest.mark.parametrize(
    "vm",
    [
        {"id": "0b5f", "address": "-oProxyCommand=evil"},
        {"id": "0b5f", "address": ""},
        {"id": "0b5f", "address": "host.example.org"},
        {"id": "0b5f", "address": "fe80::1%eth0"},
        {"id": "0b5f", "address": "fe80::1%\x1b]0;x\x07$(id>&2)"},
        {"id": "x\nProxyCommand evil", "address": "192.0.2.7"},
        {"id": "-x", "address": "192.0.2.7"},
    ],
)
def test_a_service_can_not_choose_what_ssh_does(vm: dict[str, str]) -> None:
    with pytest.raises(RejectedError):
        arguments(vm, "root", None, (), {"XDG_CONFIG_HOME": "/c"})
