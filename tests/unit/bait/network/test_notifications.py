"""What the kernel tells, in a network of the test's own: each change that looks are about."""

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from bait.network import notifications
from bait.network.notifications import Notifications, Topic
from tests.unit.conftest import needs_root
from wnodes_lrms.run import run

REDIRECT = "u32 match u32 0 0 action mirred egress redirect dev"
RULES = "{ type filter hook prerouting priority 0; }"
# Each as it is made, and then changed by somebody.
CHANGES = {
    Topic.SURROUNDINGS: (
        "ip link add one type veth peer name two",
        "ip link set one up",
        "ip address add 10.1.0.2/24 dev one",
        "ip route add 10.5.0.0/16 dev one",
        "ip route replace 10.5.0.0/16 dev one mtu 900",
        "ip route delete 10.5.0.0/16",
        "ip route add default via 10.1.0.1 dev one",
        "ip address delete 10.1.0.2/24 dev one",
        "ip address add 10.1.0.3/24 dev one",
        "ip link set one down",  # the routes go with it
        "ip link delete one",
    ),
    Topic.THROUGHPUT: (
        "ip link add one type veth peer name two",
        "ip link set one up",
        "tc qdisc replace dev one root tbf rate 1mbit burst 15000 latency 100ms",
        "tc qdisc replace dev one root tbf rate 2mbit burst 15000 latency 100ms",
        "tc qdisc replace dev one ingress",
        f"tc filter replace dev one ingress protocol all prio 1 handle 800::800 {REDIRECT} two",
        f"tc filter replace dev one ingress protocol all prio 1 handle 800::800 {REDIRECT} lo",
        "tc actions change action mirred egress redirect dev two index 2",
        "tc filter delete dev one ingress",
        "tc qdisc delete dev one ingress",
        "tc qdisc delete dev one root",
        "ip link delete one",
    ),
    Topic.NFTABLES: (
        "nft add table bridge ours",
        f"nft add chain bridge ours guard '{RULES}'",
        "nft add rule bridge ours guard drop",
        "nft add set bridge ours cards '{ type ifname; }'",
        "nft add element bridge ours cards '{ one }'",
        "nft delete element bridge ours cards '{ one }'",
        "nft insert rule bridge ours guard accept",
        "nft flush chain bridge ours guard",
        "nft add counter bridge ours dropped",
        "nft flush ruleset",
    ),
}


@needs_root
@pytest.mark.integration
@pytest.mark.parametrize("topic", Topic)
def test_each_change_is_told(apart: Callable[..., Any], topic: Topic) -> None:
    def changes() -> list[str]:
        """Those of which nothing was told."""
        news, missed = Notifications(topic), []
        assert news.came()
        for line in CHANGES[topic]:
            run(shlex.split(line), deadline=60)
            if not news.came():
                missed.append(line)
        return missed

    assert apart(changes) == []


@needs_root
@pytest.mark.parametrize("topic", Topic)
def test_where_nothing_changes_there_is_no_news_for_a_while(
    apart: Callable[..., Any], topic: Topic
) -> None:
    def rest() -> list[bool]:
        now = 0.0
        news = Notifications(topic, clock=lambda: now)
        told = [news.came() for _ in range(3)]
        now = notifications.LONGEST
        return [*told, news.came(), news.came()]

    assert apart(rest) == [True, False, False, True, False]


@needs_root
@pytest.mark.integration
def test_more_news_than_a_socket_holds_is_news(apart: Callable[..., Any]) -> None:
    def flood() -> list[bool]:
        news = Notifications(Topic.NFTABLES)
        news.came()
        for _ in range(20):
            run(["nft", "add table inet many; delete table inet many"], deadline=60)
        return [news.came(), news.came()]

    assert apart(flood) == [True, False]


def test_where_the_kernel_can_not_be_heard_there_is_always_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unheard = Notifications(Topic.NFTABLES)

    def refuse(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr("socket.socket", refuse)
    assert [unheard.came() for _ in range(3)] == [True] * 3
