"""What a VM's card may carry: asked for over OCCI, and measured on what arrives."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contrib.site.box.layout import NODES
from tests.chaos.site import Box
from tests.e2e import counted
from tests.e2e.box import wait_until
from tests.e2e.occi import INFRA, OWN, Cloud, Key, Machine

MIXIN = f"{OWN}networkinterface#throughput"
OUT = "wnodes.throughput.outbound"
SECONDS = 5.0  # for which is counted


def card(network: str, **asked: int) -> dict[str, Any]:
    """A card as part of a request for a VM; asked for in Mbit/s."""
    given = {f"wnodes.throughput.{way}": rate for way, rate in asked.items()}
    target = {"location": f"/network/{network}", "kind": f"{INFRA}#network"}
    kind = f"{INFRA}#networkinterface"
    return {"kind": kind, "mixins": [MIXIN], "target": target, "attributes": given}


def link(machine: Machine, network: str) -> dict[str, Any]:
    """The VM's link to a network."""
    links = machine.cloud.get(machine.path)["links"]
    [found] = [each for each in links if each["target"]["location"].endswith(f"/{network}")]
    return dict(found)


def tap_of(machine: Machine, network: str) -> str:
    """The node's end of the VM's card on a network."""
    mac = link(machine, network)["attributes"]["occi.networkinterface.mac"].replace(":", "")
    taps = (each.name for each in Path("/sys/class/net").glob("w[gl]*"))
    [tap] = [tap for tap in taps if mac.endswith(tap[6:])]
    return tap


def sent(device: str) -> Callable[[], int]:
    """Counts the bytes that have left the queue of a device."""
    counter = Path("/sys/class/net", device, "statistics", "tx_bytes")
    return lambda: int(counter.read_text())


def rate(count: Callable[[], int]) -> float:
    """Mbit/s."""
    begun, before = time.monotonic(), count()
    time.sleep(SECONDS)
    now, after = time.monotonic(), count()
    return (after - before) * 8 / (now - begun) / 1e6


def near(wanted: float, count: Callable[[], int]) -> None:
    """Wait until what passes is within 10 % of what was asked for; it is never more."""
    seen: list[float] = []

    def right() -> bool:
        seen.append(rate(count))
        return seen[-1] >= 0.9 * wanted

    try:
        wait_until(right, 60, f"{wanted} Mbit/s")
    except AssertionError as error:
        raise AssertionError(f"{wanted} Mbit/s, but {seen}") from error
    assert max(seen) <= 1.1 * wanted, seen


def shell(machine: Machine, command: str, **streams: Any) -> "subprocess.Popen[bytes]":
    """A command in the VM that goes on, with streams of ours."""
    assert machine.key
    options = ["-F", "none", "-i", str(machine.key.path), "-o", "StrictHostKeyChecking=no"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return subprocess.Popen(["ssh", *options, f"root@{machine.address()}", command], **streams)


def test_cards_carry_what_was_asked_for(alice: Cloud, key: Key) -> None:
    one, two = (
        alice.machine(key=key, links=[card("public", **own), card("private", **both)])
        for own, both in (({"inbound": 2, "outbound": 2}, {"outbound": 2}), ({}, {}))
    )
    for each in (one, two):
        each.wait("active", 120).ssh("true", seconds=180)  # on a busy machine
    there = two.address(1)

    # From a VM to another, and changed while it runs.
    two.ssh("sleep 900 2>/dev/null | nc -l -p 5000 >/dev/null 2>&1 & true")
    one.ssh(f"nc {there} 5000 </dev/zero >/dev/null 2>&1 & true")
    arrived = sent(tap_of(two, "private"))
    near(2, arrived)
    path = f"/networkinterface/{link(one, 'private')['id']}"
    changed = {"attributes": {OUT: 4}}
    assert alice.ask("POST", path, changed).status_code == 200
    near(4, arrived)
    shown = link(one, "private")["attributes"]
    assert shown[OUT] == 4
    wait_until(lambda: f"{OUT}.measured" in link(one, "private")["attributes"], 30, "it is shown")
    one.ssh("killall nc")

    # Between a VM and its node.
    tap = tap_of(one, "public")
    with shell(one, "cat /dev/zero", stdout=subprocess.DEVNULL) as sender:
        near(2, sent(f"wf{tap[1:]}"))
        sender.kill()
    with Path("/dev/zero").open("rb") as zero, shell(one, "cat >/dev/null", stdin=zero) as sender:
        near(2, sent(tap))
        sender.kill()

    # What can't be asked for changes nothing.
    for value, words in ((0, "less than 1"), ("4M", "a whole number"), (1e30, "more than 100000")):
        refused = alice.ask("POST", path, {"attributes": {OUT: value}})
        assert (refused.status_code, words in refused.text) == (400, True), value
    assert link(one, "private")["attributes"][OUT] == 4


@pytest.fixture
def gres(daemons: Box) -> Iterator[None]:
    """Slurm counts Mbit/s of each node, and users have a network where that holds."""
    before = daemons.site.slurm_conf.read_text()
    own = f" Gres={counted.CONSUMABLE}:{counted.HAS} Feature=wnodes"
    changed = before.replace(" Feature=wnodes", own)
    changed = changed.replace("NodeName=", f"GresTypes={counted.CONSUMABLE}\nNodeName=", 1)
    daemons.anew(before, changed)
    try:
        with counted.offered(daemons):
            yield
    finally:
        daemons.anew(changed, before)


@pytest.mark.usefixtures("gres")
def test_slurm_counts_what_vms_may_send(alice: Cloud) -> None:
    assert counted.third_waits(alice) == {*NODES}
