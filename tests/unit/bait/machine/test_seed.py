"""The disk that a guest reads, and the script on it, run for real."""

import ipaddress
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from bait.machine import seed
from bait.machine.seed import Guest, Interface
from bait.network.addresses import mac_of
from wnodes_lrms.model import Owner

SUBNET = ipaddress.IPv4Network("192.168.190.0/24")
ALICE = Owner(
    name="alice",
    uid=4001,
    gid=4100,
    groups=(("alice", 4100), ("atlas", 4200), ("domain users", 4300)),
    home="/home/alice",
)


def guest(
    owner: Owner = ALICE,
    workdir: str = "/home/alice/run",
    shares: tuple[str, ...] = (),
    scratch: bool = False,
    others: tuple[Interface, ...] = (),
) -> Guest:
    address = ipaddress.IPv4Address("192.168.190.7")
    return Guest(
        id="42830be1-e63b-5316-ad86-9cf7a3034a5f",
        hostname="vm-7",
        mac=mac_of(address),
        address=address,
        subnet=SUBNET,
        host_key=seed.key_pair(),
        owner=owner,
        public_key=seed.key_pair().public,
        workdir=workdir,
        shares=shares,
        scratch=scratch,
        others=others,
    )


ASKS = Interface("56:00:00:00:00:01", dhcp=True)
GIVEN = Interface(
    "56:00:00:00:00:02",
    "10.2.0.64/24",
    "10.2.0.1",
    "2001:db8:1:0:5400:ff:fe00:2/64",
    "fe80::1",
)


def test_keys_are_ones_that_ssh_takes(tmp_path: Path) -> None:
    pair = seed.key_pair()
    load_ssh_private_key(pair.private.encode(), None)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(pair.private)
    told = subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, text=True)
    assert told.stdout.split()[:2] == pair.public.split()[:2]
    assert seed.key_pair() != pair


def test_a_mac_is_local_unicast_and_follows_from_the_address() -> None:
    assert mac_of(ipaddress.IPv4Address("192.168.190.7")) == "52:54:c0:a8:be:07"
    macs = {mac_of(address) for address in SUBNET}
    assert len(macs) == 256
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)


def read_back(iso: Path, name: str) -> bytes:
    return subprocess.run(
        ["isoinfo", "-R", "-i", iso, "-x", f"/{name}"], capture_output=True, check=True
    ).stdout


def test_the_disk_is_read_by_other_programs(tmp_path: Path) -> None:
    iso = tmp_path / "seed.iso"
    texts = seed.files(guest(), "script")
    seed.write(iso, texts)
    assert stat.S_IMODE(iso.stat().st_mode) == 0o600  # it has the VM's host key
    assert iso.stat().st_size >= 1 << 17
    assert iso.stat().st_size % 512 == 0
    told = subprocess.run(["isoinfo", "-d", "-i", iso], capture_output=True, text=True).stdout
    assert "Volume id: cidata" in told
    assert set(texts) == {"meta-data", "user-data", "network-config"}
    for name, text in texts.items():
        assert read_back(iso, name) == text.encode()


def test_folders_names_need_not_be_text(tmp_path: Path) -> None:
    iso = tmp_path / "seed.iso"
    seed.write(iso, seed.files(guest(workdir="/caf\udce9/run"), "script"))
    assert b"top='/caf\xe9'" in read_back(iso, "user-data")


def test_the_label_is_found(tmp_path: Path) -> None:
    iso = tmp_path / "seed.iso"
    seed.write(iso, seed.files(guest(), "script"))
    told = subprocess.run(["blkid", "-p", iso], capture_output=True, text=True)
    assert ' LABEL="cidata"' in told.stdout


def test_meta_data_and_network_are_the_guests() -> None:
    texts = seed.files(guest(), "cloud-init")
    assert json.loads(texts["meta-data"]) == {
        "instance-id": "42830be1-e63b-5316-ad86-9cf7a3034a5f",
        "local-hostname": "vm-7",
    }
    card = json.loads(texts["network-config"])["ethernets"]["eth0"]
    assert card["match"] == {"macaddress": "52:54:c0:a8:be:07"}
    assert card["addresses"] == ["192.168.190.7/24"]
    assert card["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.190.1"}]


