"""The site in a box, as its users and its administrator use it.

`make e2e` brings the site up, runs these tests in its environment and takes it down.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from contrib.site.box.layout import IMAGE
from tests.e2e.patience import BUSY, deadline
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image

USER = "griduser"
# What a script says of the kernel that it runs in, and this one's own word.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
FACTS = """
echo "kernel $(uname -r)"
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
"""

if "WNODES_SITE" not in os.environ:
    pytest.exit("these tests need the site in a box: run `make e2e`", returncode=2)

CATALOGUE = Path(os.environ.get("WNODES_SITE", "")) / "etc" / "images"
GOOD = catalogue.read(CATALOGUE, IMAGE)


def call(*argv: str, check: bool = True, user: str | None = None, **options: object) -> str:
    """Standard output of a command, run as root or as a user."""
    who = ["runuser", "-u", user, "--"] if user else []
    done = subprocess.run([*who, *argv], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: {done.returncode}: {done.stderr}")
    return str(done.stdout)


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to become true."""
    end = deadline(seconds)
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {BUSY * seconds} s: {what}")
        time.sleep(0.2)


def wait_until_none(left: Callable[[], Sequence[str]], seconds: float) -> None:
    """Wait until nothing is left; what is, in words, is the message if that takes longer."""
    end = deadline(seconds)
    while found := left():
        if time.monotonic() > end:
            raise AssertionError(f"left after {BUSY * seconds} s: {list(found)}")
        time.sleep(0.2)


def has_agent(machine: str) -> bool:
    """Whether an agent in the guest has opened its end of the channel."""
    return "guest_agent.0' state='connected'" in call("virsh", "dumpxml", machine)


def machines() -> list[dict[str, object]]:
    """`wnodes vm list --json`."""
    found: list[dict[str, object]] = json.loads(call("wnodes", "vm", "list", "--json"))
    return found


def remains() -> list[str]:
    """Whatever of a machine is still on this site, beside its job, in words."""
    root = Path(os.environ["WNODES_SITE"])
    found = [f"ledger row {m['id']} {m['state']}" for m in machines()]
    found += [f"domain {name}" for name in call("virsh", "list", "--all", "--name").split()]
    for folder in root.glob("*/hv[12]/machines/*"):
        found.append(f"files {folder}")
    # The pool's lock stays.
    for pattern in ("spool/volumes/[!.]*", "spool/hv[12]/volumes/[!.]*", "spool/saved/*"):
        found += [f"files {path}" for path in root.glob(pattern)]
    for bridge in ("wn-box-hv1", "wn-box-hv2"):
        taps = Path(f"/sys/class/net/{bridge}/brif")
        found += [f"tap {tap.name}" for tap in taps.glob("*")]
    found += [f"tunnel {device.name}" for device in Path("/sys/class/net").glob("wx*")]
    found += [f"queue {device.name}" for device in Path("/sys/class/net").glob("wf*")]
    networks = set(call("virsh", "net-list", "--all", "--name").split())
    return found + [f"network {name}" for name in networks - {"box-hv1", "box-hv2"}]


@contextmanager
def variant(tag: str, **changes: object) -> Iterator[str]:
    """A variant of the good image in the catalogue while this lasts."""
    catalogue.write(CATALOGUE, Image.model_validate(GOOD.model_dump() | {"tag": tag} | changes))
    call("wnodes", "hooks", "install")
    try:
        yield tag
    finally:
        call("wnodes", "image", "remove", tag)
