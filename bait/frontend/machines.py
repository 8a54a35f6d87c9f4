"""The part of the bait's HTTPS service that is about VMs, saved images, volumes, and
private networks that span nodes.
"""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bait.frontend import models
from bait.frontend.blocking import BlockingCalls
from bait.frontend.endpoints import Endpoint, Endpoints
from bait.frontend.ports import Cloud, NodeStatus, Tunnels
from wnodes_lrms.config.load import Tag
from wnodes_lrms.errors import AbsentError, ConflictError
from wnodes_lrms.order import Nic

_LISTS = 16, 10.0  # calls at once, seconds: from the ledger, and saved images
_LISTENERS = 16, 30.0
_LISTENING = 20.0  # seconds that nothing happens before that is said
_ACTIONS = 16, 60.0  # libvirt's; a guest may take its time to let go of a device
_VOLUMES = 16, 60.0  # look at a folder that other nodes share, or at Ceph: either may hang


class _Calls:
    """The calls of all routes that may hang, by what they wait for."""

    def __init__(self) -> None:
        self.listeners = BlockingCalls("the bait", *_LISTENERS)
        self.lists = BlockingCalls("the bait's ledger", *_LISTS)
        self.actions = BlockingCalls("libvirt", *_ACTIONS)
        self.storage = BlockingCalls("the volumes' storage", *_VOLUMES)


def routes(cloud: Cloud, node: str, tunnels: Tunnels, status: NodeStatus) -> list[Endpoint]:
    """The routes, for the VMs of this node."""
    endpoint, calls = Endpoints(), _Calls()
    _reports(endpoint, calls, cloud, node, tunnels, status)
    _actions(endpoint, calls, cloud)
    _devices(endpoint, calls, cloud)
    _images(endpoint, calls, cloud)
    _volumes(endpoint, calls, cloud)

    @endpoint("PUT", "/tunnels", status=204)
    async def put_tunnels(asked: models.Tunnels) -> None:
        """From now on these private networks reach other nodes from here, and no others do."""
        await calls.lists.call(tunnels.put, asked.tunnels)

    return endpoint.all


def _reports(
    endpoint: Endpoints,
    calls: _Calls,
    cloud: Cloud,
    node: str,
    tunnels: Tunnels,
    status: NodeStatus,
) -> None:
    @endpoint("GET", "/machines", answers=models.MachinesShown)
    async def machines() -> dict[str, Any]:
        """The cloud VMs of this node, and how its last leases ended."""
        return await calls.lists.call(
            lambda: {
                "node": node,
                "waiting": cloud.jobs.waiting(),
                "machines": cloud.machines(),
                "outcomes": cloud.outcomes(),
                "end": tunnels.end,
                "tunnels": tunnels.held(),
                "drain": cloud.draining(),
                "local_volumes": cloud.volumes.local,
                "room": status.room(),
                "sources": status.sources(),
            }
        )

    @endpoint("GET", "/usages", answers=models.UsagesShown)
    async def usages(
        since: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)],
    ) -> dict[str, Any]:
        """What cloud VMs have had of this node in leases that go on, or ended since then (seconds
        since the epoch)."""
        return {"usages": await calls.lists.call(cloud.usages, since)}

    @endpoint("GET", "/news", answers=models.News)
    async def news(since: Annotated[str, StringConstraints(max_length=40)] = "") -> dict[str, str]:
        """Answered once something has changed since the last answer, or after a while."""
        return {"news": await calls.listeners.call(cloud.news, since, _LISTENING)}

    @endpoint("GET", "/machines/{machine}", answers=models.MachineShown)
    async def machine(machine: UUID) -> dict[str, Any]:
        """One VM."""
        return await calls.lists.call(cloud.machine, str(machine))

    @endpoint("GET", "/machines/{machine}/console", answers=models.Console)
    async def console(machine: UUID) -> dict[str, str]:
        """The end of what its guest wrote on the serial console, since it started last."""
        return {"text": await calls.lists.call(cloud.console, str(machine))}


