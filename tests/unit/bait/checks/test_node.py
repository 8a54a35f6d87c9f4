"""What a node's checks see, and what they conclude: on real files, servers and libvirt's own
test driver."""

import hashlib
import http.server
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bait.checks import file_verdicts, files, network_verdicts, node, verdicts
from bait.checks.bounded import bounded
from bait.checks.file_verdicts import Copy, Mode, PartSeen
from bait.hypervisor.domain import Inventory
from bait.hypervisor.inventory import confined_by, look, qemu_user
from bait.machine.topology import Topology
from tests.unit.bait.machine.recordings import recorded
from tests.unit.conftest import needs_root
from wnodes_lrms.config.load import Batch, Config, Network, Offer
from wnodes_lrms.doctor import Status
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image, Part

INVENTORY = Inventory(
    "libvirt 9.0.0, QEMU 7.2.22", frozenset({"wnodes"}), (64055, 1), frozenset({"dac"})
)


@pytest.mark.parametrize(
    ("accel", "works", "expected"),
    [
        ("auto", True, Status.OK),
        ("auto", False, Status.WARNING),
        ("kvm", True, Status.OK),
        ("kvm", False, Status.FAULT),
        ("tcg", False, Status.OK),
    ],
)
def test_kvm(accel: str, works: bool, expected: Status) -> None:
    check = verdicts.kvm(accel, works, "a probe guest hung")
    assert check.status is expected
    assert bool(check.remedy) == (expected is not Status.OK)


def test_how_vms_are_fitted_to_their_cores() -> None:
    assert "does not tell" in verdicts.pinning(named=False).seen
    assert "CPU of its job's" in verdicts.pinning(named=True).seen
    one, two = recorded("one-node"), recorded("two-sockets", 512)
    assert "nothing to choose" in verdicts.placement(one).seen
    assert "2 NUMA nodes" in verdicts.placement(two).seen
    assert "none are free" in verdicts.huge_pages(one).seen
    assert "1024 of 2 MiB" in verdicts.huge_pages(two).seen
    reserved = Topology(two.nodes, {2048: 24})
    assert "1000 of 2 MiB" in verdicts.huge_pages(reserved).seen
    assert verdicts.placement(Topology()).status is Status.OK


def test_network() -> None:
    assert network_verdicts.network(INVENTORY, Network()).status is Status.OK
    assert network_verdicts.network(INVENTORY, Network(name="other")).status is Status.FAULT


def test_the_guests_firewall() -> None:
    assert network_verdicts.firewall("wnodes-hv1", None).status is Status.OK
    check = network_verdicts.firewall("wnodes-hv1", "nft: No such file or directory")
    assert check.status is Status.FAULT
    assert "reach the node" in check.seen
    assert "install nftables" in check.remedy


def test_the_tunnels_of_private_networks() -> None:
    network = IPv4Network("10.1.0.0/24")
    assert network_verdicts.tunnels(network, "10.1.0.3", None).status is Status.OK
    check = network_verdicts.tunnels(network, "", None)
    assert check.status is Status.FAULT
    assert "no address in 10.1.0.0/24" in check.seen
    check = network_verdicts.tunnels(network, "10.1.0.3", "ip: Unknown device type")
    assert "Unknown device type" in check.seen
    assert "kernel with VXLAN" in check.remedy


def test_look_at_a_real_libvirt() -> None:
    found = look("test:///default")
    assert found.version.startswith("libvirt ")
    assert "default" in found.networks
    with pytest.raises(UnknownError, match="does not answer at qemu"):
        look("qemu:///system?socket=/nowhere/libvirt-sock")


def test_the_user_of_qemu_in_real_capabilities() -> None:
    said = (
        "<capabilities><host><secmodel><model>none</model><doi>0</doi></secmodel><secmodel>"
        "<model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+107</baselabel>"
        "<baselabel type='qemu'>+64055:+107</baselabel></secmodel></host></capabilities>"
    )
    assert qemu_user(said) == (64055, 107)
    assert qemu_user("<capabilities><host/></capabilities>") is None


