"""What tc is told, and what it says, recorded with iproute2 6.1."""

import ipaddress
import json

import pytest

from bait.network.cards import Guest
from bait.network.shaping import back_of, buckets, flows, lead, limits, links_needed, tap_of
from wnodes_lrms.config.load import Network, Offer
from wnodes_lrms.rates import UNLIMITED, Flow, Flows, Rates

TAP, BACK = "wlc863000002", "wflc863000002"
LINKS = [{"ifname": TAP, "flags": ["BROADCAST", "UP"]}, {"ifname": BACK, "flags": ["UP"]}]
QDISCS = json.loads("""[
{"kind":"noqueue","handle":"0:","dev":"br0","root":true,"refcnt":2,"options":{},"bytes":0,"packets":0,
 "drops":0,"overlimits":0,"requeues":0,"backlog":0,"qlen":0},
{"kind":"tbf","handle":"93da:","dev":"wlc863000002","root":true,"refcnt":2,"options":{"rate":2500000,
 "burst":50000,"lat":100000},"bytes":7500,"packets":6,"drops":1,"overlimits":0,"requeues":0,
 "rate":1250,"pps":1,"backlog":0,"qlen":0},
{"kind":"ingress","handle":"ffff:","dev":"wlc863000002","parent":"ffff:fff1","options":{},"bytes":223,
 "packets":15,"drops":0,"overlimits":0,"requeues":0,"backlog":0,"qlen":0},
{"kind":"tbf","handle":"93ac:","dev":"wflc863000002","root":true,"refcnt":2,"options":{"rate":12500000,
 "burst":250000,"lat":100000},"bytes":231168294,"packets":152723,"drops":458,"overlimits":13515,
 "requeues":0,"rate":11900000,"pps":7900,"backlog":0,"qlen":0}]""")
FILTERS = json.loads("""[{"protocol":"all","pref":1,"kind":"u32","chain":0},
{"protocol":"all","pref":1,"kind":"u32","chain":0,"options":{"fh":"800:","ht_divisor":1}},
{"protocol":"all","pref":1,"kind":"u32","chain":0,"options":{"fh":"800::800","order":2048,
 "key_ht":"800","bkt":"0","not_in_hw":true,"match":{"value":"0","mask":"0","offmask":"","off":0},
 "actions":[{"order":1,"kind":"mirred","mirred_action":"redirect","direction":"egress",
 "to_dev":"wflc863000002","control_action":{"type":"stolen"},"index":1,"ref":1,"bind":1}]}}]""")
INBOUND = Flow(20, passing=10_000, passed=7500, dropped=1)
OUTBOUND = Flow(100, passing=95_200_000, passed=231_168_294, dropped=458)


def test_what_tc_says_of_a_card() -> None:
    assert lead(FILTERS) == BACK
    assert flows([TAP], LINKS, QDISCS, {TAP: BACK}) == {TAP: Flows(INBOUND, OUTBOUND)}


@pytest.mark.parametrize(
    ("links", "leads"), [(LINKS[:1], {TAP: BACK}), (LINKS, {}), (LINKS, {TAP: "wflc863000003"})]
)
def test_what_does_not_come_to_its_queue_is_not_limited(
    links: list[dict[str, object]], leads: dict[str, str]
) -> None:
    found = flows([TAP], links, QDISCS, leads)[TAP]
    assert found.limits == Rates(20, None)


def test_a_card_and_its_second_device_follow_from_each_other() -> None:
    assert (back_of(TAP), tap_of(BACK)) == (BACK, TAP)
    assert len(back_of("wgc863c0a8be02")) == 15  # IFNAMSIZ, netdevice(7)


@pytest.mark.parametrize(
    ("rates", "found", "lines"),
    [
        (
            Rates(1, None),
            Flows(),
            [
                f"qdisc replace dev {TAP} root estimator 1s 8s tbf rate 1mbit burst 15000"
                " latency 100ms"
            ],
        ),
        (
            Rates(None, 100),
            Flows(INBOUND),
            [
                f"qdisc del dev {TAP} root",
                f"qdisc replace dev {BACK} root estimator 1s 8s tbf rate 100mbit burst 250000"
                " latency 100ms",
                f"qdisc replace dev {TAP} ingress",
                f"filter replace dev {TAP} ingress protocol all prio 1 handle 800::800 u32"
                f" match u32 0 0 action mirred egress redirect dev {BACK}",
            ],
        ),
        (UNLIMITED, Flows(None, OUTBOUND), [f"qdisc del dev {TAP} ingress"]),
        (UNLIMITED, Flows(), []),
    ],
)
def test_what_tc_is_told(rates: Rates, found: Flows, lines: list[str]) -> None:
    assert buckets({TAP: rates}, {TAP: found}) == lines


def test_a_second_device_is_made_where_it_is_missing() -> None:
    wanted, up = {TAP: Rates(None, 5)}, f"link set {BACK} addrgenmode none up"
    assert links_needed(wanted, []) == [f"link add {BACK} type ifb", up]
    assert links_needed(wanted, [BACK]) == [up]
    assert links_needed({TAP: Rates(5, None)}, []) == []


def test_the_nodes_own_most_holds() -> None:
    network = Network(subnet=ipaddress.IPv4Network("192.168.190.0/24"), throughput=10)
    offers = [Offer(name="lan", bridge="br0", throughput=50), Offer(name="open", bridge="br1")]
    cards = [
        Guest("own", "", None, own=True),
        Guest("lan", "", None, offer="lan", rates=Rates(5, 500)),
        Guest("open", "", None, offer="open"),
        Guest("private", "", None, rates=Rates(None, 7)),
    ]
    assert limits(cards, network, offers) == {
        "own": Rates(10, 10),
        "lan": Rates(5, 50),
        "private": Rates(None, 7),
    }
