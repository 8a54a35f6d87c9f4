"""Volumes of a cloud user's VMs: they come and go, grow, are copied, and go on to other nodes."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.site import Box
from tests.e2e.box import GOOD, call, has_agent, machines, variant, wait_until
from tests.e2e.lrms.interface import Submit
from tests.e2e.occi import (
    OWN,
    Cloud,
    Key,
    Machine,
    disk,
    interface,
    public,
)

SITE = Path(os.environ["WNODES_SITE"])


def test_a_volume_comes_and_goes_while_the_machine_runs(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
    assert "vdc" not in machine.ssh("cat /proc/partitions")

    def link() -> str:
        ends = {"occi.core.source": machine.path, "occi.core.target": volume}
        return alice.create("storagelink", {"attributes": ends})

    def partitions() -> str:
        return machine.ssh("cat /proc/partitions")

    def seen(wanted: bool) -> None:
        size = r"\b(1048576|2097152) vd[c-z]\b"
        wait_until(lambda: bool(re.search(size, partitions())) is wanted, 30, f"seen: {wanted}")

    def is_online(path: str) -> bool:
        return str(alice.get(path)["attributes"]["occi.storage.state"]) == "online"

    first = link()
    seen(True)
    shown = alice.get(first)["attributes"]
    assert shown["occi.storagelink.state"] == "active"
    assert alice.ask("POST", volume, {"attributes": {"occi.storage.size": 2}}).status_code == 200
    wait_until(
        lambda: re.search(r"\b2097152 vd[c-z]\b", partitions()),
        30,
        "its guest sees it grow",
    )
    assert alice.ask("POST", volume, {"attributes": {"occi.storage.size": 1}}).status_code == 400
    device = str(shown["occi.storagelink.deviceid"])
    for name in ("vda", device.removeprefix("/dev/")):  # as the site's configuration has it
        limits = call("virsh", "blkdeviotune", machine.id, name)
        assert re.search(r"total_iops_sec *: 5000\n", limits)
    machine.ssh(f"echo on the volume > {device if device[0] == '/' else '/dev/' + device}; sync")
    wait_until(lambda: has_agent(machine.id), 60, "its agent has the port open")
    machine.ssh("kill -STOP $(pidof qemu-ga)")  # it will not answer
    alice.act(volume, "snapshot", name="copy")
    (copied,) = {*alice.locations("/storage/")} - {volume}
    wait_until(lambda: is_online(copied), 120, "the copy is made")
    machine.ssh("kill -CONT $(pidof qemu-ga)")
    assert alice.ask("DELETE", volume).status_code == 409  # not while it is in a machine
    assert alice.ask("DELETE", first).status_code == 200
    seen(False)
    wait_until(lambda: alice.ask("GET", first).status_code == 404, 30, "it is out")
    link()
    seen(True)
    assert "on the volume" in machine.ssh("head -c 20 /dev/vd[c-z]")
    has = alice.get(copied)["attributes"]
    assert has["wnodes.copy.consistency"] == "crash"
    (path,) = (SITE / "spool" / "volumes").glob(f"{copied.rpartition('/')[2]}.raw")
    assert path.stat().st_size == 2 << 30
    with path.open("rb") as file:
        assert file.read(13) == b"on the volume"
    machine.act("stop", method="poweroff")
    machine.wait("inactive")
    machine.act("start")
    machine.wait("active")
    seen(True)
    machine.delete()
    wait_until(lambda: alice.ask("DELETE", volume).status_code == 200, 20, "the volume is free")
    assert alice.ask("GET", volume).status_code == 404
    alice.delete(copied)


def test_a_guest_that_never_lets_go_of_its_volume(
    alice: Cloud, key: Key, daemons: Box, submit: Submit
) -> None:
    """Its kernel has no driver for devices that come and go, and its bait dies in between. The
    volume goes on to a VM of the other node, and what was written is there."""
    state, said = "occi.storagelink.state", "occi.storagelink.state.message"
    volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
    with variant("deaf_debian_x86_64", cmdline=f"{GOOD.cmdline} acpiphp.disable=1"):
        links = [interface(public(alice)), disk(volume)]
        image = f"{OWN}os_tpl#deaf_debian_x86_64"
        time.sleep(3)  # each process of the bridge looks at the catalogue every two seconds
        wait_until(lambda: "deaf_debian" in alice.ask("GET", "/-/").text, 20, "it is offered")
        machine = alice.machine(image, "medium", key=key, links=links)  # all cores of its node
        machine.wait("active")
        (old,) = alice.locations("/storagelink/")
        serial = str(alice.get(old)["attributes"]["wnodes.storagelink.serial"])
        found = machine.ssh(f"grep -l {serial} /sys/block/*/serial", seconds=120)
        device = found.split("/")[3]
        machine.ssh(f"echo on the volume >/dev/{device}; sync")
        assert alice.ask("DELETE", old).status_code == 200

        def shown() -> str:
            link = alice.get(old)["attributes"]
            assert link[state] == "inactive"
            return str(link[said])

        wait_until(lambda: "has not yet" in shown(), 60, "its user is told")
        other = alice.machine(key=key, links=[interface(public(alice)), disk(volume)])
        machine.ssh(f"echo still >/dev/{device}; sync")
        assert other.state == "inactive"
        assert "waiting for a volume" in other.message
        node = machines()[0]["node"]
        with daemons.down(f"bait-{node}"):
            pass
        assert "detaching" in shown()
        submit("sleep 600", f"--nodelist={node}", "--exclusive", image=None)  # next on that node
        machine.act("stop", method="poweroff")
        machine.wait("inactive")
        wait_until(lambda: alice.ask("GET", old).status_code == 404, 30, "it is out")
    other.wait("active")
    assert len({each["node"] for each in machines()}) == 2
    (new,) = alice.locations("/storagelink/")
    where = other.ssh(f"grep -l {serial} /sys/block/*/serial", seconds=120).split("/")[3]
    assert other.ssh(f"head -c 5 /dev/{where}") == "still"
    assert alice.ask("DELETE", new).status_code == 200
    wait_until(lambda: alice.ask("GET", new).status_code == 404, 30, "the guest has let go")
    for each in (machine, other):
        each.delete()
    alice.delete(volume)


@pytest.fixture
def apart(daemons: Box) -> Iterator[list[Path]]:
    """Each node keeps volumes for itself: their folders."""
    config, spool = SITE / "etc" / "wnodes.toml", SITE / "spool"
    before = config.read_text()
    own = f'volumes = "{spool}/%n/volumes"\npool = {{ shared = false }}\n'
    changed = before.replace(f'volumes = "{spool}/volumes"\n', own)
    assert changed != before
    folders = [spool / node / "volumes" for node in ("hv1", "hv2")]
    for folder in folders:
        folder.parent.mkdir(exist_ok=True)
        folder.parent.chmod(0o711)  # QEMU passes through

    def restart(text: str) -> None:
        config.write_text(text)
        for node in ("hv1", "hv2"):
            daemons.again(f"bait-{node}")

    restart(changed)
    yield folders
    wait_until(lambda: not any([*f.glob("*.raw")] for f in folders), 60, "no volume is left")
    restart(before)
    for folder in folders:
        shutil.rmtree(folder.parent)


def test_a_volume_that_its_node_keeps_for_itself(
    apart: list[Path], alice: Cloud, key: Key, submit: Submit
) -> None:
    """It is made with the first VM, and the next one goes where it is, whatever is free."""
    first_node, other_node = apart
    busy = submit("sleep 600", "--nodelist=hv1", "--exclusive", image=None)
    wait_until(lambda: busy.state == "RUNNING", 60, "hv1 is busy")
    volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
    file = f"{volume.rpartition('/')[2]}.raw"
    links = [interface(public(alice)), disk(volume)]
    first = alice.machine(key=key, links=links).wait("active")
    assert (other_node / file).exists()
    assert not (first_node / file).exists()
    (link,) = alice.locations("/storagelink/")
    serial = str(alice.get(link)["attributes"]["wnodes.storagelink.serial"])

    def device(machine: Machine) -> str:
        return "/dev/" + machine.ssh(f"grep -l {serial} /sys/block/*/serial").split("/")[3]

    first.ssh(f"echo on the volume >{device(first)}; sync")
    first.delete()
    busy.cancel()
    second = alice.machine(key=key, links=links).wait("active")
    assert [each["node"] for each in machines() if each["id"] == second.id] == ["hv2"]
    assert second.ssh(f"head -c 13 {device(second)}") == "on the volume"
    second.delete()
    alice.delete(volume)
