"""The commands of `wnodes cloud` about VMs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from wnodes_lrms.cli.cloud import entities, keys, lookup, ssh, waiting
from wnodes_lrms.cli.cloud.client import INFRA, Service
from wnodes_lrms.cli.cloud.connection import opened
from wnodes_lrms.cli.cloud.entities import Row
from wnodes_lrms.cli.cloud.names import one
from wnodes_lrms.cli.cloud.options import (
    Command,
    Identity,
    Image,
    Name,
    OnNetworks,
    PublicKey,
    Size,
    Ssh,
    User,
    UserData,
    VmName,
    VmNames,
    Wait,
    WithVolumes,
)
from wnodes_lrms.cli.out import Json, line, listing
from wnodes_lrms.errors import RejectedError

_SHOWN = ("id", "name", "state", "address", "ends", "image", "size", "message")


def create(
    ctx: typer.Context,
    name: Name = "",
    image: Image = "",
    size: Size = "",
    key: PublicKey = None,
    user_data: UserData = None,
    network: OnNetworks = None,
    volume: WithVolumes = None,
    wait: Wait = False,
    login: Ssh = False,
    as_json: Json = False,
) -> None:
    """Make a VM, which starts as soon as there is room for it; print its id.

    What is not named is the site's choice: the image, the size, the network.
    """
    key = key or keys.usual_key()
    if not key and not user_data:
        raise RejectedError(
            "no key: nobody could log in. Give --key FILE.pub; ssh-keygen -t ed25519 makes one"
        )
    own = {"occi.core.title": name, "occi.compute.hostname": name} if name else {}
    mixins = []
    if key:
        mixins.append(f"{INFRA}/credentials#ssh_key")
        own["occi.credentials.ssh.publickey"] = keys.public_key(key)
    if user_data:
        mixins.append(f"{INFRA}/compute#user_data")
        own["occi.compute.userdata"] = keys.user_data(user_data)
    with opened(ctx) as service:
        mixins += _templates(service, image, size)
        cards = [lookup.network(service, word) for word in network or ()]
        disks = [lookup.volume(service, word) for word in volume or ()]
        links = [_link("networkinterface", "network", each) for each in cards]
        links += [_link("storagelink", "storage", each) for each in disks]
        made = service.create("compute", {"mixins": mixins, "attributes": own, "links": links})
        if not as_json:
            line(made["id"])
        if wait or login:
            made = _wait(service, made["id"], "active", reachable=login)
        if as_json:
            listing([entities.vm(made)], (), as_json)
    if login:
        _log_in(entities.vm(made), "root", keys.private_half(key), ())


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List your VMs, each with why it is in its state, and when its lease ends."""
    with opened(ctx) as service:
        listing(lookup.vms(service), _SHOWN, as_json)


def show(ctx: typer.Context, vm: VmName, as_json: Json = False) -> None:
    """Show all that is known of a VM."""
    with opened(ctx) as service:
        row = lookup.vm(service, vm)
    if as_json:
        listing([row], (), as_json)
        return
    listing([{"key": key, "value": value} for key, value in _lines(row)], ("key", "value"), False)


def log_in(
    ctx: typer.Context,
    vm: VmName,
    command: Command = None,
    user: User = "root",
    identity: Identity = None,
) -> None:
    """Log into a VM by ssh, once it runs."""
    with opened(ctx) as service:
        found = _wait(service, lookup.vm(service, vm)["id"], "active", reachable=True)
    _log_in(entities.vm(found), user, identity, command or ())


def stop(ctx: typer.Context, vm: VmNames, wait: Wait = False, as_json: Json = False) -> None:
    """Shut VMs down: their cores are given back, their disks are kept."""
    _act(ctx, vm, "stop", "inactive" if wait else "", as_json)


def start(ctx: typer.Context, vm: VmNames, wait: Wait = False, as_json: Json = False) -> None:
    """Start VMs again, with their disks, as soon as there is room."""
    _act(ctx, vm, "start", "active" if wait else "", as_json)


def delete(ctx: typer.Context, vm: VmNames) -> None:
    """Delete VMs and their disks; volumes are kept."""
    with opened(ctx) as service:
        for row in lookup.each(lookup.vms(service), vm, "VM"):
            service.delete(f"/compute/{row['id']}")


def _act(ctx: typer.Context, given: Sequence[str], action: str, wanted: str, as_json: bool) -> None:
    with opened(ctx) as service:
        paths = [f"/compute/{row['id']}" for row in lookup.each(lookup.vms(service), given, "VM")]
        for path in paths:
            service.act(path, action)
        for path in paths if wanted else ():
            _wait(service, path.rpartition("/")[2], wanted)
        if as_json:
            listing([entities.vm(service.get(path)) for path in paths], (), as_json)


def _wait(service: Service, vm: str, wanted: str, *, reachable: bool = False) -> dict[str, Any]:
    look = waiting.vm_is(wanted, reachable=reachable)
    return waiting.until(service, f"/compute/{vm}", f"VM {vm}", look, _further(vm))


def _further(vm: str) -> str:
    return f"it is there: wnodes cloud show | ssh | start | delete {vm}"


def _log_in(row: Row, user: str, identity: Path | None, command: Sequence[str]) -> NoReturn:
    argv = ssh.arguments(row, user, identity, command, os.environ)
    waiting.until_ssh_answers(row["address"], f"VM {row['id']}", _further(row["id"]))
    ssh.become(argv)


def _templates(service: Service, image: str, size: str) -> list[str]:
    """The mixins of image and size, where they are named. Raises NoneSuchError, RejectedError."""
    if not (image or size):
        return []
    model = service.get("/-/")
    asked = ((image, "image", entities.IMAGES), (size, "size", entities.SIZES))
    return [
        scheme + one(entities.offers(model, scheme), given, what, ("name", "title"))["name"]
        for given, what, scheme in asked
        if given
    ]


def _link(kind: str, target: str, found: Row) -> Mapping[str, Any]:
    """A link of a new VM's to a network or a volume."""
    location = {"location": f"/{target}/{found['id']}", "kind": f"{INFRA}#{target}"}
    return {"kind": f"{INFRA}#{kind}", "target": location}


def _lines(row: Row) -> list[tuple[str, Any]]:
    """A VM as lines of a key and a value."""
    shown: list[tuple[str, Any]] = []
    for key, value in row.items():
        if key == "networks":
            shown += [
                ("network", _words(c, "network", "interface", "address", "address6", "mac"))
                for c in value
            ]
        elif key == "volumes":
            shown += [("volume", _words(disk, "volume", "device")) for disk in value]
        else:
            shown.append((key, f"{value} MiB" if key == "memory" else value))
    return shown


def _words(link: Row, *keys: str) -> str:
    told = dict.fromkeys(str(link[key]) for key in (*keys, "state") if link[key])
    return " ".join(told) + (f" ({link['message']})" if link["message"] else "")