def _actions(endpoint: Endpoints, calls: _Calls, cloud: Cloud) -> None:
    @endpoint("POST", "/machines/{machine}/stop", status=202)
    async def stop(machine: UUID, asked: models.Stop) -> None:
        """End the VM and free its lease; its disk is kept."""
        await calls.actions.call(cloud.stop, str(machine), asked.method)

    @endpoint("POST", "/machines/{machine}/restart", status=202)
    async def restart(machine: UUID, asked: models.Restart) -> None:
        """Start the VM anew, in the same lease."""
        await calls.actions.call(cloud.restart, str(machine), asked.method)

    @endpoint("POST", "/machines/{machine}/suspend", status=202)
    async def suspend(machine: UUID, asked: models.Suspend) -> None:
        """Hold the VM, or hibernate it."""
        await calls.actions.call(cloud.suspend, str(machine), asked.method)

    @endpoint("POST", "/machines/{machine}/resume", status=202)
    async def resume(machine: UUID) -> None:
        """Let a VM that is held go on. One that hibernates is started by a new order."""
        await calls.actions.call(cloud.resume, str(machine))

    @endpoint("POST", "/machines/{machine}/save", status=202)
    async def save(machine: UUID, asked: models.Save) -> None:
        """Make an image of the VM's disk; see /saved."""
        await calls.actions.call(cloud.save, str(machine), asked.tag)

    @endpoint("DELETE", "/machines/{machine}", status=202, also={204: "It was gone."})
    async def delete(machine: UUID) -> Response:
        """End the VM, free its lease, remove its disk."""
        try:
            await calls.actions.call(cloud.delete, str(machine))
        except AbsentError:
            return Response(status_code=204)
        return Response(status_code=202)


def _devices(endpoint: Endpoints, calls: _Calls, cloud: Cloud) -> None:
    @endpoint("PUT", "/machines/{machine}/volumes/{volume}", answers=models.Device)
    async def attach_volume(machine: UUID, volume: UUID, readonly: bool = False) -> dict[str, str]:
        """Plug a volume into the running VM. It may be in several if all of them only read it."""
        ids = str(machine), str(volume)
        return {"device": await calls.storage.call(cloud.attach_volume, *ids, readonly)}

    @endpoint("DELETE", "/machines/{machine}/volumes/{volume}", status=204)
    async def detach_volume(machine: UUID, volume: UUID) -> None:
        """Take a volume out of the VM; one that is not in is success."""
        await calls.actions.call(_gone_is_success(cloud.detach_volume), str(machine), str(volume))

    @endpoint("PUT", "/machines/{machine}/nics/{nic}", answers=models.NicShown)
    async def attach_nic(machine: UUID, nic: UUID, card: Nic) -> dict[str, Any]:
        """Plug a network card into the running VM."""
        if card.id != nic:
            raise HTTPException(400, f"id: the card in the body is {card.id}, not {nic}")
        return await calls.actions.call(cloud.attach_nic, str(machine), card)

    @endpoint("DELETE", "/machines/{machine}/nics/{nic}", status=204)
    async def detach_nic(machine: UUID, nic: UUID) -> None:
        """Take a network card out of the VM; one that is not in is success."""
        await calls.actions.call(_gone_is_success(cloud.detach_nic), str(machine), str(nic))


def _images(endpoint: Endpoints, calls: _Calls, cloud: Cloud) -> None:
    @endpoint("GET", "/saved", answers=models.SavedShown)
    async def saved() -> dict[str, Any]:
        """The images that users have saved, at this site; what is being saved on this node."""
        return await calls.lists.call(cloud.saved)

    @endpoint("DELETE", "/saved/{tag}", status=204)
    async def delete_saved(tag: Tag) -> None:
        """Remove an image that a user has saved; one that is gone is success."""
        await calls.lists.call(cloud.delete_saved, tag)


def _volumes(endpoint: Endpoints, calls: _Calls, cloud: Cloud) -> None:
    @endpoint("GET", "/volumes", answers=models.VolumesShown)
    async def volumes() -> dict[str, Any]:
        """All volumes of the site; of this node, where it keeps them for itself."""
        found = await calls.storage.call(cloud.volumes.list)
        return {"volumes": [{"id": volume, "size": size} for volume, size in found.items()]}

    @endpoint("PUT", "/volumes/{volume}", status=201)
    async def create_volume(volume: UUID, asked: models.Size, local: bool = False) -> None:
        """Make a volume, or have it grow to this size: a guest that has it sees that. One that has
        it already, or is larger, is success. `local`: who asks knows that it will be on this node
        alone."""
        if local is not cloud.volumes.local:
            here = "for VMs of this node alone" if cloud.volumes.local else "for all nodes"
            raise ConflictError(f"volumes are {here}: see local_volumes")
        await calls.storage.call(cloud.have_volume, str(volume), asked.size)

    @endpoint("PUT", "/volumes/{volume}/copy", answers=models.CopyShown)
    async def copy_volume(volume: UUID, asked: models.CopyOf) -> dict[str, Any]:
        """Have a volume that is a copy of another. It is begun, and told again how far it is; of
        one that a VM here writes on, as it is at one moment."""
        return await calls.storage.call(cloud.copy_volume, str(asked.of), str(volume))

    @endpoint("DELETE", "/volumes/{volume}", status=204)
    async def delete_volume(volume: UUID) -> None:
        """Remove a volume; one that is gone is success."""
        await calls.storage.call(cloud.delete_volume, str(volume))


def _gone_is_success(act: Callable[[str, str], None]) -> Callable[[str, str], None]:
    def done(machine: str, device: str) -> None:
        try:
            act(machine, device)
        except AbsentError:
            return

    return done
