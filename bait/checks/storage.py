"""What users' volumes in Ceph need on this node, for `wnodes doctor`."""

import shutil
from collections.abc import Iterator

from bait.checks import verdicts
from bait.checks.bounded import LIBVIRT, bounded
from bait.cloud.ceph import Ceph
from bait.hypervisor.inventory import has_secret
from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, unknown
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.run import call

_PROGRAMS = ("rbd", "rados", "ceph")
_SHORT = 10.0  # seconds for an answer


def checks(config: Config) -> Iterator[Check]:
    """Nothing where the cloud service is not in use, or volumes are files."""
    pool = config.cloud.pool
    if not config.api.clients or pool.kind != "rbd":
        return
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        said = f"{', '.join(missing)} not found in PATH: there are no volumes here"
        yield fault("volumes", said, "install ceph-common")
    else:
        ceph = Ceph(pool.conf, pool.user, pool.name, patience=_SHORT)
        try:
            yield verdicts.ceph(pool.name, *ceph.room(), ceph.promised())
        except WnodesError as error:
            yield fault(
                "volumes",
                f"Ceph's pool {pool.name} does not answer: {error}",
                f"see {pool.conf} and the keyring and capabilities of client.{pool.user}: the"
                " manual, install-cloud, has them",
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
        "virsh secret-define and secret-set-value: the manual, install-cloud, has the lines",
    )
