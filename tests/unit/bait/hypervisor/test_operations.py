"""Waiting for what a domain does not do at once. libvirt's test driver can do none of it."""

import errno
from contextlib import nullcontext
from pathlib import Path
from xml.etree.ElementTree import Element

import libvirt
import pytest

from bait.hypervisor import operations
from wnodes_lrms.errors import ConflictError, WnodesError

DISKS = "".join(f"<disk><target dev='{name}'/></disk>" for name in ("vda", "vdb", "vdc"))
NOW = nullcontext()
CARD = "<interface><mac address='52:54:00:00:00:01'/><target dev='wg1'/></interface>"


def named(name: str) -> operations.IsIt:
    return lambda device: device.find(f"target[@dev='{name}']") is not None


class Domain:
    """A domain that does what it is asked after `after` looks at it, if at all."""

    def __init__(self, state: int = libvirt.VIR_DOMAIN_RUNNING, after: float = 0) -> None:
        self._state = state
        self._after = after
        self.asked: list[str] = []
        self.copied: dict[str, object] = {"success": True}
        self.refusal = ""

    def _done(self) -> bool:
        self._after -= 1
        return bool(self.asked) and self._after < 0

    def state(self) -> list[int]:
        if self.asked and self._done():
            self._state = libvirt.VIR_DOMAIN_RUNNING
        return [self._state, libvirt.VIR_DOMAIN_PAUSED_USER]

    def resume(self) -> None:
        self.asked.append("resume")

    def pMWakeup(self) -> None:  # noqa: N802 (libvirt's name)
        self.asked.append("wake")

    def XMLDesc(self) -> str:  # noqa: N802
        return f"<domain><devices>{DISKS}{'' if self._done() else CARD}</devices></domain>"

    def detachDeviceFlags(self, xml: str, _flags: int) -> None:  # noqa: N802
        self.asked.append(xml)
        if self.refusal:
            raise libvirt.libvirtError(self.refusal)

    def backupBegin(self, xml: str, _checkpoint: None, _flags: int) -> None:  # noqa: N802
        self.asked.append(xml)
        if self.refusal:
            raise libvirt.libvirtError(self.refusal)

    def jobInfo(self) -> list[int]:  # noqa: N802
        none, running = libvirt.VIR_DOMAIN_JOB_NONE, libvirt.VIR_DOMAIN_JOB_UNBOUNDED
        return [none if not self.asked or self._done() else running]

    def jobStats(self, _flags: int) -> dict[str, object]:  # noqa: N802
        return self.copied

    def blockInfo(self, disk: str) -> list[int]:  # noqa: N802
        return [{"vdc": 2 << 30}[disk], 0, 0]

    def blockResize(self, disk: str, size: int, flags: int) -> None:  # noqa: N802
        assert flags == libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
        if self.refusal:
            raise libvirt.libvirtError(self.refusal)
        self.asked.append(f"{disk} {size >> 30}")

    def UUIDString(self) -> str:  # noqa: N802
        return "vm"