def test_a_second_card_asks_for_its_address_and_its_router_comes_first() -> None:
    texts = seed.files(guest(others=(ASKS,)), "cloud-init")
    cards = json.loads(texts["network-config"])["ethernets"]
    [way] = cards["eth0"]["routes"]
    assert way == {"to": "0.0.0.0/0", "via": "192.168.190.1", "metric": 1000}
    assert cards["eth1"] == {
        "match": {"macaddress": "56:00:00:00:00:01"},
        "set-name": "eth1",
        "dhcp4": True,
    }


def test_a_second_card_that_has_its_address_from_the_node() -> None:
    cards = json.loads(seed.files(guest(others=(GIVEN,)), "cloud-init")["network-config"])
    assert cards["ethernets"]["eth1"] == {
        "match": {"macaddress": "56:00:00:00:00:02"},
        "set-name": "eth1",
        "addresses": ["10.2.0.64/24", "2001:db8:1:0:5400:ff:fe00:2/64"],
        "routes": [{"to": "0.0.0.0/0", "via": "10.2.0.1"}, {"to": "::/0", "via": "fe80::1"}],
    }
    assert seed.files(guest(others=(GIVEN,)), "script")["user-data"].splitlines()[11:21] == [
        "ip route add default via 192.168.190.1 metric 1000",
        "echo 'nameserver 192.168.190.1' >/etc/resolv.conf",
        "",
        "# A card on a network of the site's: if a router is named there, it is the way to the"
        " world.",
        "ip link set eth1 up",
        "ip address add 10.2.0.64/24 dev eth1",
        "ip route add default via 10.2.0.1",
        "ip -6 address replace 2001:db8:1:0:5400:ff:fe00:2/64 dev eth1 || true",
        "ip -6 route replace default via fe80::1 dev eth1 || true",
        "",
    ]


def test_cloud_init_gets_the_same_script_without_the_network() -> None:
    one = guest()
    text = seed.files(one, "cloud-init")["user-data"]
    assert text.startswith("#cloud-config\n")
    told = json.loads(text.removeprefix("#cloud-config\n"))
    ((shell, option, script),) = told["bootcmd"]
    assert (shell, option) == ("sh", "-c")
    assert "ip address" not in script
    assert "put /etc/passwd" in script
    assert told["ssh_keys"]["ed25519_private"] == one.host_key.private
    assert told["disable_root"] is True


def owner(name: str, home: str = "/home/alice") -> Owner:
    return Owner(name, 4001, 4100, ((name, 4100),), home)


GUESTS = {
    "plain": guest(),
    "shared folders": guest(shares=("/home", "/data/it's here")),
    "scratch": guest(scratch=True),
    "two cards": guest(others=(ASKS,)),
    "an address given": guest(others=(GIVEN,)),
    "spaces": guest(owner("a b", "/home/a b"), "/home/a b/my run"),
    "quotes": guest(owner("o'neil", "/home/o'neil"), '/home/"q"\'$(touch /run/evil)`id`'),
    "newline": guest(owner("alice"), "/home/li\nne; touch /run/evil"),
    "backslash": guest(owner("DOM\\new", "/home/DOM\\new"), "/home/a\\tb"),
    "bytes": guest(owner("alice"), "/home/caf\udce9"),
    "dollar": guest(owner("host$", "/home/$HOME"), "/home/${IFS}*"),
}
# Whose owner's name and folders are nothing unusual.
WHOLE = ("plain", "shared folders", "scratch", "two cards", "an address given")


@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize("context", ["script", "cloud-init"])
def test_the_script_is_good_shell(tmp_path: Path, name: str, context: str) -> None:
    text = seed.files(GUESTS[name], context)["user-data"]
    if context == "cloud-init":
        text = json.loads(text.partition("\n")[2])["bootcmd"][0][2]
    script = tmp_path / "script"
    script.write_bytes(os.fsencode(text))
    for shell in (["dash"], ["bash"], ["busybox", "sh"]):
        assert subprocess.run([*shell, "-n", script]).returncode == 0
    if shutil.which("shellcheck") and name in WHOLE:
        told = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True)
        assert told.stdout == ""


