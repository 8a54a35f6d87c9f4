"""What a user finds in their VM, whatever they wrote into its keys and data."""

import base64
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bait.cloud.seed import CloudGuest, files
from bait.machine import seed
from bait.machine.seed import Interface
from tests.unit.bait.machine.test_seed import PIDS, needs_namespaces

HOST_KEY = seed.key_pair()
STATIC = Interface("52:54:00:00:00:01", "10.0.0.5/24", "10.0.0.1")
CLOSED = Interface("52:54:00:00:00:02", "10.1.0.5/16")
DHCP = Interface("52:54:00:00:00:03", dhcp=True)
EVIL = "ssh-ed25519 AAAA '\"$(touch evil)`touch evil`"


def guest(data: bytes = b"", keys: tuple[str, ...] = (EVIL, "ssh-rsa B b")) -> CloudGuest:
    text = base64.b64encode(data).decode()
    return CloudGuest("id", "box", keys, text, (STATIC, CLOSED, DHCP), HOST_KEY)


def test_cloud_init_gets_keys_name_and_cards() -> None:
    told = files(guest(), "cloud-init")
    assert json.loads(told["meta-data"]) == {
        "instance-id": "id",
        "local-hostname": "box",
        "public-keys": [EVIL, "ssh-rsa B b"],
    }
    network = json.loads(told["network-config"])
    assert network["version"] == 2
    cards: dict[str, Any] = network["ethernets"]
    assert cards["eth0"]["match"] == {"macaddress": "52:54:00:00:00:01"}
    assert cards["eth0"]["addresses"] == ["10.0.0.5/24"]
    assert cards["eth0"]["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]
    assert cards["eth1"]["addresses"] == ["10.1.0.5/16"]
    assert "routes" not in cards["eth1"]
    assert cards["eth2"]["dhcp4"] is True
    assert told["user-data"].startswith("#cloud-config\n")
    assert HOST_KEY.private not in "".join(told.values())  # it makes its own


def test_a_guest_is_told_its_ipv6_and_what_fits_through_a_tunnel() -> None:
    six = Interface(
        "52:54:00:00:00:01",
        address6="2001:db8::5054:ff:fe00:1/64",
        gateway6="fe80::1",
        dhcp=True,
    )
    far = Interface("52:54:00:00:00:02", "10.1.0.5/16", mtu=1450)
    made = replace(guest(), interfaces=(six, far))
    cards = json.loads(files(made, "cloud-init")["network-config"])["ethernets"]
    assert cards["eth0"] == {
        "match": {"macaddress": "52:54:00:00:00:01"},
        "set-name": "eth0",
        "dhcp4": True,
        "addresses": ["2001:db8::5054:ff:fe00:1/64"],
        "routes": [{"to": "::/0", "via": "fe80::1"}],
    }
    assert cards["eth1"]["mtu"] == 1450
    script = files(made, "script")["user-data"].splitlines()
    assert "ip -6 address replace 2001:db8::5054:ff:fe00:1/64 dev eth0 || true" in script
    assert "ip -6 route replace default via fe80::1 dev eth0 || true" in script
    assert "ip link set eth1 mtu 1450 up" in script


@pytest.mark.parametrize("data", [b"#cloud-config\n{}\n", b"\x1f\x8b\x08\xff", bytes(range(256))])
def test_cloud_init_gets_the_users_data_byte_by_byte(tmp_path: Path, data: bytes) -> None:
    iso = tmp_path / "seed.iso"
    seed.write(iso, files(guest(data), "cloud-init"))
    assert data in iso.read_bytes()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\necho 'it'\"'\"'s' $(id)\n",
        b"#cloud-config\n{}\n",
        b"#!/bin/sh\nKEYS\n",
        b"\x00" + bytes(range(256)),
    ],
)
def test_the_script_is_good_shell(tmp_path: Path, shell: str, data: bytes) -> None:
    script = tmp_path / "script"
    script.write_text(files(guest(data), "script")["user-data"])
    assert subprocess.run([*shell.split(), "-n", script]).returncode == 0


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_keys_and_data_stay_data(tmp_path: Path, shell: str) -> None:
    """The part of the script that writes them, with its folders moved into the test's."""
    data = b"#!/bin/sh\necho \"it's $0\" '$(x)' > done\nexit\nDATA\n" + bytes(range(256)) * 8
    text = files(guest(data), "script")["user-data"]
    part = text[text.index("mkdir -p /root/.ssh") :]
    for place in ("/root", "/var/lib"):
        part = part.replace(place, f"{tmp_path}{place}")
    part = part.replace("echo id >$done", ":")
    done = subprocess.run(
        [*shell.split(), "-eu", "-c", part], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    keys = (tmp_path / "root/.ssh/authorized_keys").read_text()
    assert keys.splitlines() == [EVIL, "ssh-rsa B b"]
    assert (tmp_path / "var/lib/wnodes-user/data").read_bytes() == data
    assert (tmp_path / "done").read_text().endswith("data $(x)\n")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_no_key_and_no_data_end_what_they_are_in(tmp_path: Path, shell: str) -> None:
    """Three bytes are DATA in base64; a key may be any line."""
    data, keys = base64.b64decode("DATA"), ("KEYS", "touch evil", "-n 'x' %s\\n")
    text = files(guest(data, keys), "script")["user-data"]
    part = text[text.index("mkdir -p /root/.ssh") :]
    for place in ("/root", "/var/lib", "/dev/console"):
        part = part.replace(place, f"{tmp_path}{place}")
    part = part.replace("echo id >$done", ":")
    (tmp_path / "dev").mkdir()
    subprocess.run([*shell.split(), "-eu", "-c", part], cwd=tmp_path, check=True)
    assert (tmp_path / "root/.ssh/authorized_keys").read_text().splitlines() == [*keys]
    assert (tmp_path / "var/lib/wnodes-user/data").read_bytes() == data
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_vm_made_from_a_saved_image_is_another(tmp_path: Path, shell: str) -> None:
    """It has keys and an id of its own, and those of its user; a VM that starts again stays."""
    key, id_ = tmp_path / "etc/ssh/ssh_host_ed25519_key", tmp_path / "etc/machine-id"
    keys = tmp_path / "root/.ssh/authorized_keys"

    def boots(machine: str, host_key: str, user_key: str) -> None:
        pair = replace(HOST_KEY, private=f"{host_key}\n")
        made = replace(guest(keys=(user_key,)), id=machine, host_key=pair)
        text = files(made, "script")["user-data"]
        part = text[text.index("done=/var/lib") :]
        for place in ("/root", "/var/lib", "/etc"):
            part = part.replace(place, f"{tmp_path}{place}")
        subprocess.run([*shell.split(), "-eu", "-c", part], check=True)

    (tmp_path / "var/lib").mkdir(parents=True)
    id_.parent.mkdir()
    id_.write_text("old\n")
    boots("one", "first", "anna")
    assert (key.read_text(), keys.read_text(), id_.read_text()) == ("first\n", "anna\n", "old\n")
    keys.write_text("anna\nher friend\n")
    boots("one", "second", "anna")
    assert (key.read_text(), keys.read_text()) == ("first\n", "anna\nher friend\n")
    key.with_name("ssh_host_rsa_key").write_text("one's other")
    boots("two", "third", "bob")
    assert (key.read_text(), keys.read_text()) == ("third\n", "bob\n")
    assert re.fullmatch("[0-9a-f]{32}\n", id_.read_text())
    assert not key.with_name("ssh_host_rsa_key").exists()
    (tmp_path / "var/lib/wnodes-cloud").write_text("")  # a VM of an earlier release
    boots("two", "fourth", "carla")
    assert (key.read_text(), keys.read_text()) == ("third\n", "bob\n")


def test_only_a_script_is_run_by_a_script() -> None:
    """Of all else it is said that it is not."""
    assert "wnodes-user" not in files(guest(), "script")["user-data"]
    other = files(guest(b"#cloud-config\n{}\n"), "script")["user-data"]
    assert "\n$data >" not in other
    assert "and not run" in other
    assert "\n$data >" in files(guest(b"#!/bin/sh\n"), "script")["user-data"]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_guest_knows_its_own_name(tmp_path: Path, shell: str) -> None:
    """At each boot once, beside what its user has written."""
    text = files(guest(), "script")["user-data"]
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1\told\n10.0.0.9 mine\n")
    part = text[text.index("hosts=") : text.index("ip link")].replace("/etc/hosts", str(hosts))
    for _boot in range(2):
        subprocess.run([*shell.split(), "-eu", "-c", part], check=True)
        assert hosts.read_text() == "127.0.0.1 localhost\n10.0.0.9 mine\n127.0.1.1 box\n"
    hosts.write_text("")
    subprocess.run([*shell.split(), "-eu", "-c", part], check=True)
    assert hosts.read_text().split() == ["127.0.1.1", "box"]
    vendor = files(guest(), "cloud-init")["vendor-data"]
    assert json.loads(vendor.removeprefix("#cloud-config\n"))["manage_etc_hosts"] == "localhost"


# A card on a network whose DHCP server is dnsmasq; then the client is told to renew.
LAN = """
set -eu
mount --bind "$1/resolv.conf" /etc/resolv.conf
ip link set lo up
ip link add eth0 type veth peer name spare
unshare --net sleep 600 &
server=$!
until [ "$(readlink /proc/$server/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link set spare name lan netns $server
inside() { nsenter --net=/proc/$server/ns/net "$@"; }
inside ip address add 10.9.0.1/24 dev lan
inside ip link set lan up
inside dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --interface=lan --bind-interfaces \
    --port=0 --dhcp-authoritative --dhcp-range=10.9.0.50,10.9.0.60 --dhcp-leasefile="$1/leases" \
    --log-facility="$1/log" --no-ping --pid-file --user=root
PATH="$1/bin:$PATH" sh -eu "$1/part"
ip -o -4 address show dev eth0 >"$1/address"
for process in /proc/[0-9]*; do
    [ "$(cat $process/comm)" != udhcpc ] || kill -USR1 ${process#/proc/}
done
n=0
until [ "$(grep -c DHCPACK "$1/log")" -ge 2 ] || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
"""


@needs_namespaces
@pytest.mark.integration
def test_a_lease_of_the_sites_dhcp_is_renewed(tmp_path: Path) -> None:
    event = Path(__file__).parents[4] / "contrib/images/small/root/etc/udhcpc/default.script"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/udhcpc").symlink_to("/bin/busybox")
    (tmp_path / "resolv.conf").touch()
    text = files(replace(guest(), interfaces=(DHCP,)), "script")["user-data"]
    part = text[text.index("ip link set") : text.index("# All that follows")]
    (tmp_path / "part").write_text(part.replace("/etc/udhcpc/default.script", str(event)))
    words = ["unshare", "--mount", "--net", *PIDS, "sh", "-c", LAN, "sh", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"inet 10\.9\.0\.[56]\d/", (tmp_path / "address").read_text())
    assert (tmp_path / "log").read_text().count("DHCPACK") == 2
