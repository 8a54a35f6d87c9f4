"""The bait's HTTPS service, with classes of this file in the places of the parts that it asks."""

import asyncio
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from bait.frontend import https
from bait.frontend.ports import Line, Listener
from tests.unit.conftest import settings
from wnodes_lrms.config import load as config
from wnodes_lrms.errors import (
    AbsentError,
    RejectedError,
)
from wnodes_lrms.lrms.lease import Lease, Request
from wnodes_lrms.order import Nic, Order, sign
from wnodes_lrms.rates import Flow, Flows
from wnodes_lrms.tls.http_protocol import CHAIN
from wnodes_lrms.tunnel import Tunnel

MACHINE, VOLUME, NIC, LEASE = (str(uuid.UUID(int=number)) for number in range(1, 5))
BRIDGE = "/DC=org/O=Box/CN=bridge"
SHOWN: dict[str, Any] = {
    "id": MACHINE,
    "lease": LEASE,
    "job": "7",
    "state": "running",
    "crashed": False,
    "reason": "",
    "cores": 1,
    "memory": 512,
    "image": "small_linux_x86_64",
    "since": 1.5,
    "node": "hv1",
    "nics": [
        {
            "id": NIC,
            "mac": "52:54:00:00:00:01",
            "address": "192.168.190.2",
            "inbound": 5,
            "outbound": None,
            "flows": {"inbound": {"limit": 5, "passing": 17, "passed": 4, "dropped": 0}},
        }
    ],
    "volumes": [],
}


class FakeVolumes:
    local = False

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def list(self) -> dict[str, int]:
        return self.sizes


def noted(name: str) -> Callable[..., None]:
    """A method that notes its call, and no more."""

    def method(cloud: "FakeCloud", *call: object) -> None:
        cloud.note(name, *call)

    return method


class FakeTunnels:
    """In the place of the tunnels to other nodes."""

    end = "10.1.0.3:4789"

    def __init__(self) -> None:
        self.told: dict[str, Tunnel] = {}

    def held(self) -> dict[str, Tunnel]:
        return self.told

    def put(self, wanted: Mapping[str, Tunnel]) -> None:
        if any(tunnel.vni == 7 for tunnel in wanted.values()):
            raise RejectedError("no")
        self.told = dict(wanted)


class FakeStatus:
    """In the place of what is told for people to see."""

    def room(self) -> dict[str, Any]:
        return {"cores": 3, "memory": None, "at": 9.0}

    def sources(self) -> dict[str, float]:
        return {"lrms": 8.0, "libvirt": 0.0}


USAGE = {"number": 3, "dn": "/C=IT/CN=A", "cores": 2, "began": 5.0, "wall": 60.0, "held": 0.0}


class FakeCloud:
    """In the place of the cloud controller: notes what it is asked, and may be told to fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.fault: Exception | None = None
        self.stuck: threading.Event | None = None  # acts wait for it, as for a libvirt that hangs
        self.shown = [SHOWN]
        self._volumes = FakeVolumes()

    @property
    def volumes(self) -> FakeVolumes:
        return self._volumes

    def note(self, *call: object) -> None:
        self.calls.append(call)
        if self.stuck:
            self.stuck.wait()
        if self.fault:
            raise self.fault

    def machines(self) -> list[dict[str, Any]]:
        return self.shown

    def machine(self, machine: str) -> dict[str, Any]:
        self.note("machine", machine)
        return SHOWN

    def console(self, machine: str) -> str:
        self.note("console", machine)
        return "\x1b[2Jlogin:"

    def console_of(self, machine: str, owner: str) -> Callable[[Listener], Line]:
        self.note("console_of", machine, owner)
        raise AbsentError("no VM of theirs here")

    def outcomes(self) -> list[dict[str, Any]]:
        return [{"lease": LEASE, "machine": MACHINE, "job": "6", "reason": "it was deleted"}]

    def draining(self) -> dict[str, Any] | None:
        return {"since": 5.0, "by": None, "reason": "new disks"}

    def usages(self, since: float) -> list[dict[str, Any]]:
        self.note("usages", since)
        return [USAGE]

    def saved(self) -> dict[str, Any]:
        return {"tags": ["mine_linux_x86_64"], "busy": [], "failed": {"a_b_c": "disk full"}}

    def attach_volume(self, *call: object) -> str:
        self.note("attach_volume", *call)
        return "vdc"

    def attach_nic(self, machine: str, nic: Nic) -> dict[str, Any]:
        self.note("attach_nic", machine, nic)
        return {"id": str(nic.id), "mac": nic.mac, "address": ""}

    @property
    def jobs(self) -> "FakeCloud":
        return self

    def waiting(self) -> list[dict[str, Any]]:
        return [{"lease": LEASE, "job": "41"}]

    def where(self, job: str) -> str | None:
        self.note("where", job)
        return None if job == "42" else "hv2"

    def news(self, *call: object) -> str:
        self.note("news", *call)
        return "17"

    def census(self) -> Mapping[tuple[str, str], int]:
        return Counter({("batch", "ready"): 2, ("cloud", "stopped"): 1})

    def flows(self) -> Mapping[tuple[str, str], Flows]:
        return {("vm", "wg1"): Flows(Flow(limit=5, passing=4_000_000, passed=17, dropped=3))}

    stop = noted("stop")
    restart = noted("restart")
    suspend = noted("suspend")
    resume = noted("resume")
    delete = noted("delete")
    save = noted("save")
    delete_saved = noted("delete_saved")

    def have_volume(self, volume: str, size: int) -> None:
        self.note("have_volume", volume, size)
        self._volumes.sizes[volume] = size

    def copy_volume(self, source: str, volume: str) -> dict[str, Any]:
        self.note("copy_volume", source, volume)
        return {"done": True, "size": 3, "consistency": "crash", "at": 7.5}

    delete_volume = noted("delete_volume")
    detach_volume = noted("detach_volume")
    detach_nic = noted("detach_nic")
    ping = noted("ping")
    hand_in = noted("hand_in")
    wake = noted("wake")


class FakeLeases:
    """In the place of the batch system."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled: list[tuple[str, str]] = []
        self.listed = 0
        self.fault: Exception | None = None

    def submit(self, request: Request) -> str:
        if self.fault:
            raise self.fault
        self.requests.append(request)
        return "41"

    def cancel(self, lease: str, job: str) -> None:
        self.cancelled.append((lease, job))

    def list(self) -> Sequence[Lease]:
        self.listed += 1
        if self.fault:
            raise self.fault
        return [Lease(LEASE, "41", "cloud001", "pending", reason="Priority")]