class Link:
    """A libvirt that refuses a domain with these errnos before it takes it."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.calls = 0
        self.flags: int | None = None

    def createXML(self, _xml: str, flags: int) -> None:  # noqa: N802
        self.calls += 1
        self.flags = flags
        if self.refusals:
            error = libvirt.libvirtError("refused")
            error.err = (38, 0, "refused", 2, None, None, None, self.refusals.pop(0), 0)
            raise error


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LETTING_GO", "_BUSY", "_WAKING"):
        monkeypatch.setattr(operations, name, 0.5)
    monkeypatch.setattr("bait.hypervisor.operations.time.sleep", lambda _seconds: None)


def is_card(device: Element) -> bool:
    return device.find("mac") is not None


def test_what_is_left_of_an_earlier_domain_is_waited_for() -> None:
    link = Link(errno.EBUSY, errno.EBUSY)
    operations.create(link, "<domain/>", held=False)
    assert (link.calls, link.flags) == (3, 0)


def test_a_domain_that_is_held_has_done_nothing_yet() -> None:
    link = Link()
    operations.create(link, "<domain/>", held=True)
    assert link.flags == libvirt.VIR_DOMAIN_START_PAUSED


@pytest.mark.parametrize(("refusal", "patience"), [(errno.EEXIST, 60.0), (errno.EBUSY, -1.0)])
def test_what_is_refused_otherwise_or_for_long_is_a_fault(
    refusal: int, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_BUSY", patience)
    link = Link(refusal)
    with pytest.raises(libvirt.libvirtError):
        operations.create(link, "<domain/>", held=False)
    assert link.calls == 1


@pytest.mark.parametrize(
    ("state", "after", "asked"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, 0, []),
        (libvirt.VIR_DOMAIN_PAUSED, 0, ["resume"]),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 3, ["wake"]),
    ],
)
def test_a_guest_goes_on_by_what_it_was_stopped_by(
    state: int, after: float, asked: list[str]
) -> None:
    domain = Domain(state, after)
    operations.resume(domain)
    assert domain.asked == asked
    assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_a_guest_that_does_not_wake_is_a_fault() -> None:
    with pytest.raises(WnodesError, match="does not wake"):
        operations.resume(Domain(libvirt.VIR_DOMAIN_PMSUSPENDED, after=float("inf")))


def test_a_disk_grows_and_never_shrinks() -> None:
    domain = Domain()
    for size in (1, 2, 3):
        operations.grow(domain, "vdc", size)
    assert domain.asked == ["vdc 3"]


@pytest.mark.parametrize(
    "said",
    [
        "internal error: unable to execute QEMU command 'block_resize': Permission conflict on node"
        " 'libvirt-3-format': permissions 'resize' are both required by an unnamed block device"
        " (uses node 'libvirt-3-format' as 'root' child) and unshared by node '#block032' (uses"
        " node 'libvirt-3-format' as 'file' child).",
        "Operation not supported: disk 'vdc' already in active block job",
    ],
)
def test_a_disk_that_is_copied_grows_later(said: str) -> None:
    """Its file has grown already: who wants it larger has to ask again, and not to forget it."""
    domain = Domain()
    domain.refusal = said
    with pytest.raises(ConflictError, match="is being copied: ask again"):
        operations.grow(domain, "vdc", 3)
    domain.refusal = "something else"
    with pytest.raises(libvirt.libvirtError):
        operations.grow(domain, "vdc", 3)


def test_of_one_disk_a_copy_is_made_and_waited_for(tmp_path: Path) -> None:
    domain = Domain(after=3)
    operations.backup(domain, named("vda"), tmp_path / "copy.qcow2", "qcow2", NOW)
    (xml,) = domain.asked
    assert str(tmp_path / "copy.qcow2") in xml
    for disk, backed_up in (("vda", "type='file' backup='yes'"), ("vdb", "backup='no'")):
        assert f"<disk name='{disk}' {backed_up}" in xml


def test_a_disk_that_has_gone_leaves_its_name_to_no_other(tmp_path: Path) -> None:
    """Another one is by that name in the guest, when who copies comes to have its turn."""
    domain = Domain()
    with pytest.raises(ConflictError, match="let go of it: ask again"):
        operations.backup(domain, lambda disk: disk.findtext("serial") == "s", tmp_path, "raw", NOW)
    assert domain.asked == []


def test_a_disk_that_goes_as_its_copy_begins_is_asked_for_again(tmp_path: Path) -> None:
    class Leaving(Domain):
        def backupBegin(self, _xml: str, _checkpoint: None, _flags: int) -> None:  # noqa: N802
            self.asked.append("copy")
            raise libvirt.libvirtError("unsupported configuration: no disk named 'vdc'")

        def XMLDesc(self) -> str:  # noqa: N802
            return "<domain/>" if self.asked else super().XMLDesc()

    with pytest.raises(ConflictError, match="let go of it: ask again"):
        operations.backup(Leaving(), named("vdc"), tmp_path, "raw", NOW)
    refusing = Domain()
    refusing.refusal = "no"
    with pytest.raises(libvirt.libvirtError):
        operations.backup(refusing, named("vdc"), tmp_path, "raw", NOW)


def test_a_copy_of_a_killed_baits_is_waited_for(tmp_path: Path) -> None:
    class Busy(Domain):
        def __init__(self) -> None:
            super().__init__()
            self.looks = 3

        def jobInfo(self) -> list[int]:  # noqa: N802
            self.looks -= 1
            return [libvirt.VIR_DOMAIN_JOB_UNBOUNDED] if self.looks > 0 else super().jobInfo()

        def backupBegin(self, xml: str, checkpoint: None, flags: int) -> None:  # noqa: N802
            assert self.looks <= 0
            super().backupBegin(xml, checkpoint, flags)

    domain = Busy()
    operations.backup(domain, named("vda"), tmp_path / "copy.qcow2", "qcow2", NOW)
    assert len(domain.asked) == 1


def test_a_copy_that_failed_is_none(tmp_path: Path) -> None:
    domain = Domain()
    domain.copied = {"success": False}
    with pytest.raises(WnodesError, match="VM vm: the copy of its disk failed"):
        operations.backup(domain, named("vda"), tmp_path / "copy.qcow2", "qcow2", NOW)


def test_a_device_is_taken_out_by_one_request() -> None:
    domain = Domain(after=3)
    operations.detach(domain, CARD, is_card)
    assert domain.asked == [CARD]


def test_a_disk_that_is_copied_is_taken_out_later() -> None:
    domain = Domain()
    domain.refusal = "Operation not supported: disk 'vdc' already in active block job"
    with pytest.raises(ConflictError, match="is being copied: ask again"):
        operations.detach(domain, "<disk/>", named("vdc"))


def test_a_device_that_is_not_there_is_out_already() -> None:
    domain = Domain()
    operations.detach(domain, CARD, lambda device: device.find("no") is not None)
    assert domain.asked == []


@pytest.mark.parametrize("refusal", ["is already in the process of unplug", "guest is busy"])
def test_what_qemu_has_asked_already_can_be_asked_again(
    refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"unable to execute QEMU command 'device_del': Device virtio-disk2 {refusal}"
    monkeypatch.setattr(libvirt.libvirtError, "__str__", lambda _error: said)
    late, never = Domain(after=3), Domain(after=float("inf"))
    late.refusal = never.refusal = said
    operations.detach(late, CARD, is_card)
    with pytest.raises(ConflictError, match="has not yet"):
        operations.detach(never, CARD, is_card)


def test_what_libvirt_refuses_is_not_the_guests_fault() -> None:
    domain = Domain(after=float("inf"))
    domain.refusal = "no such device"
    with pytest.raises(libvirt.libvirtError):
        operations.detach(domain, CARD, is_card)


def test_a_guest_that_holds_on_to_a_device_is_a_conflict() -> None:
    domain = Domain(after=float("inf"))
    with pytest.raises(ConflictError, match="is it mounted"):
        operations.detach(domain, CARD, is_card)
    assert domain.asked == [CARD]


CHANNEL = "<channel><target name='{name}' state='{state}'/></channel>"


class Agent:
    """A domain with a channel to an agent in its guest."""

    def __init__(self, name: str, state: str, runs: bool = True) -> None:
        self._xml = CHANNEL.format(name=name, state=state)
        self._state = libvirt.VIR_DOMAIN_RUNNING if runs else libvirt.VIR_DOMAIN_PAUSED
        self.asked: list[object] = []

    def XMLDesc(self) -> str:  # noqa: N802 (libvirt's name)
        return f"<domain><devices>{self._xml}</devices></domain>"

    def state(self) -> list[int]:
        return [self._state, 0]

    def agentSetResponseTimeout(self, seconds: int) -> None:  # noqa: N802
        self.asked.append(seconds)

    def fsFreeze(self) -> int:  # noqa: N802
        self.asked.append("freeze")
        return 2

    def fsThaw(self) -> int:  # noqa: N802
        self.asked.append("thaw")
        return 2


def test_an_agent_has_five_seconds_for_its_answer() -> None:
    guest = Agent("org.qemu.guest_agent.0", "connected")
    assert operations.freeze(guest)
    assert operations.thaw(guest) == 2
    assert guest.asked == [5, "freeze", 5, "thaw"]


@pytest.mark.parametrize(
    ("name", "state", "runs"),
    [
        ("org.qemu.guest_agent.0", "disconnected", True),
        ("org.libguestfs.channel.0", "connected", True),
        ("org.qemu.guest_agent.0", "connected", False),
    ],
)
def test_who_can_not_hear_is_not_asked(name: str, state: str, runs: bool) -> None:
    guest = Agent(name, state, runs)
    assert not operations.freeze(guest)
    assert operations.thaw(guest) is None  # nothing follows from that
    assert guest.asked == []
