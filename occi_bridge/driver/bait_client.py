"""The baits' HTTPS API, from the bridge's side: mutual TLS with host certificates, JSON.

Any fault is one of wnodes_lrms.errors. No answer, one that makes no sense, and a bait that does not
know this bridge (403) are UnknownError: nothing follows from that for anybody's VM.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from occi_bridge.driver import bait_names
from occi_bridge.driver.replies import Card, Device, Leases, News, Place, SavedImages, Submitted
from occi_bridge.driver.reports import (
    LeasesSeen,
    Machines,
    Report,
    SeenLease,
    SeenNic,
)
from wnodes_lrms.errors import (
    AbsentError,
    ConfigError,
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.order import Nic

Reply = TypeVar("Reply")

_ASKING = 3.0  # seconds for a bait to tell what it knows
_LISTING = 16.0  # seconds for one to ask the LRMS, which may have much to tell
_ACTING = 65.0  # seconds for one to act: it gives the LRMS and libvirt a minute themselves
_LARGEST = 4 << 20  # bytes of an answer: many thousands of VMs or leases have less
_SENTENCE = 1000  # characters of an error
_PLAIN = {"Accept-Encoding": "identity"}  # a packed answer could be any size
_FAULTS: Mapping[int, type[WnodesError]] = {
    400: RejectedError,
    404: AbsentError,
    409: ConflictError,
    422: RejectedError,
}


_MACHINES = TypeAdapter(Machines)
_LEASES = TypeAdapter(Leases)
_SUBMITTED = TypeAdapter(Submitted)
_PLACE = TypeAdapter(Place)
_NEWS = TypeAdapter(News)
_DEVICE = TypeAdapter(Device)
_CARD = TypeAdapter(Card)
_SAVED = TypeAdapter(SavedImages)


def client_context(certificate: str, key: str, ca_dir: str) -> ssl.SSLContext:
    """How the bridge shows who it is to baits, and knows them by their host names.

    CRLs count as in tls.server_context: all of a chain, where the folder has any. Raises
    ConfigError if a file can't be read or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(capath=ca_dir)
        if any(Path(ca_dir).glob("*.r[0-9]")):
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:  # ssl.SSLError too
        said = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(certificate, [f"can't be used with the key {key}: {said}"]) from error
    return context


