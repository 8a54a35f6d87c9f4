"""The part of the bait's HTTPS service that is about leases, and about the bait itself."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from pydantic import StringConstraints
from starlette.requests import Request as Asked
from starlette.responses import Response

from bait import metrics
from bait.frontend import models
from bait.frontend.blocking import BlockingCalls, Recent
from bait.frontend.endpoints import Endpoint, Endpoints
from bait.frontend.ports import Cloud
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.hookset import LEASE_PROGRAM
from wnodes_lrms.lrms.lease import Leases, Request
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.order import JobText, LeaseRequest, public_keys, verify
from wnodes_lrms.version import VERSION

_LISTS = 2, 15.0  # calls at once, seconds
_SUBMISSIONS = 8, 60.0
_QUERIES = 8, 30.0
_PINGS = 4, 5.0
_LISTING_LIFE = 2.0  # seconds that all who ask share one listing of the LRMS

log = logging.getLogger(__name__)


def lease_request(wanted: LeaseRequest, config: Config) -> Request:
    """The lease job that is asked for. It gets the hypervisor's own memory beside the guest's.

    All that it carries is the lease's id: some LRMSs show a job's environment to everybody.
    """
    return Request(
        lease=str(wanted.lease),
        user=wanted.account,
        account=wanted.lrms_account,
        partition=wanted.partition,
        walltime=wanted.walltime,
        cores=wanted.cores,
        memory=wanted.memory + config.machine.memory_overhead,
        node=wanted.node,
        features=wanted.features,
        consumables=wanted.consumables,
        program=f"{config.hooks.folder}/{LEASE_PROGRAM}",
        environment={"WNODES_LEASE": str(wanted.lease)},
    )


class _Calls:
    """The calls of all routes that may hang, by what they wait for."""

    def __init__(self, leases: Leases) -> None:
        self.queries = BlockingCalls("the batch system", *_QUERIES)
        self.submissions = BlockingCalls("the batch system", *_SUBMISSIONS)
        self.pings = BlockingCalls("libvirt", *_PINGS)
        lists = BlockingCalls("the batch system", *_LISTS)
        self.listing = Recent(lists, leases.list, _LISTING_LIFE)


def routes(config: Config, node: str, cloud: Cloud, leases: Leases) -> list[Endpoint]:
    """The routes, for the leases of this LRMS and the bait of this node."""
    endpoint, calls = Endpoints(), _Calls(leases)
    _leases(endpoint, calls, config, cloud, leases)
    _state(endpoint, calls, node, cloud)
    return endpoint.all


def _leases(
    endpoint: Endpoints, calls: _Calls, config: Config, cloud: Cloud, leases: Leases
) -> None:
    @endpoint("POST", "/leases", status=201, answers=models.Submitted)
    async def submit_lease(asked: models.Token, request: Asked) -> dict[str, Any]:
        """Submit a lease job, for any node. Asked again for the same lease, the job is the same."""
        lease, job = await calls.submissions.call(_submit, config, leases, asked.token, request)
        calls.listing.forget()
        return {"lease": lease, "job": job}

    @endpoint("GET", "/leases", answers=models.LeasesShown)
    async def list_leases() -> dict[str, Any]:
        """The leases that the LRMS has; through DRMAA, those of them that were submitted here."""
        return {"leases": [asdict(lease) for lease in await calls.listing.get()]}

    @endpoint("DELETE", "/leases/{lease}", status=204)
    async def cancel_lease(
        lease: UUID, job: Annotated[str, StringConstraints(max_length=300)] = ""
    ) -> None:
        """End a lease job; one that is gone is success."""
        number = SYSTEMS[config.lrms].job_id(job) if job else ""
        await calls.submissions.call(leases.cancel, str(lease), number)
        calls.listing.forget()

    @endpoint("GET", "/jobs/{job}", answers=models.Place)
    async def place(job: JobText) -> dict[str, Any]:
        """Whether the batch system has a job, whoever has submitted it, and on what node it is."""
        node = await calls.queries.call(cloud.where, job)
        return {"node": node or "", "known": node is not None}

    @endpoint("PUT", "/leases/{lease}/order", status=204)
    async def order(lease: UUID, asked: models.Token) -> None:
        """Make the VM of an order in the lease job that waits for it here; see /machines.

        Asked again for the same job, success.
        """
        await calls.queries.call(_hand_in, cloud, lease, asked.token)


def _submit(config: Config, leases: Leases, token: str, request: Asked) -> tuple[UUID, str]:
    try:
        wanted = verify(LeaseRequest, token, config.cluster, public_keys(config.api.order_keys))
        request.state.about = wanted.lease
        job = leases.submit(lease_request(wanted, config))
    except RejectedError:
        metrics.REFUSED.inc()
        raise
    metrics.SUBMITTED.inc()
    log.info("lease %s of %s %s", wanted.lease, wanted.dn, wanted.fqan, extra=ids(job))
    return wanted.lease, job


def _hand_in(cloud: Cloud, lease: UUID, token: str) -> None:
    try:
        cloud.jobs.hand_in(str(lease), token)
    except ConflictError:
        raise
    except RejectedError:
        metrics.REFUSED.inc()
        raise


def _state(endpoint: Endpoints, calls: _Calls, node: str, cloud: Cloud) -> None:
    @endpoint("GET", "/state", answers=models.State)
    async def state() -> dict[str, Any]:
        """How this bait is."""
        machines = await calls.pings.call(cloud.machines)
        return {
            "node": node,
            "version": VERSION,
            "machines": len(machines),
            **await _sources(calls, cloud),
        }

    @endpoint("GET", "/metrics")
    async def prometheus() -> Response:
        """The same and more, in Prometheus's text format."""
        await _sources(calls, cloud)
        text = metrics.text(
            await calls.pings.call(cloud.census), await calls.pings.call(cloud.flows)
        )
        return Response(text, media_type=metrics.MEDIA_TYPE)


async def _sources(calls: _Calls, cloud: Cloud) -> dict[str, str]:
    """Whether the batch system and libvirt answer now: "ok", or "away"."""

    async def ask(source: str, question: Callable[[], Any]) -> tuple[str, str]:
        try:
            await question()
        except UnknownError:
            return source, "away"
        except WnodesError as error:
            log.warning("%s: %s", source, error)
        metrics.answered(source)
        return source, "ok"

    return dict(
        await asyncio.gather(
            ask("lrms", calls.listing.get), ask("libvirt", lambda: calls.pings.call(cloud.ping))
        )
    )