def test_a_libvirt_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    """A socket that takes connections and never answers, as a stopped libvirtd does."""
    path = str(tmp_path / "libvirt-sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        begun = time.monotonic()
        with pytest.raises(UnknownError, match=r"no answer within 0\.3 s"):
            bounded(0.3, lambda: look(f"qemu:///system?socket={path}"))
        assert time.monotonic() - begun < 30


def test_bounded_gives_the_answer_or_its_error() -> None:
    assert bounded(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        bounded(5, lambda: 1 // 0)


class _Server(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response({"/image": 200, "/no-head": 405}.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Server) as web:
        threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_sources(tmp_path: Path, server: str) -> None:
    file = tmp_path / "disk"
    file.write_text("x")
    assert files.unreachable(str(file)) is None
    assert files.unreachable(f"{file}.gone") == "No such file or directory"
    assert files.unreachable(str(tmp_path)) == "Is a directory"
    assert files.unreachable(f"{server}/image") is None
    assert files.unreachable(f"{server}/no-head") is None
    assert files.unreachable(f"{server}/gone") == "HTTP 404"
    assert "refused" in (files.unreachable("http://127.0.0.1:1/image") or "")


def test_copies(tmp_path: Path) -> None:
    part = Part(source="/source", sha256=hashlib.sha256(b"right").hexdigest())
    path, later = tmp_path / part.sha256, time.monotonic() + 60
    assert files.copy_of(part, path, later) is Copy.ABSENT
    path.write_bytes(b"right")
    assert files.copy_of(part, path, later) is Copy.RIGHT
    assert files.copy_of(part, path, time.monotonic() - 1) is Copy.UNREAD
    path.write_bytes(b"wrong")
    assert files.copy_of(part, path, later) is Copy.WRONG


@pytest.mark.parametrize(
    ("trouble", "copy", "expected", "remedy"),
    [
        (None, Copy.ABSENT, Status.OK, ""),
        (None, Copy.RIGHT, Status.OK, ""),
        (None, Copy.UNREAD, Status.UNKNOWN, "sha256sum /cache/2"),
        (None, Copy.WRONG, Status.FAULT, "rm /cache/2"),
        ("HTTP 404", Copy.WRONG, Status.FAULT, "rm /cache/2"),
        ("HTTP 404", Copy.ABSENT, Status.FAULT, "wnodes image add t"),
        ("HTTP 404", Copy.RIGHT, Status.WARNING, "bring the file back"),
    ],
)
def test_image(trouble: str | None, copy: Copy, expected: Status, remedy: str) -> None:
    parts = [
        PartSeen("/disk", None, Copy.RIGHT, Path("/cache/1")),
        PartSeen("/kernel", trouble, copy, Path("/cache/2")),
    ]
    check = file_verdicts.image("t", parts)
    assert check.status is expected
    assert remedy in check.remedy


def test_a_catalogue_s_wrong_entry_does_not_hide_the_others(tmp_path: Path) -> None:
    disk = b"\xeb\x63" + bytes(508) + b"\x55\xaa"
    (tmp_path / "disk").write_bytes(disk)
    (tmp_path / "kernel").write_bytes(bytes(0x202) + b"HdrS")
    digest = hashlib.sha256(disk).hexdigest()
    catalogue = tmp_path / "images"
    catalogue.mkdir()
    (catalogue / "a_os_x.toml").write_text("format = 'raw'\n")
    for tag, file in (("b_os_x", "disk"), ("c_os_x", "kernel")):
        (catalogue / f"{tag}.toml").write_text(
            f'format = "raw"\ncontext = "script"\n[disk]\nsource = "{tmp_path}/{file}"\n'
            f'sha256 = "{digest}"\n'
        )
    config = Config.model_validate(
        {
            "cluster": "box",
            "lrms": "slurm",
            "images": {"catalogue": str(catalogue), "cache_dir": str(tmp_path / "cache")},
        }
    )
    bad, good, unfit = files.images(config)
    assert (bad.name, bad.status) == ("image a_os_x", Status.FAULT)
    assert "a_os_x.toml" in bad.remedy
    assert (good.name, good.status) == ("image b_os_x", Status.OK)
    assert (unfit.name, unfit.status) == ("image c_os_x", Status.FAULT)
    assert "it is a Linux kernel, not a disk" in unfit.seen


def test_networks_that_a_node_has_and_lacks() -> None:
    offers = [Offer(name="lan", bridge="br0"), Offer(name="lost", bridge="br9")]
    subnet, part = IPv4Network("10.2.0.0/24"), IPv4Network("10.2.0.64/28")
    for name, whose in (("given", "hv1"), ("held", "hv2")):
        offers.append(Offer(name=name, bridge="br0", subnet=subnet, batch={whose: part}))
    networks = ("none", "lan", "none", "given", "held")
    rules = [Batch(network=name) for name in networks] + [Batch(scratch=1)]
    found = list(network_verdicts.site_networks(offers, rules, {"lo", "br0"}, "hv1"))
    assert [(check.name, check.status) for check in found] == [
        ("network lan", Status.OK),
        ("network lost", Status.FAULT),
        ("network given", Status.OK),
        ("network held", Status.OK),
        ("network held", Status.WARNING),
        ("network none", Status.WARNING),
    ]
    assert "has no addresses of it for batch VMs" in found[4].seen
    assert "no bridge br9" in found[1].seen
    assert "tried elsewhere" in found[5].seen


def test_room() -> None:
    assert file_verdicts.space(Path("/s"), 511, 512).status is Status.FAULT
    assert file_verdicts.space(Path("/s"), 512, 512).status is Status.OK
    assert file_verdicts.scratch(2, 2047, able=True).status is Status.WARNING
    assert file_verdicts.scratch(2, 2048, able=True).status is Status.OK
    assert file_verdicts.scratch(2, 2048, able=False).status is Status.FAULT
    assert file_verdicts.cache_space(Path("/c"), 100, 50, 151).status is Status.WARNING
    assert file_verdicts.cache_space(Path("/c"), 100, 50, 150).status is Status.OK


@pytest.mark.parametrize(
    ("above", "itself", "expected"),
    [
        ((0, 0, 0o755), (0, 0, 0o644), None),
        ((0, 0, 0o775), (0, 0, 0o664), None),  # root's own group
        ((0, 0, 0o1777), (0, 0, 0o644), None),
        ((0, 0, 0o777), (0, 0, 0o644), "/a is writable by everybody"),
        ((0, 50, 0o775), (0, 0, 0o644), "/a is writable by group 50"),
        ((7, 0, 0o755), (0, 0, 0o644), "/a belongs to uid 7"),
        ((0, 0, 0o755), (0, 0, 0o1777), "/a/b is writable by everybody"),
        ((0, 0, 0o755), (1000, 0, 0o644), None),  # the one who asks
    ],
)
def test_who_may_write(
    above: tuple[int, int, int], itself: tuple[int, int, int], expected: str | None
) -> None:
    lineage = [Mode(Path("/a"), *above), Mode(Path("/a/b"), *itself)]
    assert file_verdicts.open_to_others(lineage, owner=1000) == expected


def test_lineage_of_real_folders(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o602)
    found = files.lineage(file)
    assert found[0].path == Path("/")
    assert found[-1].mode & 0o777 == 0o602
    assert file_verdicts.open_to_others(found, os.geteuid()) == f"{file} is writable by everybody"


@needs_root
def test_folders_that_another_user_can_t_pass() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to others
        inner = Path(name) / "inner"
        inner.mkdir(mode=0o711)
        inner.parent.chmod(0o711)
        assert files.closed_to(65534, 65534, [inner, inner / "later"]) == []
        inner.parent.chmod(0o700)
        found = files.closed_to(65534, 65534, [inner])
    assert found[0] == inner.parent
    assert file_verdicts.traversal(65534, found).status is Status.FAULT
    assert f"chmod o+x {inner.parent}" in file_verdicts.traversal(65534, found).remedy


def test_socket_clock_sfq() -> None:
    assert file_verdicts.control_socket(Path("/s"), 0o140666).status is Status.OK
    assert file_verdicts.control_socket(Path("/s"), 0o140600).status is Status.FAULT
    assert [verdicts.clock(state).status for state in (0, 5, -1)] == [
        Status.OK,
        Status.WARNING,
        Status.UNKNOWN,
    ]
    assert network_verdicts.sfq(None).status is Status.OK
    missing = network_verdicts.sfq("unshare: Error: Specified qdisc kind is unknown.")
    assert missing.status is Status.OK  # nothing of ours needs it
    assert network_verdicts.sfq("unshare: Operation not permitted").status is Status.UNKNOWN


def test_the_security_models_are_those_that_libvirt_names() -> None:
    text = "<capabilities><host><secmodel><model>apparmor</model><doi>0</doi></secmodel><secmodel>"
    text += "<model>dac</model></secmodel></host></capabilities>"
    assert confined_by(text) == {"apparmor", "dac"}
    assert confined_by("<capabilities><host/></capabilities>") == set()


def test_apparmor_lets_libvirt_start_what_debian_or_the_site_has_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LOCAL_PROFILES", tmp_path)
    ours = Path("/opt/wnodes/hooks/virtiofsd.py")
    assert files.apparmor_lets_start(Path("/usr/sbin/wnodes-virtiofsd"))
    assert not files.apparmor_lets_start(ours)
    assert str(ours) in verdicts.apparmor(ours, False).remedy
    assert verdicts.apparmor(ours, False).status is Status.FAULT
    local = tmp_path / "usr.sbin.libvirtd"
    local.write_text(f"# {ours} PUx,\n")
    assert not files.apparmor_lets_start(ours)
    local.write_text(f"  {ours} PUx,\n")
    assert files.apparmor_lets_start(ours)
    assert verdicts.apparmor(ours, True).status is Status.OK


@pytest.mark.parametrize(
    ("context", "expected"), [("script", Status.OK), ("guestfs", Status.FAULT), (None, Status.OK)]
)
def test_guestfs_lacks_only_where_an_image_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str | None, expected: Status
) -> None:
    monkeypatch.setitem(sys.modules, "guestfs", None)  # as if it were not installed
    config = Config(cluster="c", lrms="slurm", images={"catalogue": str(tmp_path)})
    if context:
        disk = {"source": "/srv/disk", "sha256": "0" * 64}
        image = Image.model_validate(
            {"tag": "a_linux_x86_64", "format": "raw", "disk": disk, "context": context}
        )
        catalogue.write(tmp_path, image)
    check = node._guestfs(config)
    assert check.status is expected
    assert bool(check.remedy) == (expected is Status.FAULT)
