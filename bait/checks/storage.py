"""What users' volumes in Ceph or LVM need on this node, for `wnodes doctor`."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bait.checks import storage_verdicts
from bait.checks.bounded import LIBVIRT, bounded
from bait.hypervisor.inventory import has_secret
from bait.volumes.ceph import Ceph
from bait.volumes.lvm import Lvm
from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, unknown, warning
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.run import call

_OF_CEPH = {"rbd": "ceph-common", "rados": "ceph-common", "ceph": "ceph-common"}
# Without the last LVM activates no thin pool.
_OF_LVM = {"lvs": "lvm2", "blkdiscard": "util-linux", "thin_check": "thin-provisioning-tools"}
_RULES = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
_SHORT = 10.0  # seconds for an answer


def checks(config: Config) -> Iterator[Check]:
    """Nothing where the cloud service is not in use, or volumes are files."""
    if not config.api.clients:
        return
    if config.cloud.pool.kind == "rbd":
        yield from _in_ceph(config)
    elif config.cloud.pool.kind == "lvm":
        yield from _in_lvm(config)


def _missing(programs: Mapping[str, str]) -> Check | None:
    """What to install, of programs and the packages that have them."""
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return None
    said = f"{', '.join(missing)} not found in PATH: there are no volumes here"
    packages = dict.fromkeys(programs[name] for name in missing)
    return fault("volumes", said, f"install {' '.join(packages)}")


def _in_lvm(config: Config) -> Iterator[Check]:
    if missing := _missing(_OF_LVM):
        yield missing
        return
    pool = config.cloud.pool
    name = f"{pool.group}/{pool.name}"
    try:
        found = Lvm(pool.group or "", pool.name, patience=_SHORT).look()
    except WnodesError as error:
        remedy = f"lvcreate --type thin-pool makes {name}: docs/install-cloud.md has the lines"
        yield fault("volumes", f"thin pool {name}: {error}", remedy)
        return
    yield from storage_verdicts.thin_pool(name, found, wipe=config.cloud.wipe)
    yield _rule()


def _rule() -> Check:
    """By its name: what udev makes of it only a volume shows."""
    name = "volumes and udev"
    if any(path for folder in _RULES for path in Path(folder).glob("*-wnodes.rules")):
        return ok(name, "a rule keeps it out of what users write")
    return warning(
        name,
        "no rule keeps its programs, which are root's, out of what users write into volumes",
        "docs/install-cloud.md has the rule",
    )


def _in_ceph(config: Config) -> Iterator[Check]:
    pool = config.cloud.pool
    if missing := _missing(_OF_CEPH):
        yield missing
    else:
        ceph = Ceph(pool.conf, pool.user, pool.name, patience=_SHORT)
        try:
            yield storage_verdicts.ceph(pool.name, *ceph.room(), ceph.promised())
        except WnodesError as error:
            yield fault(
                "volumes",
                f"Ceph's pool {pool.name} does not answer: {error}",
                f"see {pool.conf} and the keyring and capabilities of client.{pool.user}:"
                " docs/install-cloud.md has them",
            )
    yield _driver(pool.conf)
    if pool.secret:
        yield _secret(config.bait.libvirt_uri, pool.secret)


def _driver(conf: str) -> Check:
    """A pool that is not there: the driver says so, or QEMU that it has no driver."""
    try:
        ended = call(["qemu-img", "info", f"rbd:none/none:conf={conf}"], deadline=_SHORT)
    except UnknownError as error:  # it has none, or the driver waits for a cluster that is away
        return unknown("volumes in QEMU", f"can't be looked at: {error}")
    if "Unknown protocol" in ended.errors or "Unknown driver" in ended.errors:
        return fault(
            "volumes in QEMU",
            "QEMU has no driver for Ceph: no VM with a volume starts",
            "install qemu-block-extra (Debian) or qemu-kvm-block-rbd (EL)",
        )
    return ok("volumes in QEMU", "it has the driver for Ceph")


def _secret(uri: str, secret: str) -> Check:
    if bounded(LIBVIRT, lambda: has_secret(uri, secret)):
        return ok("volumes in libvirt", f"it has the secret {secret}")
    return fault(
        "volumes in libvirt",
        f"it has no secret {secret} for Ceph: no VM with a volume starts",
        "virsh secret-define and secret-set-value: docs/install-cloud.md has the lines",
    )
