"""What there is to see of a libvirt without changing anything; for the checks of a node."""

import pwd
from collections.abc import Iterator
from contextlib import suppress
from xml.etree import ElementTree

import libvirt

from bait.hypervisor.connections import be_quiet, dotted
from bait.hypervisor.domain import Inventory
from wnodes_lrms.errors import UnknownError


def look(uri: str) -> Inventory:
    """Look at a libvirt, over a read-only connection. Raises UnknownError if it is away."""
    be_quiet()
    try:
        link = libvirt.openReadOnly(uri)
        number, qemu = link.getLibVersion(), link.getVersion()
        return Inventory(
            f"libvirt {dotted(number)}, {link.getType()} {dotted(qemu)}",
            frozenset(link.listNetworks()),
            qemu_user(link.getCapabilities()),
            confined_by(link.getCapabilities()),
        )
    except libvirt.libvirtError as error:
        raise UnknownError(f"libvirt does not answer at {uri}: {error}") from error


def has_secret(uri: str, secret: str) -> bool:
    """Whether a libvirt has a secret for Ceph with this UUID. Raises UnknownError if it is away."""
    be_quiet()
    try:
        found = libvirt.openReadOnly(uri).secretLookupByUUIDString(secret)
        return bool(found.usageType() == libvirt.VIR_SECRET_USAGE_TYPE_CEPH)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return False
        raise UnknownError(f"libvirt does not answer at {uri}: {error}") from error


def qemu_user(capabilities: str) -> tuple[int, int] | None:
    """Uid and gid of QEMU's processes; None if libvirt does not tell.

    From the label that libvirt's ownership driver ("dac") gives, such as `+64055:+64055`."""
    for model in ElementTree.fromstring(capabilities).iterfind("host/secmodel"):  # noqa: S314
        label = model.findtext("baselabel") or ""
        if model.findtext("model") == "dac" and ":" in label:
            uid, _, gid = label.partition(":")
            return int(uid), int(gid)
    return None


def confined_by(capabilities: str) -> frozenset[str]:
    """The security models that libvirt confines VMs by: `apparmor`, `selinux`, `dac`."""
    models = ElementTree.fromstring(capabilities).iterfind("host/secmodel/model")  # noqa: S314
    return frozenset(model.text or "" for model in models)


def usual_qemu_uids() -> Iterator[int]:
    """Of the accounts that Debian's and Enterprise Linux's libvirt run QEMU as."""
    for name in ("libvirt-qemu", "qemu"):
        with suppress(KeyError):
            yield pwd.getpwnam(name).pw_uid
