"""Operations on a domain that libvirt does not end at once: each waits for its end.

All raise libvirt.libvirtError for what libvirt refuses.
"""

import errno
import json
import logging
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt
import libvirt_qemu

from bait.hypervisor.domain_state import sleeps
from wnodes_lrms.errors import ConflictError, WnodesError
from wnodes_lrms.resources import render

_LETTING_GO = 3.0  # seconds to wait for a guest to let go of a device, beside libvirt's own 5
_BUSY = 5.0  # seconds for libvirt to let go of what an earlier domain had
_LET_GO = "the VM has let go of it: ask again"
_IS_COPIED = "the volume is being copied: ask again"
_COPIED = re.compile("Permission conflict on node|active block job")  # QEMU's, libvirt's
_WAKING = 10.0  # seconds that a guest has to wake
_ANSWERS = 5  # seconds that a guest's agent has for an answer; without it libvirt waits for ever
_AGENT = "target[@name='org.qemu.guest_agent.0']"  # of its channel, see domain.xml.j2

log = logging.getLogger(__name__)

IsIt = Callable[[ElementTree.Element], bool]  # tells a device among others


def create(link: libvirt.virConnect, xml: str, *, held: bool) -> None:
    """Start a transient domain; `held`, with its CPUs stopped.

    libvirt is asked again where something is left of a domain that has just ended, or of a killed
    libvirtd: a log file that is still open, a card that has not quite gone.
    """
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            link.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED if held else 0)
            return
        except libvirt.libvirtError as error:
            if error.get_int1() != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def resume(domain: libvirt.virDomain) -> None:
    """Let its CPUs run again; a guest that sleeps is woken. Raises WnodesError if it does not."""
    if sleeps(domain):
        _wake(domain)
    deadline = time.monotonic() + _WAKING
    while (state := domain.state()[0]) in (
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PMSUSPENDED,
    ):
        if time.monotonic() > deadline:
            raise WnodesError("the guest does not wake")
        if state == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()
        time.sleep(0.1)


def _wake(domain: libvirt.virDomain) -> None:
    """Wake the guest, also where a libvirtd that was away has missed that it fell asleep, or woke.

    Such a one does not find out by itself: it hears only of what QEMU stops and continues.
    """
    if domain.state()[0] != libvirt.VIR_DOMAIN_PMSUSPENDED:
        with suppress(libvirt.libvirtError):  # QEMU was stopped for another reason
            domain.pMWakeup()
        _tell_qemu(domain, "stop")
        return
    try:
        domain.pMWakeup()
    except libvirt.libvirtError:
        if _tell_qemu(domain, "query-status")["status"] == "suspended":
            raise
        _tell_qemu(domain, "stop")
        _tell_qemu(domain, "cont")


def _tell_qemu(domain: libvirt.virDomain, command: str) -> Any:
    """What QEMU answers to a command of its machine protocol (QMP)."""
    said = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0)
    return json.loads(said)["return"]


def freeze(domain: libvirt.virDomain) -> bool:
    """Have its guest's agent freeze all file systems; False if none does.

    After an error the guest may freeze them yet.
    """
    if not _hears(domain):
        return False
    domain.agentSetResponseTimeout(_ANSWERS)
    return bool(domain.fsFreeze())


def thaw(domain: libvirt.virDomain) -> int | None:
    """Have the agent thaw all that are frozen; how many it has. None if none can hear now."""
    if not _hears(domain):
        return None
    domain.agentSetResponseTimeout(_ANSWERS)
    return int(domain.fsThaw())


def _hears(domain: libvirt.virDomain) -> bool:
    """Whether the guest runs, and an agent in it has opened its end of the channel."""
    if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
        return False
    ends = [device.find(_AGENT) for device in _devices(domain) if device.tag == "channel"]
    return any(end is not None and end.get("state") != "disconnected" for end in ends)


def backup(
    domain: libvirt.virDomain,
    is_it: IsIt,
    file: Path,
    form: str,
    moment: AbstractContextManager[object],
) -> None:
    """Copy a disk, as it is at one moment, into a file of that format that needs no other. `moment`
    lasts while that is taken. A file that is there has to be as large. Raises ConflictError if the
    disk is not in, WnodesError otherwise."""
    _wait_for_jobs(domain)  # such as a copy that a bait had begun before it was killed
    disks = [device for device in _devices(domain) if device.tag == "disk"]
    disk = next((_name(device) for device in disks if is_it(device)), None)
    if disk is None:
        raise ConflictError(_LET_GO)
    others = [name for name in map(_name, disks) if name != disk]
    xml = render("backup.xml.j2", xml=True, disk=disk, others=others, file=file, form=form)
    there = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL if file.exists() else 0
    try:
        with moment:
            domain.backupBegin(xml, None, there)
    except libvirt.libvirtError as error:
        if not has(domain, is_it):
            raise ConflictError(_LET_GO) from error
        raise
    _wait_for_jobs(domain)
    done = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if not done.get("success", True):
        raise WnodesError(f"VM {domain.UUIDString()}: the copy of its disk failed")


def _wait_for_jobs(domain: libvirt.virDomain) -> None:
    while domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(0.2)


def _name(disk: ElementTree.Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev") or ""


def attach(domain: libvirt.virDomain, xml: str, is_it: IsIt) -> None:
    """Plug a device in; one that is in is success. `is_it` tells it among the others."""
    if has(domain, is_it):
        return
    try:
        domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError:
        if not has(domain, is_it):  # somebody else has plugged it in meanwhile
            raise


def detach(domain: libvirt.virDomain, xml: str, is_it: IsIt) -> None:
    """Ask the guest to let go of a device; one that is not there is success.

    It can be asked again. Raises ConflictError if the device is still there after a moment: the
    guest may let go at any time later, or never; and while it is a disk that is copied.
    """
    if not has(domain, is_it):
        return
    try:
        domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if _COPIED.search(str(error)):
            raise ConflictError(_IS_COPIED) from error
        # QEMU says no while the guest has not answered the last request.
        if "'device_del'" not in str(error) and has(domain, is_it):
            raise
        log.info("VM %s: %s", domain.UUIDString(), error)
    deadline = time.monotonic() + _LETTING_GO
    while has(domain, is_it):
        if time.monotonic() > deadline:
            raise ConflictError(
                "the guest has been asked to let go of it, and has not yet: is it mounted? A guest"
                " that never does lets go when the VM is stopped"
            )
        time.sleep(0.1)


def grow(domain: libvirt.virDomain, disk: str, size: int) -> None:
    """Have a disk of at least `size` GiB: the guest is told. A disk never shrinks. Raises
    ConflictError while it is copied: QEMU lets none grow then."""
    wanted = size << 30
    if domain.blockInfo(disk)[0] < wanted:
        try:
            domain.blockResize(disk, wanted, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        except libvirt.libvirtError as error:
            if _COPIED.search(str(error)):
                raise ConflictError(_IS_COPIED) from error
            raise


def has(domain: libvirt.virDomain, is_it: IsIt) -> bool:
    """Whether one of its devices is it."""
    return any(is_it(device) for device in _devices(domain))


def _devices(domain: libvirt.virDomain) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/*"))  # noqa: S314