class Client:
    """Asks an application that runs in one event loop, from whatever thread."""

    def __init__(self, app: ASGIApp) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="https://hv1")

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        asked = self._client.request(method, path, **more)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(10)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, json: object) -> httpx.Response:
        return self.request("POST", path, json=json)

    def put(self, path: str, json: object) -> httpx.Response:
        return self.request("PUT", path, json=json)

    def delete(self, path: str) -> httpx.Response:
        return self.request("DELETE", path)


@dataclass
class Site:
    """A bait's API, with the bridge's key."""

    config: config.Config
    key: str
    certificates: dict[str, bytes]
    cloud: FakeCloud = field(default_factory=FakeCloud)
    queue: FakeLeases = field(default_factory=FakeLeases)
    ends: FakeTunnels = field(default_factory=FakeTunnels)
    app: ASGIApp | None = None

    def client(self, name: str | None = "bridge") -> Client:
        """A client with the certificate of that name, or none."""
        app = self.app = self.app or https.application(
            self.config, "hv1", self.cloud, self.queue, self.ends, FakeStatus()
        )
        chain = (self.certificates[name],) if name else ()

        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {CHAIN: chain}
            await app(scope, receive, send)

        return Client(told)

    def token(self, cluster: str = "box", life: float = 60, **changes: object) -> str:
        values: dict[str, Any] = {
            "lease": LEASE,
            "machine": MACHINE,
            "hostname": "m1",
            "dn": "/DC=org/O=Box/CN=Alice",
            "account": "cloud001",
            "lrms_account": "atlas",
            "partition": "main",
            "walltime": 3600,
            "cores": 2,
            "memory": 1024,
            "node": "hv2",
            "image": "small_linux_x86_64",
        }
        order = Order(**(values | changes))
        return sign(
            order if "job" in changes else order.lease_request, cluster, self.key, time.time(), life
        )


def new_key() -> tuple[str, str]:
    """A private key and its public half, as PEM texts."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def make_site(tmp_path: Path, pki: Path) -> Site:
    private, public = new_key()
    (tmp_path / "order.pub").write_text(public)
    file = tmp_path / "wnodes.toml"
    file.write_text(
        settings(tmp_path, memory_overhead=100)
        + f"""
[api]
listen = "127.0.0.1:0"
certificate = "{pki}/host.pem"
key = "{pki}/host.key"
ca_dir = "{pki}/ca"
clients = ["{BRIDGE}"]
order_keys = ["{tmp_path}/order.pub"]
"""
    )
    certificates = {
        name: ssl.PEM_cert_to_DER_cert((pki / f"{name}.pem").read_text())
        for name in ("bridge", "other")
    }
    return Site(config.load(file, "hv1"), private, certificates)


def context(pki: Path, name: str | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(pki / "ca/ca.pem"))
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as wnodes_lrms.tls.client says
    if name:
        made.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    return made
