"""Baits in memory behind real HTTP, and an LRMS that they share: what the driver talks to in tests.

They have the API that bait/frontend/https.py has. A test reaches into them from outside: it makes
them silent or slow, ends leases, and reads what they were asked. For what speaks to a bait's
control socket there is tests/unit/scripted_bait.py.
"""

import asyncio
import contextlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from wnodes_lrms.errors import ConflictError, RejectedError
from wnodes_lrms.order import LeaseRequest, Order, verify
from wnodes_lrms.tls.http_protocol import CHAIN
from wnodes_lrms.tls.names import dn_of
from wnodes_lrms.tls.server import listener, serve

CLUSTER = "box"
Json = dict[str, Any]


@dataclass
class Lrms:
    """The lease jobs of all nodes. `auto`: each is placed at once. `drmaa`: each bait knows only
    those that it has submitted."""

    key: str  # public, of the bridge
    auto: bool = True
    drmaa: bool = False
    away: bool = False
    jobs: dict[str, Json] = field(default_factory=dict)
    requests: dict[str, LeaseRequest] = field(default_factory=dict)  # by job
    orders: dict[str, Order] = field(default_factory=dict)  # by job
    volumes: dict[str, int] = field(default_factory=dict)  # in the folder that all nodes share
    room: int = 1000  # GiB for a volume there
    making: float = 0.0  # seconds that it takes to make one
    breaks: str = ""  # what goes wrong with a volume that is made or grown
    breaks_after: bool = False  # once it is that large
    breaks_once: bool = False  # and then no more
    asked: list[str] = field(default_factory=list)  # changes, of all baits
    baits: list["FakeBait"] = field(default_factory=list)
    refuse: str = ""  # why orders are refused
    fail: str = ""  # why VMs can't start
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def submit(self, token: str, bait: "FakeBait") -> str:
        request = verify(LeaseRequest, token, CLUSTER, [self.key])
        if self.refuse:
            raise RejectedError(self.refuse)
        lease = str(request.lease)
        for job, there in self.jobs.items():
            if there["lease"] == lease and bait.knows(job):
                return job
        job = str(next(self._numbers))
        self.jobs[job] = {
            "lease": lease,
            "job": job,
            "user": request.account,
            "state": "pending",
            "node": "",
            "reason": "Priority",
        }
        self.requests[job] = request
        bait.mine.add(job)
        if self.auto:
            self.place(job)
        return job

    def place(self, job: str, node: str = "") -> None:
        """Give a job its allocation: its process waits for its order there."""
        request = self.requests[job]
        wanted = request.node or node
        bait = next(each for each in self.baits if wanted in ("", each.node))
        self.jobs[job] |= {"state": "running", "node": bait.node, "reason": ""}
        bait.waiting.append({"lease": str(request.lease), "job": job})

    def order(self, bait: "FakeBait", lease: str, token: str) -> None:
        """Let the VM of an order begin, where its job waits."""
        order = verify(Order, token, CLUSTER, [self.key])
        if self.orders.get(order.job) == order:
            return
        waits = {"lease": lease, "job": order.job}
        if waits not in bait.waiting or order.node != bait.node:
            raise ConflictError("it does not wait here")
        bait.waiting.remove(waits)
        self.orders[order.job] = order
        if self.fail or any(str(each) not in bait.volumes for each in order.volumes):
            bait.outcomes.append({"lease": lease, "reason": self.fail or "there is no such volume"})
            del self.jobs[order.job]
            return
        bait.begin(order, order.job)

    def end(self, job: str, reason: str) -> None:
        """What walltime, scancel or preemption do to a lease."""
        node = self.jobs.pop(job)["node"]
        for bait in self.baits:
            bait.waiting = [each for each in bait.waiting if each["job"] != job]
            if bait.node == node and job in self.orders:
                bait.over(str(self.orders[job].machine), reason)


