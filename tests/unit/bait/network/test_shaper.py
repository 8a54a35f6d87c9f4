"""network/shaper.py with real packets: two guests and the node itself, each a network of its own.
The node's ends of veth pairs have the names of taps.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest

from bait import metrics
from bait.ledger.records import Row
from bait.network.cards import Taps, guests
from bait.network.shaper import Shaper, trouble
from bait.network.shaping import back_of
from tests.unit.bait.conftest import an_order
from tests.unit.bait.network.conftest import enter_new_network
from tests.unit.conftest import needs_root
from wnodes_lrms.config.load import Bait, Config, Network, Offer
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic
from wnodes_lrms.run import run

pytestmark = [needs_root, pytest.mark.integration]

ADDRESS = {"node": "10.77.0.1", "one": "10.77.0.2", "two": "10.77.0.3"}
LIMITED, OTHER = "52:54:00:00:00:02", "52:54:00:00:00:03"
PORT = "5001"
TAKE = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
link, _ = server.accept()
store = bytearray(1 << 16)
while link.recv_into(store):
    pass
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as link:
    try:
        while True:
            link.sendall(bytes(1 << 16))
    except OSError:
        pass
"""
_T = TypeVar("_T")


class Place:
    """A node with two guests on a bridge of its own; the bait is on a thread in its network."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.threads = {
            name: stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix=name))
            for name in ADDRESS
        }
        self.tasks = {name: self.call(name, self._enter) for name in ADDRESS}
        self.nic = Nic(id=UUID(int=1), kind="bridge", network="lan", mac=LIMITED)
        taps = Taps.of("box", "hv1")
        self.tap = taps.other_card(self.nic).tap
        other = self.nic.model_copy(update={"mac": OTHER})
        self.config = Config(
            cluster="box",
            lrms="slurm",
            bait=Bait(run_dir=str(folder)),
            network=Network(unshaped="refuse"),
        )
        self.offer = Offer(name="lan", bridge="br0")
        self.shaper = Shaper(self.config, "hv1", lambda: [self.row])
        self.ip("node", "link add br0 type bridge")
        for name, tap in (("one", self.tap), ("two", taps.other_card(other).tap)):
            self.ip("node", f"link add {tap} type veth peer name eth0 netns {self.tasks[name]}")
            self.ip("node", f"link set {tap} master br0 up")
            self.ip(name, "link set eth0 up")
            self.ip(name, f"address add {ADDRESS[name]}/24 dev eth0")
        self.ip("node", f"address add {ADDRESS['node']}/24 dev br0")
        self.ip("node", "link set br0 up")

    def _enter(self) -> int:
        enter_new_network()
        run(["ip", "link", "set", "lo", "up"], deadline=5)
        return threading.get_native_id()

    @property
    def row(self) -> Row:
        spec = an_order(nics=(self.nic,)).model_dump_json(exclude_defaults=True)
        return Row("vm", "8", 0, State.READY, 0.0, kind=Kind.CLOUD, spec=spec)

    def call(self, where: str, function: Callable[[], _T]) -> _T:
        return self.threads[where].submit(function).result(120)

    def ip(self, where: str, line: str) -> None:
        self.call(where, lambda: run(["ip", *line.split()], deadline=5))

    def limit(self, inbound: int | None, outbound: int | None) -> None:
        """Another order for the card, as a bridge asks for it."""
        self.nic = self.nic.model_copy(update={"inbound": inbound, "outbound": outbound})
        self.call("node", self.shaper.keep)

    def keep(self) -> None:
        self.call("node", self.shaper.keep)

    def tc(self, line: str) -> Any:
        argv = ["tc", "-json", *line.split()]
        return json.loads(self.call("node", lambda: run(argv, deadline=5)) or "[]")

    def devices(self) -> set[str]:
        argv = ["ip", "-json", "link", "show", "type", "ifb"]
        said = self.call("node", lambda: run(argv, deadline=5))
        return {each["ifname"] for each in json.loads(said) if each}

    def received(self, where: str) -> tuple[float, int]:
        """When it was looked, and the bytes that had arrived by then."""

        def look() -> tuple[float, int]:
            text = Path(f"/proc/self/task/{threading.get_native_id()}/net/dev").read_text()
            link = "br0" if where == "node" else "eth0"
            [line] = [each for each in text.splitlines() if each.strip().startswith(f"{link}:")]
            return time.monotonic(), int(line.partition(":")[2].split()[0])

        return self.call(where, look)

    @contextmanager
    def sending(self, source: str, target: str) -> Iterator[None]:
        """A TCP connection that carries what it can."""

        def start(*argv: str) -> subprocess.Popen[str]:
            whole = [sys.executable, "-c", *argv, ADDRESS[target], PORT]
            return subprocess.Popen(whole, stdout=subprocess.PIPE, text=True)

        with self.call(target, lambda: start(TAKE)) as taker:
            assert taker.stdout
            taker.stdout.readline()
            with self.call(source, lambda: start(SEND)) as sender:
                try:
                    yield
                finally:
                    sender.kill()
                    taker.kill()

    def arriving(self, target: str, rate: int) -> float:
        """Mbit/s that arrive, over some seconds once the first burst is through."""
        _, before = self.received(target)
        begun, count = self.received(target)
        while count < before + rate * 60_000:  # half a second's
            time.sleep(0.05)
            begun, count = self.received(target)
        time.sleep(2.5)
        end, total = self.received(target)
        return (total - count) * 8 / (end - begun) / 1e6


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


@pytest.mark.parametrize("rate", [1, 10, 100])
def test_what_arrives_is_what_was_asked_for(place: Place, rate: int) -> None:
    place.limit(rate, rate)
    for source, target in (("one", "two"), ("two", "one"), ("one", "node"), ("node", "one")):
        with place.sending(source, target):
            seen = [place.arriving(target, rate)]
            while seen[-1] < 0.9 * rate and len(seen) < 20:  # the sender may not get to run
                seen.append(place.arriving(target, rate))
            assert seen[-1] >= 0.9 * rate, (source, target, seen)
            assert max(seen) <= 1.1 * rate, (source, target, seen)
            flows = place.call("node", place.shaper.flows)[place.tap]
    assert flows.inbound
    assert flows.outbound
    assert (flows.inbound.limit, flows.outbound.limit) == (rate, rate)
    assert flows.inbound.passing > 0
    for flow in (flows.inbound, flows.outbound):
        assert flow.passed > 4 * rate * 125_000


def test_each_way_has_its_own_limit_and_others_have_none(place: Place) -> None:
    def free(source: str, target: str) -> bool:
        """Whether more arrives than the limit; for that the sender may have to be waited for."""
        with place.sending(source, target):
            return any(place.arriving(target, 4) > 6 for _ in range(20))

    def held(source: str, target: str) -> bool:
        with place.sending(source, target):
            return place.arriving(target, 4) < 4.4

    place.limit(4, None)
    assert held("two", "one")
    assert free("one", "two")
    assert free("node", "two")
    place.limit(None, 4)
    assert free("two", "one")
    assert held("one", "two")
    place.limit(None, None)
    assert place.call("node", place.shaper.flows) == {}


@pytest.mark.parametrize(
    "harm",
    [
        "tc qdisc del dev TAP root",
        "tc qdisc replace dev TAP root tbf rate 900mbit burst 1000000 latency 100ms",
        "tc qdisc del dev TAP ingress",
        "tc filter del dev TAP ingress",
        "ip link delete BACK",
        "ip link set BACK down",
        "tc qdisc del dev BACK root",
    ],
)
def test_what_somebody_has_changed_is_limited_again(
    place: Place, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.limit(4, 5)
    assert not caplog.records
    line = harm.replace("TAP", place.tap).replace("BACK", back_of(place.tap))
    place.call("node", lambda: run(line.split(), deadline=5))
    place.keep()
    place.keep()
    assert [record.getMessage() for record in caplog.records] == [
        f"somebody has changed the throughput of card {place.tap}: limited again"
    ]
    [flows] = place.call("node", place.shaper.flows).values()
    assert (flows.limits.inbound, flows.limits.outbound) == (4, 5)


def test_a_rate_that_is_right_is_left_alone(place: Place) -> None:
    place.limit(4, 5)
    before = place.tc("qdisc show"), place.tc(f"filter show dev {place.tap} ingress")
    place.keep()
    assert before == (place.tc("qdisc show"), place.tc(f"filter show dev {place.tap} ingress"))


def test_while_nothing_changes_no_program_is_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have something to tell of new links for a second or so."""
    ran: list[str] = []

    def noting(argv: list[str], **options: Any) -> str:
        ran.append(argv[0])
        return run(argv, **options)

    monkeypatch.setattr("bait.network.shaper.run", noting)
    place.limit(4, 5)
    assert set(ran) == {"ip", "tc"}
    for _ in range(600):
        if ran:
            ran.clear()
            time.sleep(0.1)
            place.keep()
    assert not ran