# The script as it is, as root, in namespaces of its own: /etc, /run and /home are folders of the
# test's, the network has one card. Only the mounts of virtiofs are not done, there is none here.
INSIDE = """
set -eu
mount --bind "$1/etc" /etc
mount --bind "$1/run" /run
mount --bind "$1/home" /home
ip link add eth0 type veth peer name other
hostname before
"$2" $3 "$1/user-data" >"$1/said" 2>&1 || { cat "$1/said" >&2; exit 1; }
hostname >"$1/hostname"
ip -o address show dev eth0 >"$1/address"
"""


PIDS = ("--pid", "--fork", "--kill-child", "--mount-proc")  # nothing of it outlives the script


class Machine:
    """What is there after the script has run."""

    def __init__(
        self,
        folder: Path,
        one: Guest,
        shell: str,
        sshd_config_d: bool,
        inside: str = INSIDE,
        more: Mapping[Path, str] | None = None,
    ) -> None:
        """`more` files of the node are in these folders below /etc."""
        self.root = folder
        for name in ("etc", "run", "home"):
            (folder / name).mkdir()
        shutil.copytree("/etc/alternatives", folder / "etc/alternatives", symlinks=True)
        shutil.copy("/etc/ld.so.cache", folder / "etc")
        (folder / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nubuntu:x:4001:1000::/home/ubuntu:/bin/bash\n"
            "alice:x:999:999::/nowhere:/bin/false\nother:x:998:998::/:/bin/false\n"
        )
        (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (folder / "etc/group").write_text("root:x:0:\natlas:x:12:\nusers:x:4200:\nother:x:998:\n")
        (folder / "etc/shadow").write_text("root::1::::::\nalice:secret:1::::::\n")
        (folder / "etc/ssh").mkdir()
        (folder / "etc/ssh/ssh_host_rsa_key").write_text("of the image's maker")
        if sshd_config_d:
            (folder / "etc/ssh/sshd_config.d").mkdir()
        (folder / "user-data").write_bytes(os.fsencode(seed.files(one, "script")["user-data"]))
        for file, name in (more or {}).items():
            (folder / "etc" / name).mkdir()
            shutil.copy(file, folder / "etc" / name)
        words = [*shell.split(), ""][:2]
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "--uts",
                "--net",
                *PIDS,
                "sh",
                "-c",
                inside,
                "sh",
                folder,
                *words,
            ],
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stderr

    def lines(self, name: str) -> list[str]:
        return (self.root / "etc" / name).read_bytes().decode().split("\n")[:-1]

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def may_unshare() -> bool:
    words = "unshare --mount --uts --net ip link add eth0 type veth peer name other"
    return subprocess.run(words.split(), capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not may_unshare(), reason="needs root and namespaces"
)


@needs_namespaces
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_the_machine_that_the_script_makes(tmp_path: Path, shell: str) -> None:
    one = guest()
    made = Machine(tmp_path, one, shell, sshd_config_d=True)
    assert (tmp_path / "hostname").read_text() == "vm-7\n"
    assert made.lines("hostname") == ["vm-7"]
    assert made.lines("hosts") == ["127.0.0.1 localhost", "192.168.190.7 vm-7"]
    assert " 192.168.190.7/24 " in (tmp_path / "address").read_text()
    assert made.lines("resolv.conf") == ["nameserver 192.168.190.1"]
    # Whoever had their name or number has given way, all others stay.
    assert made.lines("passwd") == [
        "root:x:0:0:root:/root:/bin/sh",
        "other:x:998:998::/:/bin/false",
        "alice:x:4001:4100::/home/alice:/bin/sh",
    ]
    assert made.lines("group") == [
        "root:x:0:",
        "other:x:998:",
        "alice:x:4100:alice",
        "atlas:x:4200:alice",
        "domain users:x:4300:alice",
    ]
    assert made.lines("shadow") == ["alice:*:19000:0:99999:7:::", "root:*:19000:0:99999:7:::"]
    keys = list(made.at("/etc/ssh").glob("ssh_host*"))
    assert [key.name for key in keys] == ["ssh_host_ed25519_key"]
    assert keys[0].read_text() == one.host_key.private
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    assert [key.name for key in made.at("/run/wnodes/keys").iterdir()] == ["alice"]
    assert made.at("/run/wnodes/keys/alice").read_text() == one.public_key + "\n"
    for name, mode in (("/run/wnodes/job", 0o700), ("/home/alice", 0o755)):
        status = made.at(name).stat()
        assert (status.st_uid, status.st_gid) == (4001, 4100)
        assert stat.S_IMODE(status.st_mode) == mode


