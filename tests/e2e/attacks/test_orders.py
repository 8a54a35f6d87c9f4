"""Leases and orders: who may have a VM made, where, and what they see of others' VMs."""

import pwd
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.chaos.site import Box
from tests.e2e.box import call, machines, wait_until
from tests.e2e.lrms.slurm import leases, the_lease
from tests.e2e.occi import Cloud, Key
from tests.e2e.orders import an_order, bait, give, lease, of, signed, unwrapped
from wnodes_lrms.config import load as config
from wnodes_lrms.order import LEASE_NAME
from wnodes_lrms.tls.server import serve

PASSWORD = b"the-password-of-alice"
SECRET = b"#!/bin/sh\n: " + PASSWORD + b"\n"


def test_another_process_of_the_account_looks_for_users_data(alice: Cloud, key: Key) -> None:
    alice.machine(key=key, data=SECRET).wait("active")
    job = the_lease()
    user = job.field("UserId").partition("(")[0]
    pids = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if path.stat().st_uid == pwd.getpwnam(user).pw_uid
    ]
    seen = b"".join(
        subprocess.run(
            ["runuser", "-u", user, "--", "cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline"],
            capture_output=True,
            check=False,
        ).stdout
        for pid in pids
    )
    assert b"WNODES_LEASE=" in seen
    for argv in (("scontrol", "show", "job", "-dd"), ("scontrol", "write", "batch_script")):
        last = ("-",) if "write" in argv else ()
        seen += call(*argv, job.number, *last, user=user).encode()
    for secret in (PASSWORD, key.public.encode()):
        assert secret not in unwrapped(seen)


def test_who_has_an_order_gives_it_for_another_job_and_on_another_node() -> None:
    wish = an_order()
    with lease(wish) as job, lease(wish, node="hv2") as other:
        order = of(wish, job)
        token = signed(order)

        def not_for(job: str) -> None:
            refusal = give("hv2", order, token)
            assert refusal.status_code == 409
            assert refusal.json()["error"] == f"job {job} does not wait for this order here"

        not_for(job.number)
        assert not machines()
        assert give("hv1", order, token).status_code == 204
        assert give("hv1", order, token).status_code == 204  # the same: not a second VM
        wait_until(lambda: [m for m in machines() if m["state"] == "ready"], 30, "it runs")
        assert bait("hv1").delete(f"/machines/{wish.machine}").status_code == 202
        wait_until(lambda: not machines(), 30, "it is gone")
        not_for(job.number)
        assert other.state == "RUNNING"
    wait_until(lambda: not leases(), 30, "the leases are over")
    with lease(wish, waits=False) as again:  # its own node knows that it was used
        again.wait(seconds=30)
        assert f"is job {job.number}'s" in again.error
    assert not machines()


class Liar:
    """Whoever has taken a node: its certificate, its port, and what the batch system says."""

    def __init__(self, node: str) -> None:
        self.tells: dict[str, Any] = {"node": node, "machines": [], "outcomes": [], "waiting": []}
        self.claims = False  # every lease as waiting here
        self.told: list[str] = []  # by the bridge
        self.looks = 0
        routes = [
            Route("/machines", self._machines),
            Route("/{rest:path}", self._other, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
        own = config.load(config.path_in_use(), node).api
        self._server = serve(
            Starlette(routes=routes),
            own.listen,
            *(own.certificate, own.key, own.ca_dir),
            proxies=False,
            require=True,
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(5)

    def heard(self) -> None:
        """The bridge has heard all this, and has had time to believe it."""
        seen = self.looks
        wait_until(lambda: self.looks > seen + 1, 30, "it is looked at")

    def _machines(self, _request: Request) -> Response:
        self.looks += 1
        if self.claims:
            self.tells["waiting"] = jobs()
        return JSONResponse(self.tells)

    async def _other(self, request: Request) -> Response:
        if request.method != "GET":
            self.told.append(f"{request.method} {request.url.path} {await request.body()!r}")
        return JSONResponse({"error": "not today"}, 503)


def jobs() -> list[dict[str, str]]:
    """The leases that anybody sees in the batch system."""
    lines = call("squeue", "--noheader", "--format=%i %j").splitlines()
    pairs = [line.split() for line in lines if LEASE_NAME in line]
    return [{"lease": name.removeprefix(LEASE_NAME), "job": job} for job, name in pairs]


@contextmanager
def taken(daemons: Box, node: str) -> Iterator[Liar]:
    """The node's bait is another's while this lasts."""
    with daemons.down(f"bait-{node}"):
        liar = Liar(node)
        try:
            yield liar
        finally:
            liar.close()


def test_a_taken_node_ends_another_nodes_lease(alice: Cloud, key: Key, daemons: Box) -> None:
    machine = alice.machine(key=key).wait("active")
    before = machine.boot_id()
    (found,) = machines()
    (name,) = jobs()
    assert bait("hv1").get(f"/machines/{found['id']}").status_code == 200
    gone = {"lease": name["lease"], "machine": found["id"], "job": name["job"], "reason": "gone"}
    card = {"id": found["id"], "mac": "52:54:00:66:66:66", "address": "192.0.2.66"}
    there = {"id": found["id"], "lease": name["lease"], "job": name["job"], "state": "failed"}
    lies = {
        "outcomes": [gone],
        "machines": [there | {"reason": "moved", "since": 4e9, "nics": [card], "volumes": []}],
    }
    with taken(daemons, "hv2") as liar:
        for node in ("hv2", "hv1"):  # as itself, and as the other
            liar.tells |= lies | {"node": node}
            liar.heard()
            assert (machine.state, machine.message) == ("active", "")
            assert machine.address() != "192.0.2.66"
        assert not liar.told
    assert machine.boot_id() == before
    machine.delete()


def test_a_taken_node_wants_the_orders_of_others(alice: Cloud, daemons: Box) -> None:
    with taken(daemons, "hv2") as liar:
        liar.claims = True
        with daemons.frozen("bait-hv1"):  # so that its claim is the only one for a while
            machine = alice.machine(data=SECRET)
            liar.heard()
        machine.wait("active")
        liar.heard()
        assert [m["node"] for m in bait("hv1").get("/machines").json()["machines"]] == ["hv1"]
        assert not [told for told in liar.told if told.startswith("PUT")]
    machine.delete()