def test_an_ifb_device_that_does_not_go_is_tried_again_though_nothing_changes(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.limit(4, 5)
    place.ip("node", f"link delete {place.tap}")

    def refuse(argv: list[str], **options: Any) -> str:
        if argv[:3] == ["ip", "link", "delete"]:
            raise WnodesError("ip: busy")
        return run(argv, **options)

    with monkeypatch.context() as patch:
        patch.setattr("bait.network.shaper.run", refuse)
        for _ in range(3):
            place.keep()
    assert [record.getMessage() for record in caplog.records] == ["ip: busy"] * 3
    place.keep()
    assert place.devices() == set()


def test_the_next_bait_takes_over_what_it_finds(place: Place) -> None:
    place.limit(4, 5)
    before = place.tc("qdisc show")
    place.shaper = Shaper(place.config, "hv1", lambda: [place.row])
    place.keep()
    assert place.tc("qdisc show") == before


@pytest.mark.parametrize(("inbound", "outbound"), [(4, None), (None, 5), (4, 5)])
def test_the_next_bait_takes_away_what_is_wanted_no_more(
    place: Place, inbound: int | None, outbound: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """As after the site has given up a limit, which the bait reads when it starts."""
    place.limit(inbound, outbound)
    place.nic = place.nic.model_copy(update={"inbound": None, "outbound": None})
    place.shaper = Shaper(place.config, "hv1", lambda: [place.row])
    place.keep()
    kinds = {each["kind"] for each in place.tc(f"qdisc show dev {place.tap}")}
    assert kinds.isdisjoint({"tbf", "ingress"})
    place.keep()
    assert not caplog.records


def test_the_next_bait_puts_another_limit_in_the_place_of_the_old(place: Place) -> None:
    place.limit(4, 5)
    place.nic = place.nic.model_copy(update={"inbound": None, "outbound": 6})
    place.shaper = Shaper(place.config, "hv1", lambda: [place.row])
    place.keep()
    [flows] = place.call("node", place.shaper.flows).values()
    assert (flows.limits.inbound, flows.limits.outbound) == (None, 6)


def test_a_card_of_another_node_keeps_its_limit_when_a_bait_starts(place: Place) -> None:
    other = Taps.of("box", "hv2").other_card(place.nic).tap
    place.ip("node", f"link add {other} type ifb")
    bucket = "root tbf rate 9mbit burst 15000 latency 100ms"
    argv = ["tc", "qdisc", "add", "dev", other, *bucket.split()]
    place.call("node", lambda: run(argv, deadline=5))
    place.keep()
    assert [each["kind"] for each in place.tc(f"qdisc show dev {other}")] == ["tbf"]


def test_one_card_that_can_not_be_limited_keeps_no_other_out(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.call("node", lambda: run(["tc", "qdisc", "add", "dev", place.tap, "clsact"], deadline=5))
    nic = Nic(id=UUID(int=2), kind="bridge", network="lan", mac=OTHER, outbound=7)
    spec = an_order(nics=(nic,)).model_dump_json(exclude_defaults=True)
    other = Row("other", "9", 0, State.READY, 0.0, kind=Kind.CLOUD, spec=spec)
    place.shaper = Shaper(place.config, "hv1", lambda: [place.row, other])
    place.limit(4, 5)
    place.keep()
    found = place.call("node", place.shaper.flows)
    assert found[Taps.of("box", "hv1").other_card(nic).tap].limits.outbound == 7
    assert (found[place.tap].limits.inbound, found[place.tap].limits.outbound) == (4, None)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("throughput is not limited as it should be: tc: ")


def test_nothing_is_left_of_a_card_that_has_gone(place: Place) -> None:
    place.limit(4, 5)
    assert place.devices() == {back_of(place.tap)}
    place.ip("node", f"link delete {place.tap}")
    place.call("node", place.shaper.sweep)
    assert place.devices() == set()


def test_a_card_of_another_node_on_the_same_host_is_left_alone(place: Place) -> None:
    other = back_of(Taps.of("box", "hv2").other_card(place.nic).tap)
    place.ip("node", f"link add {other} type ifb")
    place.limit(4, 5)
    place.call("node", place.shaper.sweep)
    assert other in place.devices()


def test_the_nodes_own_limit_holds_whatever_an_order_says(place: Place) -> None:
    offer = place.offer.model_copy(update={"throughput": 3})
    config = place.config.model_copy(
        update={"cloud": place.config.cloud.model_copy(update={"network": (offer,)})}
    )
    place.shaper = Shaper(config, "hv1", lambda: [place.row])
    place.limit(50, None)
    [flows] = place.call("node", place.shaper.flows).values()
    assert (flows.limits.inbound, flows.limits.outbound) == (3, 3)


@pytest.mark.usefixtures("no_tc")
@pytest.mark.parametrize("unshaped", ["refuse", "warn"])
def test_a_node_that_can_not_limit_refuses_or_warns(
    place: Place, unshaped: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network.model_validate({"unshaped": unshaped})
    config = place.config.model_copy(update={"network": network})
    shaper = place.shaper = Shaper(config, "hv1", lambda: [place.row])
    place.call("node", lambda: shaper.vet([place.tap]))  # it is not limited
    place.nic = place.nic.model_copy(update={"inbound": 5})
    if unshaped == "refuse":
        with pytest.raises(WnodesError, match="limit the throughput of a VM"):
            place.call("node", lambda: shaper.vet([place.tap]))
        assert place.devices() == set()
        return
    place.call("node", lambda: shaper.vet([place.tap]))
    for _ in range(2):
        place.call("node", shaper.keep)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("throughput is not limited as it should be: tc: ")


@pytest.fixture
def no_tc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tc of a kernel without token buckets."""
    program = tmp_path / "bin" / "tc"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$*" in *show*) exec /sbin/tc "$@";; esac\n'
        'echo "Error: Specified qdisc kind is unknown." >&2\nexit 2\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")


def test_this_kernel_can_and_to_try_leaves_nothing(place: Place) -> None:
    assert trouble() == ""
    probe = f"{Taps.of('box', 'hv1').own}probe"
    place.ip("node", f"link add {back_of(probe)} type ifb")  # of a bait that was killed
    place.call("node", place.shaper.need)
    assert place.devices() == set()


def test_metrics_have_what_a_card_carries(place: Place) -> None:
    place.limit(4, 5)
    with place.sending("one", "two"):
        place.arriving("two", 5)
        flows = place.call("node", place.shaper.flows)
    text = metrics.text({}, {("vm", place.tap): flows[place.tap]}).decode()
    labels = f'card="{place.tap}",direction="outbound",machine="vm"'
    assert f"wnodes_card_limit_bits_per_second{{{labels}}} 5e+06" in text
    values = {
        line.partition("{")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if labels in line
    }
    assert values["wnodes_card_bytes_total"] > 2 * 5 * 125_000
    assert values["wnodes_card_bits_per_second"] > 0
    assert "wnodes_card_dropped_packets_total" in values


def test_a_card_on_the_nodes_own_network_follows_from_its_address() -> None:
    row = Row("vm", "8", 0, State.READY, 0.0, address="192.168.190.2", inbound=7)
    [card] = guests([row], Taps.of("box", "hv1"))
    assert (card.own, card.rates.inbound, card.rates.outbound) == (True, 7, None)
