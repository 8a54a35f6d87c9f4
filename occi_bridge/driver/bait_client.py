"""What a bait can be asked, as methods: its HTTPS API from the bridge's side.

Each raises as bait_connection says.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import replace

from pydantic import TypeAdapter

from occi_bridge.driver import bait_names
from occi_bridge.driver.bait_connection import BaitConnection, certificate_of, read
from occi_bridge.driver.replies import (
    Card,
    Console,
    Copy,
    Device,
    Leases,
    News,
    Place,
    SavedImages,
    Submitted,
    ToldUsage,
    Usages,
    Volumes,
)
from occi_bridge.driver.reports import LeasesSeen, Machine, Machines, Report, SeenLease, SeenNic
from wnodes_lrms.errors import AbsentError, UnknownError
from wnodes_lrms.order import Nic
from wnodes_lrms.tunnel import Tunnel

_ASKING = 3.0  # seconds for a bait to tell what it knows
_LISTING = 16.0  # seconds for one to ask the LRMS, which may have much to tell
_ACTING = 65.0  # seconds for one to act: it gives the LRMS and libvirt a minute themselves

_MACHINES = TypeAdapter(Machines)
_LEASES = TypeAdapter(Leases)
_SUBMITTED = TypeAdapter(Submitted)
_PLACE = TypeAdapter(Place)
_NEWS = TypeAdapter(News)
_DEVICE = TypeAdapter(Device)
_CARD = TypeAdapter(Card)
_COPY = TypeAdapter(Copy)
_VOLUMES = TypeAdapter(Volumes)
_CONSOLE = TypeAdapter(Console)
_SAVED = TypeAdapter(SavedImages)
_USAGES = TypeAdapter(Usages)


class Bait:
    """One bait."""

    def __init__(self, url: str, context: ssl.SSLContext | bool) -> None:
        """`context` is as client_context() makes it; nothing is connected yet."""
        self.url = url
        self._connection = BaitConnection(url, context)
        self._call = self._connection.call

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def look(self) -> Report:
        """What it has now. A bait is that of no node but those that its certificate names."""
        at = time.time()
        reply = await self._call("GET", "/machines", _ASKING)
        told = read(_MACHINES, reply)
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
            machines={each.id: _machine(each, at) for each in told.machines},
            waiting=waiting,
            outcomes={outcome.lease: outcome.reason for outcome in told.outcomes},
            end=told.end,
            tunnels=told.tunnels,
            drain=told.drain,
            local_volumes=told.local_volumes,
            room=told.room,
            sources={name: min(heard, at) for name, heard in (told.sources or {}).items()},
        )

    async def console(self, machine: str) -> str:
        """The end of what a VM wrote on its console: a guest's word, with whatever is in it."""
        reply = await self._call("GET", f"/machines/{machine}/console", _ASKING)
        return read(_CONSOLE, reply).text

    async def usages(self, since: float) -> tuple[ToldUsage, ...]:
        """What VMs have had of its node in leases that go on, or ended since (epoch)."""
        reply = await self._call("GET", "/usages", _LISTING, query={"since": str(since)})
        return read(_USAGES, reply).usages

    async def leases(self) -> LeasesSeen:
        """The lease jobs that it knows of."""
        at = time.time()
        told = read(_LEASES, await self._call("GET", "/leases", _LISTING))
        found: dict[str, tuple[SeenLease, ...]] = {}
        for lease in told.leases:
            found[lease.lease] = (*found.get(lease.lease, ()), lease)
        return LeasesSeen(at, found)

    async def submit(self, token: str) -> str:
        """Hand in an order; the job's id. One that is there already is success."""
        reply = await self._call("POST", "/leases", _ACTING, {"token": token})
        return read(_SUBMITTED, reply).job

    async def order(self, lease: str, token: str) -> None:
        """Give an order to the lease job that waits there; one that was given is success."""
        await self._call("PUT", f"/leases/{lease}/order", _ACTING, {"token": token})

    async def where(self, job: str) -> str | None:
        """The node on which the LRMS runs a job; "" if on none yet, or on several; None if it says
        that it has no such job."""
        place = read(_PLACE, await self._call("GET", f"/jobs/{job}", _LISTING))
        return place.node if place.known else None

    async def news(self, since: str) -> str:
        """Wait until something has changed on its node since it said `since`, or for a while."""
        query = {"since": since}
        return read(_NEWS, await self._call("GET", "/news", _ACTING, query=query)).news

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
        return read(_SAVED, await self._call("GET", "/saved", _ACTING))

    async def delete_saved(self, tag: str) -> None:
        """Remove an image that a user has saved; an absent one is success."""
        await self._call("DELETE", f"/saved/{tag}", _ACTING)

    async def make_volume(self, volume: str, size: int, *, local: bool = False) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success.

        `local`: it will be on that node alone. Raises ConflictError, too, if the bait knows better.
        """
        query = {"local": "true"} if local else None
        await self._call("PUT", f"/volumes/{volume}", _ACTING, {"size": size}, query=query)

    async def size_of_volume(self, volume: str) -> int:
        """How large a volume is, in GiB; 0 if there is none."""
        told = read(_VOLUMES, await self._call("GET", "/volumes", _ACTING))
        return next((each.size for each in told.volumes if each.id == volume), 0)

    async def copy_volume(self, volume: str, source: str) -> Copy:
        """Have a volume that is a copy of another; how far it is."""
        body = {"of": source}
        return read(_COPY, await self._call("PUT", f"/volumes/{volume}/copy", _ACTING, body))

    async def delete_volume(self, volume: str) -> None:
        """Delete a volume; an absent one is success."""
        try:
            await self._call("DELETE", f"/volumes/{volume}", _ACTING)
        except AbsentError:
            return

    async def attach_volume(self, machine: str, volume: str, *, readonly: bool) -> str:
        """Attach a volume to a VM that runs; the device that it sees."""
        path = f"/machines/{machine}/volumes/{volume}"
        query = {"readonly": "true"} if readonly else None
        return read(_DEVICE, await self._call("PUT", path, _ACTING, query=query)).device

    async def detach_volume(self, machine: str, volume: str) -> None:
        """Take a volume off a VM that runs; one that is off is success."""
        await self._detach(f"/machines/{machine}/volumes/{volume}")

    async def attach_nic(self, machine: str, nic: Nic) -> SeenNic:
        """Give a VM that runs a network card; the card as it then is."""
        path = f"/machines/{machine}/nics/{nic.id}"
        body = nic.model_dump(mode="json", exclude_none=True)
        card = read(_CARD, await self._call("PUT", path, _ACTING, body))
        return SeenNic(str(nic.id), card.mac, card.address)

    async def detach_nic(self, machine: str, nic: str) -> None:
        """Take a network card off a VM that runs; one that is off is success."""
        await self._detach(f"/machines/{machine}/nics/{nic}")

    async def put_tunnels(self, tunnels: Mapping[str, Tunnel]) -> None:
        """Have these private networks, and no others, reach other nodes from its own."""
        body = {"tunnels": {name: each.model_dump(mode="json") for name, each in tunnels.items()}}
        await self._call("PUT", "/tunnels", _ACTING, body)

    async def _detach(self, path: str) -> None:
        try:
            await self._call("DELETE", path, _ACTING)
        except AbsentError:
            return


def _machine(told: Machine, at: float) -> Machine:
    """A VM as a bait tells of it, which says beside the state that a guest has crashed, for bridges
    that know no such state; and not in the future."""
    state = "crashed" if told.crashed and told.state == "running" else told.state
    return replace(told, state=state, since=min(told.since, at))
