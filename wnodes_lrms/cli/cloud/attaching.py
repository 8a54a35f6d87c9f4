"""Links between VMs and what they can have: made and taken away while a VM runs, or before."""

from wnodes_lrms.cli.cloud import lookup, waiting
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.entities import Row
from wnodes_lrms.cli.cloud.faults import NoneSuchError


def attach(service: Service, kind: str, target: str, vm: str, *, wait: bool) -> Row:
    """Link a VM to what is at a path (`kind`: of the link); the link, as OCCI has it."""
    row = lookup.vm(service, vm)
    ends = {"occi.core.source": f"/compute/{row['id']}", "occi.core.target": target}
    made = service.create(kind, {"attributes": ends})
    if not wait:
        return made
    return waiting.until(
        service,
        f"/{kind}/{made['id']}",
        f"{target} in VM {row['id']}",
        waiting.link_is_active(kind),
        f"it goes on: wnodes cloud show {row['id']}",
    )


def detach(service: Service, kind: str, target: str, vm: str, *, wait: bool = False) -> None:
    """Take away a VM's link to what is at a path; of several the last. Raises NoneSuchError.

    `wait`: until the VM has let go of it.
    """
    row = lookup.vm(service, vm)
    source = f"/compute/{row['id']}"
    found = [
        link["id"]
        for link in service.members(kind)
        if link["attributes"]["occi.core.source"] == source
        and link["attributes"]["occi.core.target"] == target
    ]
    if not found:
        raise NoneSuchError(f"VM {row['id']} has no link to {target}")
    path = f"/{kind}/{found[-1]}"
    service.delete(path)
    if wait:
        what, further = f"{target} in VM {row['id']}", "it goes on: wnodes cloud volumes"
        waiting.until_gone(service, path, what, waiting.link_goes(kind), further)
