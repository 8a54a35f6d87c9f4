"""Whether KVM truly works here: a Linux kernel is booted in it, with a deadline.

/dev/kvm can exist, open, and run a boot sector as far as long mode, and a kernel still hang in
its first second. So the probe is a kernel of the node's own, without any root disk: one that comes
as far as its panic over that has worked. The answer is kept until kernel, QEMU or boot change,
or the device comes or goes.
"""

import json
import logging
import platform
import subprocess
from pathlib import Path

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.run import LOCAL, run

_DEADLINE = 10.0  # seconds; a working KVM takes about one
_PROOF = "Kernel panic"
DEVICE = Path("/dev/kvm")

log = logging.getLogger(__name__)


def qemu(of_el: Path = Path("/usr/libexec/qemu-kvm")) -> str:
    """The program: Enterprise Linux has one only, where nobody's PATH leads to."""
    return str(of_el) if of_el.exists() else "qemu-system-x86_64"


QEMU = qemu()


def kvm_works(memory: Path) -> bool:
    """The answer for this VM, remembered in the file `memory`."""
    identity = _identity()
    try:
        kept = json.loads(memory.read_text())
        if kept["identity"] == identity:
            return bool(kept["kvm"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no answer yet, or one that can't be read: ask again
    works, why = run_guest("kvm")
    log.info("KVM %s: %s", "works" if works else "is not used", why)
    memory.write_text(json.dumps({"identity": identity, "kvm": works, "why": why}))
    return works


def run_guest(accel: str, deadline: float = _DEADLINE) -> tuple[bool, str]:
    """Run the probe guest under an accelerator; whether it ran to its end, and what was seen."""
    if accel == "kvm" and not DEVICE.exists():
        return False, f"there is no {DEVICE}"
    kernel = _kernel()
    if kernel is None:
        return False, "there is no kernel in /boot to probe with; if KVM works, set accel = 'kvm'"
    argv = [QEMU, "-accel", accel, "-machine", "q35", "-m", "128", "-nodefaults", "-no-reboot"]
    argv += ["-cpu", "host" if accel == "kvm" else "max", "-display", "none", "-serial", "stdio"]
    argv += ["-kernel", str(kernel), "-append", "console=ttyS0 quiet panic=-1 edd=off"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"a probe guest hung for {deadline:g} s"
    except OSError as error:
        return False, f"{QEMU}: {error.strerror}"
    if _PROOF in done.stdout:
        return True, "a probe guest ran to its end"
    said = done.stderr.strip().splitlines()
    return False, said[-1] if said else f"{QEMU} ended with {done.returncode}"


def _kernel() -> Path | None:
    own = Path(f"/boot/vmlinuz-{platform.release()}")
    others = sorted(Path("/boot").glob("vmlinuz-*"))
    return own if own.exists() else others[-1] if others else None


def _identity() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.release()} {boot} {_version() if DEVICE.exists() else f'no {DEVICE}'}"


def _version() -> str:
    try:
        return run([QEMU, "--version"], deadline=LOCAL).splitlines()[0]
    except WnodesError as error:
        return str(error)