@needs_namespaces
def test_an_ssh_server_that_reads_homes_finds_the_key_elsewhere(tmp_path: Path) -> None:
    one = guest()
    made = Machine(tmp_path, one, "busybox sh", sshd_config_d=False)
    assert made.lines("passwd")[-1] == "alice:x:4001:4100::/run/wnodes/login:/bin/sh"
    key = made.at("/run/wnodes/login/.ssh/authorized_keys")
    assert key.read_text() == one.public_key + "\n"
    assert (key.stat().st_uid, key.parent.stat().st_uid) == (4001, 4001)
    assert not made.at("/home/alice/.ssh").exists()


@needs_namespaces
@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
@pytest.mark.parametrize("name", sorted(set(GUESTS) - set(WHOLE)))
def test_names_stay_data(tmp_path: Path, name: str, shell: str) -> None:
    one = GUESTS[name]
    made = Machine(tmp_path, one, shell, sshd_config_d=True)
    assert not made.at("/run/evil").exists()
    user = f"{one.owner.name}:x:4001:4100::{one.owner.home}:/bin/sh"
    assert made.lines("passwd")[-1] == user
    assert sum(":4001:" in line for line in made.lines("passwd")) == 1
    assert f"{one.owner.name}:*:19000:0:99999:7:::" in made.lines("shadow")
    assert made.lines("group")[-1] == f"{one.owner.name}:x:4100:{one.owner.name}"
    assert made.at(one.owner.home).stat().st_uid == 4001


@needs_namespaces
@pytest.mark.parametrize("workdir", ["/etc/profile.d", "/run/it/../planted", "/home/bob/x", "/"])
def test_root_makes_no_folder_that_the_owner_has_chosen(tmp_path: Path, workdir: str) -> None:
    made = Machine(tmp_path, guest(workdir=workdir), "dash", sshd_config_d=True)
    assert not made.at("/etc/profile.d").exists()
    assert not list(made.at("/run").glob("*planted*"))
    assert [home.name for home in made.at("/home").iterdir()] == ["alice"]


@pytest.mark.parametrize(
    ("workdir", "top"),
    [
        ("/scratch/alice/run", "/scratch"),
        ("/scratch", "/scratch"),
        ("//scratch/../data/x", "/data"),
        ("/home/alice/run", ""),  # shared: it is there, or is not
        ("/home/../home/alice", ""),
        ("/homes/alice", "/homes"),
        ("/", ""),
        ("", ""),
        ("relative/folder", ""),
    ],
)
def test_what_is_made_for_a_working_directory(workdir: str, top: str) -> None:
    text = seed.files(guest(workdir=workdir, shares=("/home",)), "script")["user-data"]
    assert (f"\ntop={top}\n" in text) if top else ("\ntop=" not in text)


@pytest.mark.parametrize("shares", [("/home",), ("/home/alice",), ("/",)])
def test_a_home_that_is_shared_is_not_made(shares: tuple[str, ...]) -> None:
    assert '"$home"' not in seed.files(guest(shares=shares), "script")["user-data"]


