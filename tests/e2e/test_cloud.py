"""A cloud user's VM: asked for over OCCI, logged into with their own key, and all they can do."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.box import call, has_agent, machines, wait_until
from tests.e2e.lrms.slurm import leases, the_lease
from tests.e2e.occi import (
    BARE_IMAGE,
    CA_DIR,
    INFRA,
    OWN,
    SMALL_IMAGE,
    URL,
    Cloud,
    Key,
    Machine,
    interface,
    public,
)
from wnodes_lrms.restarts import DEAF

SITE = Path(os.environ["WNODES_SITE"])
SIX = "wnodes.networkinterface.address6"


def curl(*arguments: str, **options: str) -> str:
    """What curl says with the proxy that `site env` names."""
    proxy = os.environ["X509_USER_PROXY"]
    trust = ["--capath", CA_DIR, "--cert", proxy, "--key", proxy]
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "30", *trust, *arguments],
        capture_output=True,
        text=True,
        check=True,
        **options,  # type: ignore[call-overload]
    )
    return str(done.stdout)


def test_the_whole_way_with_curl(alice: Cloud, key: Key) -> None:
    for interface_path in ("/-/", "/.well-known/org/ogf/occi/-/"):
        shown = curl(f"{URL}{interface_path}")
        assert 'small_debian_x86_64; scheme="' in shown
        assert 'medium; scheme="' in shown
    request = f"""\
