"""Orders that no bridge has given, and lease jobs that nobody asked for: with the bridge's own
certificate and key for orders, as whoever has taken the bridge has them.
"""

import base64
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from contrib.site.box.grid import Grid
from contrib.site.box.layout import IMAGE, NODES, layout
from tests.e2e.box import call, wait_until
from tests.e2e.lrms.slurm import Job
from tests.e2e.test_cloud_identity import baits, user
from wnodes_lrms import order
from wnodes_lrms.order import LEASE_NAME, LeaseRequest, Order

GRID = Grid(layout())
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
OUTBOX = GRID.site.home / "outbox"  # where any user may write


def an_order(**changes: object) -> Order:
    """A good order, but for the job and the node that it is for."""
    return Order.model_validate(
        {
            "lease": str(uuid4()),
            "machine": str(uuid4()),
            "hostname": "forged",
            "dn": user("alice").dn,
            "account": "clouduser",
            "walltime": 600,
            "cores": 1,
            "memory": 256,
            "image": IMAGE,
        }
        | changes
    )


def signed(asked: LeaseRequest, key: str = "", at: float = 0, life: float = 600) -> str:
    """The order as a token, by the bridge's own key unless another is given."""
    return order.sign(asked, "box", key or GRID.order_key.read_text(), at or time.time(), life)


def another_key() -> str:
    """A key that no bait knows."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@contextmanager
def lease(
    wish: Order, *options: str, user: str = "clouduser", node: str = "hv1", waits: bool = True
) -> Iterator[Job]:
    """A job that says that it is the order's lease, of its size unless options say otherwise."""
    OUTBOX.mkdir(exist_ok=True)
    OUTBOX.chmod(0o1777)
    number = call(
        *["env", f"WNODES_LEASE={wish.lease}", "sbatch", "--parsable", "--chdir=/"],
        *[f"--job-name={LEASE_NAME}{wish.lease}", "--comment=wnodes-lease", "--no-requeue"],
        *["--constraint=wnodes", f"--cpus-per-task={wish.cores}", f"--mem={wish.memory + 128}"],
        *["--time=10", f"--nodelist={node}", "--wrap=true"],
        *[f"--output={OUTBOX}/%j.out", f"--error={OUTBOX}/%j.err", *options],
        user=user,
    ).strip()
    job = Job(number, OUTBOX)
    try:
        if waits:
            wait_until(lambda: waiting(node, wish, job), 30, f"it waits: {job.error}")
        yield job
    finally:
        call("scancel", number, check=False)


def bait(node: str) -> httpx.Client:
    """The bait's service of a node, as the bridge reaches it."""
    return baits()[NODES.index(node)]


def waiting(node: str, wish: Order, job: Job) -> bool:
    """Whether the bait of a node says that the job waits there for its order."""
    there = bait(node).get("/machines").json()["waiting"]
    return {"lease": str(wish.lease), "job": job.number} in there


def give(node: str, wish: Order, token: str = "") -> httpx.Response:
    """Hand an order in."""
    body = {"token": token or signed(wish)}
    return bait(node).put(f"/leases/{wish.lease}/order", json=body, timeout=30)


def of(wish: Order, job: Job, node: str = "hv1") -> Order:
    """The order for that job on that node."""
    return wish.model_copy(update={"job": job.number, "node": node})


def unwrapped(seen: bytes) -> bytes:
    """What somebody sees, and all that is wrapped in base64 in it, as a token is, however often."""
    words = re.findall(rb"[A-Za-z0-9_+/-]{16,}", seen)
    inside = b" ".join(
        base64.urlsafe_b64decode(word[: len(word) // 4 * 4].translate(_URL_SAFE)) for word in words
    )
    return seen + (unwrapped(inside) if words else b"")