# The same with a second card, on a network of the site's.
LAN = """
set -eu
mount --bind "$1/etc" /etc
mount --bind "$1/run" /run
mount --bind "$1/home" /home
ip link set lo up
ip link add eth0 type veth peer name node
unshare --net sleep 600 &
server=$!
until [ "$(readlink /proc/$server/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link add eth1 type veth peer name lan netns $server
inside() { nsenter --net=/proc/$server/ns/net "$@"; }
inside ip address add 10.9.0.1/24 dev lan
inside ip link set lan up
"""
# Its DHCP server is dnsmasq; the client and its script are those of the small image.
SERVER = """
inside dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --interface=lan --bind-interfaces \
    --port=0 --dhcp-authoritative --dhcp-range=10.9.0.50,10.9.0.60 --dhcp-leasefile="$1/leases" \
    --dhcp-option=option:dns-server,10.9.0.53 --no-ping --pid-file --user=root
"""
RUNS = """
PATH="$1/bin:$PATH" "$2" "$1/user-data" >"$1/said" 2>&1 || { cat "$1/said" >&2; exit 1; }
ip -o address show dev eth1 >"$1/address"
ip route show default >"$1/ways"
ip -6 route show default >"$1/ways6"
"""


@needs_namespaces
@pytest.mark.integration
def test_a_second_card_gets_its_address_and_its_router_by_dhcp(tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    script = Path(__file__).parents[4] / "contrib/images/small/root/etc/udhcpc/default.script"
    client = folder / "bin" / "udhcpc"
    client.parent.mkdir()
    client.symlink_to("/bin/busybox")
    one = guest(others=(ASKS,))
    made = Machine(
        folder, one, "dash", sshd_config_d=True, inside=LAN + SERVER + RUNS, more={script: "udhcpc"}
    )
    assert re.search(r"inet 10\.9\.0\.[56]\d/", (folder / "address").read_text())
    by_lan, by_node = sorted((folder / "ways").read_text().splitlines(), key=len)
    assert by_lan.startswith("default via 10.9.0.1 dev eth1")
    assert by_node.startswith("default via 192.168.190.1 dev eth0 metric 1000")
    assert made.lines("resolv.conf") == ["nameserver 10.9.0.53"]


@needs_namespaces
@pytest.mark.integration
def test_a_second_card_has_the_addresses_and_routers_that_it_is_told(tmp_path: Path) -> None:
    mac, address6 = "56:00:00:00:00:02", "2001:db8:1:0:5400:ff:fe00:2/64"
    card = Interface(mac, "10.9.0.64/24", "10.9.0.1", address6, "fe80::1")
    made = Machine(tmp_path, guest(others=(card,)), "dash", True, inside=LAN + RUNS)
    told = (tmp_path / "address").read_text()
    assert "inet 10.9.0.64/24" in told
    assert f"inet6 {address6}" in told
    by_lan, by_node = sorted((tmp_path / "ways").read_text().splitlines(), key=len)
    assert by_lan.startswith("default via 10.9.0.1 dev eth1")
    assert by_node.startswith("default via 192.168.190.1 dev eth0 metric 1000")
    assert (tmp_path / "ways6").read_text().startswith("default via fe80::1 dev eth1")
    assert made.lines("resolv.conf") == ["nameserver 192.168.190.1"]


SSHD = """
mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f "$1/sshd_config" -h "$1/etc/ssh/ssh_host_ed25519_key" -p 2222 &
shift
ip link set lo up
for user in alice root other; do
    n=0
    until ssh -F none -i "$1" -o BatchMode=yes -o StrictHostKeyChecking=no -p 2222 \
        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$user@127.0.0.1" id -un ||
        [ $n -ge "$2" ]; do sleep 0.2; n=$((n + 1)); done
    set -- "$1" 0  # it listens by now
done
"""


@needs_namespaces
@pytest.mark.integration
def test_the_key_opens_its_owners_account_and_no_other(tmp_path: Path) -> None:
    pair = seed.key_pair()
    one = replace(guest(), public_key=pair.public)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(pair.private)
    made = Machine(tmp_path, one, "dash", sshd_config_d=True)
    (tmp_path / "sshd_config").write_text(
        "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\nPidFile none\n"
    )
    with made.at("/etc/passwd").open("a") as file:
        file.write("sshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n")
    binds = 'mount --bind "$1/etc" /etc; mount --bind "$1/run" /run; mount --bind "$1/home" /home\n'
    done = subprocess.run(
        [
            *("unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", binds + SSHD, "sh", tmp_path, key, "50"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "alice\n", done.stderr
    assert "root@127.0.0.1: Permission denied" in done.stderr
    assert "other@127.0.0.1: Permission denied" in done.stderr