Category: compute; scheme="{INFRA}#"; class="kind"
Category: small_debian_x86_64; scheme="{OWN}os_tpl#"; class="mixin"
Category: medium; scheme="{OWN}resource_tpl#"; class="mixin"
Category: public_key; scheme="http://schemas.openstack.org/instance/credentials#"; class="mixin"
X-OCCI-Attribute: occi.core.title="by curl"
X-OCCI-Attribute: occi.compute.hostname="by-curl"
X-OCCI-Attribute: org.openstack.credentials.publickey.name="mine"
X-OCCI-Attribute: org.openstack.credentials.publickey.data="{key.public}"
"""
    plain = "Content-Type: text/plain"
    answer = curl("-i", "-H", plain, "--data-binary", "@-", f"{URL}/compute/", input=request)
    assert re.match(r"HTTP/1.1 201\b", answer)
    location = re.search(rf"X-OCCI-Location: ({URL}/compute/\S+)", answer)
    assert location
    place = location.group(1)
    assert curl("-H", "Accept: text/uri-list", f"{URL}/compute/").split() == [place]
    machine = Machine(alice, place.removeprefix(URL), key).wait("active")
    assert 'X-OCCI-Attribute: occi.compute.state="active"' in curl(place)

    disk = "grep -cE '3145728 vda$' /proc/partitions"
    facts = machine.ssh(f"nproc; hostname; uname -r; grep MemTotal /proc/meminfo; {disk}").split()
    assert facts[6] == "1"
    assert facts[:2] == ["2", "by-curl"]
    assert facts[2] != os.uname().release
    assert 400 * 1024 < int(facts[4]) <= 512 * 1024
    job = the_lease()
    assert (job.field("UserId").split("(")[0], job.field("Account")) == ("cloudpilot", "cloud")
    assert (job.field("NumCPUs"), job.field("TimeLimit")) == ("2", "02:00:00")

    deleted = curl("-i", "-X", "DELETE", place)
    assert re.match(r"HTTP/1.1 200\b", deleted)
    assert re.match(r"HTTP/1.1 404\b", curl("-i", place))
    wait_until(lambda: not machines() and not leases(), 30, "the VM is gone")


def test_accounting_shows_the_leases_wallclock_and_no_cpu(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("timeout 6 sh -c 'while :; do :; done'; true")
    job = the_lease().number
    machine.delete()
    wait_until(lambda: not leases(), 30, "the lease is over")
    columns = "User,Account,JobName,State,ElapsedRaw,TotalCPU,CPUTimeRAW"

    def record() -> list[str]:
        return call("sacct", "-X", "-n", "-P", "-j", job, f"--format={columns}").strip().split("|")

    wait_until(lambda: record()[3:4] not in ([], ["RUNNING"]), 20, f"its record: {record()}")
    user, account, name, _state, elapsed, cpu, charged = record()
    assert (user, account) == ("cloudpilot", "cloud")
    assert name.startswith("wnodes-lease-")
    assert int(elapsed) >= 6
    assert int(charged) == int(elapsed)  # one core
    minutes, _, seconds = cpu.rpartition(":")
    assert (minutes.replace("0", "").replace(":", ""), float(seconds) < 2) == ("", True), cpu


def test_stop_frees_the_lease_and_start_finds_the_disk(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("echo kept > /root/kept; sync")
    where = machines()[0]["node"]
    for method in ("graceful", "poweroff"):
        machine.act("stop", method=method)
        machine.wait("inactive")
        wait_until(lambda: not leases(), 20, "its lease is freed")
        assert not call("virsh", "list", "--name").split()
        machine.act("start")
        machine.wait("active")
        assert machine.ssh("cat /root/kept") == "kept\n"
        assert machines()[0]["node"] == where
    machine.act("start")  # what is so already is success
    assert machine.state == "active"


def test_restart(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    boots = [machine.boot_id()]
    job = the_lease().number
    for method in ("graceful", "warm", "cold"):
        machine.act("restart", method=method)

        def again() -> bool:
            done = machine.try_ssh("cat /proc/sys/kernel/random/boot_id")
            return done.returncode == 0 and done.stdout.strip() not in boots

        wait_until(again, 60, f"another boot after {method}")
        boots.append(machine.boot_id())
    machine.wait("active")
    assert the_lease().number == job


def test_a_restart_that_is_asked_for_before_the_guest_listens(alice: Cloud, key: Key) -> None:
    """Nor is its shutdown by its own user taken for a restart afterwards."""
    machine = alice.machine(key=key).wait("active")
    machine.act("restart", method="graceful")
    lease = the_lease()

    def anew() -> bool:
        if machine.message == DEAF:  # the site gives it 20 s to boot and to shut down
            machine.act("restart", method="graceful")
        said = call("wnodes", "job", "show", lease.number)
        ended = "<on_poweroff>destroy<" in call("virsh", "dumpxml", machine.id)
        return ended and "the guest has started anew" in said

    wait_until(anew, 60, "it has restarted")
    name = call("virsh", "domname", machine.id).strip()
    run = Path(os.environ["LIBVIRT_DEFAULT_URI"].partition("socket=")[2]).parent
    assert "fakereboot" not in (run / "qemu" / f"{name}.xml").read_text()
    machine.ssh("poweroff")
    machine.wait("inactive", saying="shut")
    wait_until(lambda: not leases(), 20, "its lease is freed")


def test_suspend_and_hibernate(alice: Cloud, key: Key) -> None:
    machine = alice.machine(template="medium", key=key).wait("active")
    made = call("virsh", "dumpxml", machine.id)
    assert "iothread='1'" in made
    assert "queues='2'" in made
    machine.ssh("true", 120)  # two emulated CPUs of a busy machine boot slowly
    boot = machine.boot_id()
    machine.ssh("echo in memory > /tmp/word")
    job = the_lease().number

    machine.act("suspend", method="suspend")
    machine.wait("suspended")
    assert machine.try_ssh("true").returncode == 255
    assert the_lease().number == job
    machine.act("start")
    machine.wait("active")
    assert machine.boot_id() == boot

    machine.act("suspend", method="hibernate")
    machine.wait("suspended")
    wait_until(lambda: not leases(), 30, "its lease is freed")
    machine.act("start")
    machine.wait("active")
    assert machine.boot_id() == boot
    assert machine.ssh("cat /tmp/word; nproc") == "in memory\n2\n"
    assert the_lease().number != job


def test_a_guest_that_puts_itself_to_sleep(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    job, process = the_lease().number, call("virsh", "domid", machine.id)

    def sleeps() -> None:
        machine.ssh("(sleep 1; echo mem >/sys/power/state) >/dev/null 2>&1 </dev/null &")
        machine.wait("suspended")
        message = machine.show()["occi.compute.state.message"]
        assert message == "the guest has put itself to sleep"
        assert call("virsh", "domstate", machine.id).strip() == "pmsuspended"

    sleeps()
    with pytest.raises(AssertionError, match=r"409 .*only an active one can be restarted"):
        machine.act("restart", method="graceful")
    machine.act("suspend", method="suspend")  # it stands still
    with pytest.raises(AssertionError, match=r"409 .*start it first"):
        machine.act("suspend", method="hibernate")
    machine.act("start")
    machine.wait("active")
    machine.boot_id()  # under emulation not all kernels come out of it with their memory
    sleeps()
    call("virsh", "dompmwakeup", machine.id)  # as its own clock would
    machine.wait("active")
    machine.boot_id()
    assert (call("virsh", "domid", machine.id), the_lease().number) == (process, job)
    sleeps()
    machine.act("stop")
    machine.wait("inactive")
    wait_until(lambda: not leases(), 30, "its lease is freed")


def test_a_saved_disk_is_an_image_of_its_owner(
    alice: Cloud, bob: Cloud, key: Key, tmp_path: Path
) -> None:
    raw = str(tmp_path / "saved.raw")

    def in_disk(file: str) -> str:
        """What a file of the saved disk has in it; "" where there is none."""
        return call("debugfs", "-R", f"cat {file}", raw)

    machine = alice.machine(key=key).wait("active")
    wait_until(lambda: has_agent(machine.id), 60, "its agent has the port open")
    machine.ssh("echo saved > /root/saved")  # which is in its memory alone
    host_key = "cat /etc/ssh/ssh_host_ed25519_key"
    old = machine.ssh(host_key)

    def templates(cloud: Cloud) -> set[str]:
        mixins = cloud.get("/-/")["mixins"]
        return {m["scheme"] + m["term"] for m in mixins if m["scheme"] == f"{OWN}os_tpl#"}

    before = templates(alice)
    machine.act("save", method="hot", name="mine")
    wait_until(lambda: templates(alice) - before, 60, "a new os_tpl")
    (image,) = templates(alice) - before
    assert image not in templates(bob)
    titles = {m["scheme"] + m["term"]: m["title"] for m in alice.get("/-/")["mixins"]}
    assert titles[image] == "mine (frozen and saved while it ran)"
    machine.ssh("echo it goes on > /root/thawed; sync")
    (file,) = (SITE / "spool" / "saved").glob("*.qcow2")
    call("qemu-img", "convert", "-O", "raw", str(file), raw)
    assert in_disk("/root/saved") == "saved\n"
    for file_of_vm in ("/etc/ssh/ssh_host_ed25519_key", "/root/.ssh/authorized_keys"):
        assert in_disk(file_of_vm) == ""
    machine.delete()
    copy = alice.machine(image, key=key).wait("active")
    assert copy.ssh("cat /root/saved") == "saved\n"
    assert copy.ssh(host_key) != old
    definition = {"scheme": f"{OWN}os_tpl#", "term": image.partition("#")[2]}
    assert bob.ask("DELETE", "/-/", {"mixins": [definition]}).status_code == 400
    assert alice.ask("DELETE", "/-/", {"mixins": [definition]}).status_code == 409
    copy.delete()
    wait_until(
        lambda: alice.ask("DELETE", "/-/", {"mixins": [definition]}).status_code == 200, 30, "gone"
    )
    assert image not in templates(alice)
    wait_until(lambda: not list((SITE / "spool" / "saved").iterdir()), 30, "no saved image")


def test_two_machines_on_a_network_of_ones_own(alice: Cloud, key: Key) -> None:
    network = alice.create(
        "network",
        {
            "mixins": [f"{INFRA}/network#ipnetwork", f"{OWN}network#ipv6network"],
            "attributes": {
                "occi.network.address": "10.123.0.0/24",
                "wnodes.network.address6": "fd12:3456::/64",
            },
            "title": "mine",
        },
    )
    links = [interface(public(alice)), interface(network)]
    # The first takes all cores of its node: the second is on the other one.
    pair = [alice.machine(template=size, key=key, links=links) for size in ("medium", "small")]
    for machine in pair:
        machine.wait("active")
    inner = [machine.address(1) for machine in pair]
    assert len({*inner}) == 2
    assert all(address.startswith("10.123.0.") for address in inner)
    assert len({machine["node"] for machine in machines()}) == 2
    for machine in pair:
        machine.ssh("true", seconds=90)  # three cores at once, on a busy machine
    assert "1 packets received" in pair[0].ssh(f"ping -c 1 -w 20 {inner[1]}")
    assert "2 packets received" in pair[1].ssh(f"ping -c 2 -s 3000 {inner[0]}")
    shown = [link["attributes"] for link in alice.get(pair[1].path)["links"]]
    [six] = [own[SIX] for own in shown if SIX in own]
    assert six.startswith("fd12:3456::5054:ff:fe")
    assert "1 packets received" in pair[0].ssh(f"ping6 -c 1 -w 20 {six}")
    assert alice.ask("DELETE", network).status_code == 409
    for machine in pair:
        machine.delete()
    wait_until(lambda: alice.ask("DELETE", network).status_code == 200, 20, "network is free")


def test_a_card_is_plugged_in_while_the_machine_runs(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    assert "eth1" not in machine.ssh("ls /sys/class/net")
    found = alice.get("/network/")["resources"]
    private = next(f"/network/{n['id']}" for n in found if "only" in n.get("title", ""))
    ends = {"occi.core.source": machine.path, "occi.core.target": private}
    link = alice.create("networkinterface", {"attributes": ends})
    wait_until(lambda: "eth1" in machine.ssh("ls /sys/class/net"), 30, "a second card")
    wait_until(
        lambda: alice.get(link)["attributes"]["occi.networkinterface.state"] == "active",
        20,
        "the link is active",
    )
    mac = alice.get(link)["attributes"]["occi.networkinterface.mac"]
    assert machine.ssh("cat /sys/class/net/eth1/address").strip() == mac
    alice.delete(link)
    wait_until(lambda: "eth1" not in machine.ssh("ls /sys/class/net"), 30, "it is gone")


def test_user_data_runs(alice: Cloud, key: Key) -> None:
    script = b'#!/bin/sh\necho "ran as $(id -u)" > /root/marker\n'
    machine = alice.machine(key=key, data=script).wait("active")
    assert machine.ssh("cat /root/marker") == "ran as 0\n"


def test_an_image_without_a_way_to_be_told_gets_the_key_all_the_same(
    alice: Cloud, key: Key
) -> None:
    machine = alice.machine(BARE_IMAGE, key=key).wait("active", seconds=180)
    assert machine.ssh("id -u") == "0\n"
    other = Machine(alice, machine.path, Key(Path("/etc/ssh/none")))
    assert other.try_ssh("true").returncode == 255


def test_nothing_of_the_batch_system_is_in_the_machine(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    slurm_conf = (SITE / "etc" / "slurm" / "slurm.conf").read_text()
    ports = re.findall(r"(?:SlurmctldPort|AccountingStoragePort)=(\d+)", slurm_conf)
    words = [*ports, "munge", "slurm", "SLURM", "wnodes-lease", "WNODES_LEASE"]
    assert len(ports) == 2
    processes = machine.ssh("ps; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    places = "/etc /root /run /var /tmp /home /proc/cmdline /proc/mounts"
    files = machine.ssh(f"grep -r '' {places} 2>/dev/null; cat /proc/net/tcp; dmesg")
    seed = machine.ssh("strings /dev/vdb")
    for word in words:
        for text in (processes, files, seed):
            assert word not in text, word
    munge = (SITE / "etc" / "munge.key").read_bytes()
    disk = next((SITE / "spool").glob("hv?/machines/*/*.qcow2")).read_bytes()
    assert munge not in disk
    assert munge[:16] not in disk
    assert "virtiofs" not in machine.ssh("cat /proc/mounts")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"mixins": [SMALL_IMAGE, f"{OWN}os_tpl#nosuch_debian_x86_64"]}, "nosuch"),
        ({"mixins": [SMALL_IMAGE], "attributes": {"occi.compute.cores": "two"}}, "cores"),
        ({"mixins": [SMALL_IMAGE], "attributes": {"occi.compute.state": "active"}}, "state"),
        ({"mixins": [SMALL_IMAGE, BARE_IMAGE]}, "os_tpl"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(
    alice: Cloud, document: dict[str, object], said: str
) -> None:
    answer = alice.ask("POST", "/compute/", {"kind": f"{INFRA}#compute", **document})
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert alice.locations("/compute/") == []
    assert not machines()


def test_a_key_that_is_none_is_refused(alice: Cloud) -> None:
    answer = alice.ask(
        "POST",
        "/compute/",
        {
            "kind": f"{INFRA}#compute",
            "mixins": [SMALL_IMAGE, f"{INFRA}/credentials#ssh_key"],
            "attributes": {"occi.credentials.ssh.publickey": "ssh-ed25519 not-a-key"},
        },
    )
    assert answer.status_code == 400
    assert "occi.credentials.ssh.publickey" in answer.json()["message"]