class Bait:
    """One bait, asked over kept-alive connections."""

    def __init__(self, url: str, context: ssl.SSLContext | bool) -> None:
        """`context` is as client_context() makes it; nothing is connected yet."""
        self.url = url
        self._client = httpx.AsyncClient(
            base_url=url,
            verify=context,
            trust_env=False,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=4),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def look(self) -> Report:
        """What it has now. A bait is that of no node but those that its certificate names."""
        at = time.time()
        reply = await self._call("GET", "/machines", _ASKING)
        told = _read(_MACHINES, reply)
        certificate = certificate_of(reply)
        if certificate and not bait_names.fits(told.node, bait_names.of_hosts(certificate)):
            raise UnknownError(
                f"bait {self.url} says that it is node {told.node}: its certificate is for "
                f"{', '.join(bait_names.of_hosts(certificate)) or 'nobody'}"
            )
        waiting: dict[str, frozenset[str]] = {}
        for each in told.waiting:
            waiting[each.lease] = waiting.get(each.lease, frozenset()) | {each.job}
        return Report(
            url=self.url,
            node=told.node,
            at=at,
            machines={each.id: replace(each, since=min(each.since, at)) for each in told.machines},
            waiting=waiting,
            outcomes={outcome.lease: outcome.reason for outcome in told.outcomes},
        )

    async def leases(self) -> LeasesSeen:
        """The lease jobs that it knows of."""
        at = time.time()
        told = _read(_LEASES, await self._call("GET", "/leases", _LISTING))
        found: dict[str, tuple[SeenLease, ...]] = {}
        for lease in told.leases:
            found[lease.lease] = (*found.get(lease.lease, ()), lease)
        return LeasesSeen(at, found)

    async def submit(self, token: str) -> str:
        """Hand in an order; the job's id. One that is there already is success."""
        reply = await self._call("POST", "/leases", _ACTING, {"token": token})
        return _read(_SUBMITTED, reply).job

    async def order(self, lease: str, token: str) -> None:
        """Give an order to the lease job that waits there; one that was given is success."""
        await self._call("PUT", f"/leases/{lease}/order", _ACTING, {"token": token})

    async def where(self, job: str) -> str | None:
        """The node on which the LRMS runs a job; "" if on none yet, or on several; None if it says
        that it has no such job."""
        place = _read(_PLACE, await self._call("GET", f"/jobs/{job}", _LISTING))
        return place.node if place.known else None

    async def news(self, since: str) -> str:
        """Wait until something has changed on its node since it said `since`, or for a while."""
        query = {"since": since}
        return _read(_NEWS, await self._call("GET", "/news", _ACTING, query=query)).news

    async def cancel(self, lease: str, job: str) -> None:
        """End a lease job."""
        await self._call("DELETE", f"/leases/{lease}", _ACTING, query={"job": job})

    async def do(self, machine: str, verb: str, method: str = "") -> None:
        """Have it stop, restart, suspend or resume a VM; it begins, and does not wait."""
        body = {"method": method} if method else None
        await self._call("POST", f"/machines/{machine}/{verb}", _ACTING, body)

    async def destroy(self, machine: str) -> None:
        """End a VM and remove all it has; an absent one is success."""
        await self._call("DELETE", f"/machines/{machine}", _ACTING)

    async def save(self, machine: str, tag: str) -> None:
        """Begin to make an image of a VM's disk."""
        await self._call("POST", f"/machines/{machine}/save", _ACTING, {"tag": tag})

    async def saved(self) -> SavedImages:
        """The images that users have saved, and those being made."""
        return _read(_SAVED, await self._call("GET", "/saved", _ACTING))

    async def delete_saved(self, tag: str) -> None:
        """Remove an image that a user has saved; an absent one is success."""
        await self._call("DELETE", f"/saved/{tag}", _ACTING)

    async def make_volume(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB; one that is there already is success."""
        await self._call("PUT", f"/volumes/{volume}", _ACTING, {"size": size})

    async def delete_volume(self, volume: str) -> None:
        """Delete a volume; an absent one is success."""
        try:
            await self._call("DELETE", f"/volumes/{volume}", _ACTING)
        except AbsentError:
            return

    async def attach_volume(self, machine: str, volume: str) -> str:
        """Attach a volume to a VM that runs; the device that it sees."""
        path = f"/machines/{machine}/volumes/{volume}"
        return _read(_DEVICE, await self._call("PUT", path, _ACTING)).device

    async def detach_volume(self, machine: str, volume: str) -> None:
        """Take a volume off a VM that runs; one that is off is success."""
        await self._detach(f"/machines/{machine}/volumes/{volume}")

    async def attach_nic(self, machine: str, nic: Nic) -> SeenNic:
        """Give a VM that runs a network card; the card as it then is."""
        path = f"/machines/{machine}/nics/{nic.id}"
        body = nic.model_dump(mode="json", exclude_none=True)
        card = _read(_CARD, await self._call("PUT", path, _ACTING, body))
        return SeenNic(str(nic.id), card.mac, card.address)

    async def detach_nic(self, machine: str, nic: str) -> None:
        """Take a network card off a VM that runs; one that is off is success."""
        await self._detach(f"/machines/{machine}/nics/{nic}")

    async def _detach(self, path: str) -> None:
        try:
            await self._call("DELETE", path, _ACTING)
        except AbsentError:
            return

    async def _call(
        self,
        verb: str,
        path: str,
        patience: float,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            async with asyncio.timeout(patience):
                async with self._client.stream(
                    verb, path, json=body, params=query, timeout=None, headers=_PLAIN
                ) as coming:
                    reply = await _whole(coming)
        except TimeoutError as error:
            raise UnknownError(f"bait {self.url}: no answer within {patience:g} s") from error
        except (httpx.HTTPError, OSError) as error:
            raise UnknownError(f"bait {self.url}: {error}") from error
        if reply.is_success:
            return reply
        raise _FAULTS.get(reply.status_code, UnknownError)(_sentence(self.url, reply))


async def _whole(coming: httpx.Response) -> httpx.Response:
    """The reply with its body, as it came. Raises UnknownError for a body that is too large."""
    content = bytearray()
    async for piece in coming.aiter_raw():
        content += piece
        if len(content) > _LARGEST:
            raise UnknownError(f"bait {coming.url}: the answer has more than {_LARGEST} bytes")
    return httpx.Response(coming.status_code, content=bytes(content), request=coming.request)


def certificate_of(reply: httpx.Response) -> Any:
    """The certificate of who has answered, as ssl tells it; None where there is no TLS."""
    stream = reply.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream else None
    return tls.getpeercert() if tls else None


def _sentence(url: str, reply: httpx.Response) -> str:
    try:
        said = reply.json()["error"]
    except (ValueError, LookupError, TypeError):
        said = f"HTTP status {reply.status_code}"
    said = str(said)[:_SENTENCE]
    return f"bait {url}: {said}" if reply.status_code >= 500 else said


def _read(form: TypeAdapter[Reply], reply: httpx.Response) -> Reply:
    try:
        return form.validate_json(reply.content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise UnknownError(
            f"bait {reply.url}: the answer makes no sense: {place}: {fault['msg']}"
        ) from error