class FakeBait:
    """One node's bait, on a port of its own."""

    def __init__(self, node: str, lrms: Lrms, tls: tuple[str, str, str] | None = None) -> None:
        """`tls`: certificate, key and folder of CAs, for HTTPS as the real ones have it."""
        self.node = self._own = node
        self.begin_anew(lrms)
        sock = listener("127.0.0.1:0")
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{sock.getsockname()[1]}"
        self.peers: set[str] = set()  # names of those who called
        self._server: uvicorn.Server
        if tls:
            self._server = serve(self._app(), "", *tls, proxies=False, require=True, sock=sock)
        else:
            config = uvicorn.Config(self._app(), log_level="critical", lifespan="off")
            self._server = uvicorn.Server(config)
        sockets = None if tls else [sock]
        self._thread = threading.Thread(target=self._server.run, args=(sockets,), daemon=True)
        self._thread.start()

    def begin_anew(self, lrms: Lrms) -> None:
        """As a bait that has never been asked anything."""
        self.node = self._own
        self.lrms = lrms
        self.machines: dict[str, Json] = {}
        self.consoles: dict[str, str] = {}
        self.typing: dict[str, str] = {}  # VMs whose consoles can be typed into, and their owners
        self.open: dict[str, tuple[asyncio.AbstractEventLoop, WebSocket]] = {}
        self.usages: list[Json] | None = []  # None: it is of a release that does not tell
        self.outcomes: list[Json] = []
        self.waiting: list[Json] = []
        self.claims: list[Json] = []  # what it says beside that, as a node in other hands
        self.saved: Json = {"tags": [], "busy": [], "failed": {}}
        self.asked: list[str] = []  # changes
        self.mine: set[str] = set()  # the jobs that it has submitted
        self.end = ""  # of its tunnels
        self.tunnels: Json = {}
        self.drain: Json | None = None
        self.status: Json = {}  # none: it is of a release that does not tell them
        self.silent = False
        self.hung = False  # its library does not answer
        self.delay = 0.0  # seconds before each answer
        self.polite = False  # a guest takes its time to shut down
        self.copies = "offline"  # what copies of volumes are like; "" while they are being made
        self.clings = False  # a guest does not let go of its devices
        self.own: dict[str, int] | None = None  # volumes, where its node keeps them for itself
        self.refuses: dict[str, str] = {}  # «verb method» and why
        lrms.baits.append(self)

    @property
    def volumes(self) -> dict[str, int]:
        return self.lrms.volumes if self.own is None else self.own

    def knows(self, job: str) -> bool:
        return not self.lrms.drmaa or job in self.mine

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(0.5)

    def begin(self, order: Order, job: str) -> None:
        machine = str(order.machine)
        self.machines[machine] = {
            "id": machine,
            "lease": str(order.lease),
            "job": job,
            "state": "running",
            "reason": "",
            "cores": order.cores,
            "memory": order.memory,
            "image": order.image,
            "since": 1.0,
            "node": self.node,
            "nics": [
                {"id": str(nic.id), "mac": nic.mac, "address": nic.address or "10.0.0.9/24"}
                for nic in order.nics
            ],
            "volumes": [{"id": str(each), "device": "vdb"} for each in order.volumes],
        }

    def over(self, machine: str, reason: str, state: str = "stopped") -> None:
        """The lease of a VM is over; its disk stays."""
        there = self.machines[machine]
        self.outcomes.append({"lease": there["lease"], "reason": reason})
        self.lrms.jobs.pop(there["job"], None)
        there.update(state=state, lease="", job="", reason=reason)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/leases", self._leases, methods=["GET", "POST"]),
                Route("/leases/{lease}", self._cancel, methods=["DELETE"]),
                Route("/leases/{lease}/order", self._order, methods=["PUT"]),
                Route("/jobs/{job}", self._place, methods=["GET"]),
                Route("/machines", self._list, methods=["GET"]),
                Route("/usages", self._usages, methods=["GET"]),
                Route("/machines/{id}", self._machine, methods=["DELETE"]),
                Route("/machines/{id}/console", self._console, methods=["GET"]),
                WebSocketRoute("/machines/{id}/console", self._typed),
                Route("/machines/{id}/volumes/{link}", self._link, methods=["PUT", "DELETE"]),
                Route("/machines/{id}/nics/{link}", self._link, methods=["PUT", "DELETE"]),
                Route("/machines/{id}/{verb}", self._do, methods=["POST"]),
                Route("/volumes", self._volumes, methods=["GET"]),
                Route("/volumes/{id}", self._volume, methods=["PUT", "DELETE"]),
                Route("/volumes/{id}/copy", self._copy, methods=["PUT"]),
                Route("/saved", self._saved, methods=["GET"]),
                Route("/tunnels", self._tunnels, methods=["PUT"]),
                Route("/saved/{tag}", self._unsave, methods=["DELETE"]),
            ],
        )

    async def _answers(self, request: Request) -> None:
        while self.silent:
            await asyncio.sleep(0.02)
        await asyncio.sleep(self.delay)
        chain = request.scope["extensions"].get(CHAIN) if request.scope.get("extensions") else None
        if chain:
            self.peers.add(dn_of(chain[0]))
        if request.method != "GET":
            for asked in (self.asked, self.lrms.asked):
                asked.append(f"{request.method} {request.url.path}")

    async def _console(self, request: Request) -> Response:
        await self._answers(request)
        text = self.consoles.get(request.path_params["id"])
        return _fault(404, "no such VM") if text is None else JSONResponse({"text": text})

    async def _typed(self, socket: WebSocket) -> None:
        """A guest that answers in capitals."""
        machine = socket.path_params["id"]
        if self.typing.get(machine) != socket.query_params["owner"]:
            await socket.send_denial_response(_fault(404, "no such VM"))
            return
        await socket.accept()
        self.open[machine] = asyncio.get_running_loop(), socket
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await socket.send_bytes((await socket.receive_bytes()).upper())

    def write(self, machine: str, data: bytes) -> None:
        """The guest writes this, and waits until it is taken."""
        loop, socket = self.open[machine]
        asyncio.run_coroutine_threadsafe(socket.send_bytes(data), loop).result(60)

    def hang_up(self, machine: str, code: int) -> None:
        """The console of a VM ends."""
        loop, socket = self.open[machine]
        asyncio.run_coroutine_threadsafe(socket.close(code), loop).result(60)

    async def _usages(self, request: Request) -> Response:
        await self._answers(request)
        if self.usages is None:
            return _fault(404, "Not Found")
        since = float(request.query_params["since"])
        ended = [
            each for each in self.usages if each["began"] + each["wall"] + each["held"] >= since
        ]
        return JSONResponse({"usages": ended})

    async def _leases(self, request: Request) -> Response:
        await self._answers(request)
        while self.hung:
            await asyncio.sleep(0.02)
        if self.lrms.away:
            return _fault(503, "the batch system does not answer")
        if request.method == "GET":
            jobs = self.lrms.jobs.items()
            return JSONResponse({"leases": [told for job, told in jobs if self.knows(job)]})
        try:
            job = self.lrms.submit((await request.json())["token"], self)
        except RejectedError as error:
            return _fault(422, str(error))
        return JSONResponse(
            {"lease": self.lrms.jobs.get(job, {}).get("lease", ""), "job": job}, 201
        )

    async def _order(self, request: Request) -> Response:
        await self._answers(request)
        try:
            token = (await request.json())["token"]
            self.lrms.order(self, request.path_params["lease"], token)
        except ConflictError as error:
            return _fault(409, str(error))
        return Response(status_code=204)

    async def _place(self, request: Request) -> Response:
        await self._answers(request)
        if self.lrms.away:
            return _fault(503, "the batch system does not answer")
        found = self.lrms.jobs.get(request.path_params["job"])
        return JSONResponse({"node": found["node"] if found else "", "known": found is not None})

    async def _cancel(self, request: Request) -> Response:
        await self._answers(request)
        job = request.query_params["job"]
        if job in self.lrms.jobs and self.knows(job):
            if self.lrms.jobs[job]["state"] == "running":
                self.lrms.end(job, "cancelled")
            else:
                del self.lrms.jobs[job]
        return Response(status_code=204)

    async def _list(self, request: Request) -> Response:
        await self._answers(request)
        machines = list(self.machines.values())
        return JSONResponse(
            {
                "node": self.node,
                "machines": machines,
                "outcomes": self.outcomes,
                "waiting": self.waiting + self.claims,
                "end": self.end,
                "tunnels": self.tunnels,
                "drain": self.drain,
                **({} if self.own is None else {"local_volumes": True}),
                **self.status,
            }
        )

    async def _tunnels(self, request: Request) -> Response:
        await self._answers(request)
        self.tunnels = (await request.json())["tunnels"]
        return Response(status_code=204)

    async def _machine(self, request: Request) -> Response:
        await self._answers(request)
        there = self.machines.pop(request.path_params["id"], None)
        if there:
            self.lrms.jobs.pop(there["job"], None)
            if there["lease"]:
                self.outcomes.append({"lease": there["lease"], "reason": "destroyed"})
        return Response(status_code=202 if there else 204)

    async def _do(self, request: Request) -> Response:
        await self._answers(request)
        machine, verb = request.path_params["id"], request.path_params["verb"]
        there = self.machines.get(machine)
        if there is None:
            return _fault(404, "there is no such VM here")
        body = await request.body()
        given = (await request.json()) if body else {}
        for asked in (self.asked, self.lrms.asked):
            asked[-1] += f" {given.get('method', given.get('tag', ''))}".rstrip()
        if why := self.refuses.get(f"{verb} {given.get('method', '')}"):
            return _fault(422, why)
        if verb == "save":
            self.saved["busy"].append(given["tag"])
        elif verb == "resume":
            there["state"] = "running"
        elif given["method"] == "suspend":
            there["state"] = "suspended"
        elif given["method"] == "hibernate":
            self.over(machine, "hibernated", "suspended")
        elif verb == "stop" and self.polite and given["method"] != "poweroff":
            there["state"] = "stopping"
        elif verb == "stop":
            self.over(machine, "stopped")
        return Response(status_code=202)

    async def _link(self, request: Request) -> Response:
        await self._answers(request)
        machine = self.machines.get(request.path_params["id"])
        link = request.path_params["link"]
        states = ("running",) if request.method == "PUT" else ("running", "stopped")
        if machine is None or machine["state"] not in states:
            return _fault(409, "the VM does not run")
        which = "volumes" if "/volumes/" in request.url.path else "nics"
        if request.method == "DELETE" and self.clings and machine["state"] == "running":
            return _fault(409, "the guest has been asked to let go of it, and has not yet")
        if request.method == "DELETE":
            machine[which] = [each for each in machine[which] if each["id"] != link]
            return Response(status_code=204)
        if which == "nics":
            mac = (await request.json())["mac"]
            machine[which].append({"id": link, "mac": mac, "address": "10.0.0.10/24"})
            return JSONResponse({"mac": mac, "address": "10.0.0.10/24"})
        machine[which].append({"id": link, "device": "vdc"})
        return JSONResponse({"device": "vdc"})

    async def _volume(self, request: Request) -> Response:
        await self._answers(request)
        volume = request.path_params["id"]
        if request.method == "PUT":
            size = (await request.json())["size"]
            if (request.query_params.get("local") == "true") is (self.own is None):
                return _fault(409, "volumes are otherwise")
            if size > self.lrms.room:
                return _fault(422, f"the pool has room for {self.lrms.room} GiB")
            await asyncio.sleep(self.lrms.making)
            if not self.lrms.breaks or self.lrms.breaks_after:
                self.volumes[volume] = size
            if why := self.lrms.breaks:
                self.lrms.breaks = "" if self.lrms.breaks_once else why
                return _fault(500, why)
            return Response(status_code=201)
        self.volumes.pop(volume, None)
        return Response(status_code=204)

    async def _volumes(self, request: Request) -> Response:
        await self._answers(request)
        there = self.volumes.items()
        return JSONResponse({"volumes": [{"id": volume, "size": size} for volume, size in there]})

    async def _copy(self, request: Request) -> Response:
        await self._answers(request)
        volume, source = request.path_params["id"], (await request.json())["of"]
        if source not in self.volumes:
            return _fault(404, "there is no such volume")
        told = {"size": self.volumes[source], "consistency": self.copies, "at": 1e9}
        if not self.copies:
            return JSONResponse(told | {"done": False, "consistency": "frozen"})
        self.volumes[volume] = self.volumes[source]
        return JSONResponse(told | {"done": True})

    async def _saved(self, request: Request) -> Response:
        await self._answers(request)
        return JSONResponse(self.saved)

    async def _unsave(self, request: Request) -> Response:
        await self._answers(request)
        tags = [tag for tag in self.saved["tags"] if tag != request.path_params["tag"]]
        self.saved = self.saved | {"tags": tags}
        return Response(status_code=204)


def _fault(status: int, said: str) -> Response:
    return JSONResponse({"error": said}, status)
