"""libvirt's own logs of our VMs, which nobody else ever removes: two files or more for each VM."""

import re
import time
from collections.abc import Collection
from pathlib import Path

FOLDER = Path("/var/log/libvirt/qemu")  # of qemu:///system
_KEPT = 7 * 86400.0  # seconds after the last word: long enough to ask why a VM has failed
# Of a job and its restart, or of a cloud VM: another cluster's name may begin as this one's does.
_VM = r"(\d+(\[\d*\])?(\.[\w.-]+?)?-\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
# Of QEMU, and of what serves its shared folders; virtlogd adds numbers.
_LOG = r"(-fs\d+-virtiofsd)?\.log(\.\d+)?"


def sweep(folder: Path, cluster: str, living: Collection[str]) -> None:
    """Remove what is older than a week, of a cluster's domains but of none of the `living`.

    Raises OSError for a folder that can't be read.
    """
    if not folder.is_dir():
        return
    log = re.compile(rf"(?P<domain>wnodes-{re.escape(cluster)}-{_VM}){_LOG}", re.ASCII)
    for path in folder.iterdir():
        name = log.fullmatch(path.name)
        if name and name["domain"] not in living and _is_old(path):
            path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - _KEPT
    except FileNotFoundError:  # virtlogd has renamed it
        return False
