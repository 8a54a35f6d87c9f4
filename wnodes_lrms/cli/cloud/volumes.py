"""`wnodes cloud volumes`: disks that outlive VMs."""

from typing import Annotated

import typer

from wnodes_lrms.cli.cloud import attaching, entities, lookup, waiting
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.connection import opened
from wnodes_lrms.cli.cloud.options import Name, VmName, Volume, Wait
from wnodes_lrms.cli.out import Json, line, listing

app = typer.Typer(help="Your volumes: disks that outlive VMs.", invoke_without_command=True)
_SHOWN = ("id", "name", "size", "state", "vm", "message")


@app.callback()
def volumes(ctx: typer.Context, as_json: Json = False) -> None:
    """List your volumes, or do what the command says. Sizes are in GiB."""
    if ctx.invoked_subcommand is None:
        list_(ctx, as_json)


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List your volumes, each with the VM that it is in."""
    with opened(ctx) as service:
        listing(lookup.volumes(service), _SHOWN, as_json)


@app.command()
def create(
    ctx: typer.Context,
    size: Annotated[float, typer.Option(help="GiB, rounded up to a whole one")],
    name: Name = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Make a volume; print its id."""
    own = {"occi.core.title": name} if name else {}
    with opened(ctx) as service:
        made = service.create("storage", {"attributes": {"occi.storage.size": size, **own}})
        _tell(service, made["id"], wait=wait, as_json=as_json)


@app.command()
def resize(
    ctx: typer.Context, volume: Volume, size: Annotated[float, typer.Option(help="GiB")]
) -> None:
    """Make a volume larger, also in a VM that runs; it never shrinks."""
    with opened(ctx) as service:
        service.act(f"/storage/{lookup.volume(service, volume)['id']}", "resize", size=size)


@app.command()
def snapshot(
    ctx: typer.Context,
    volume: Volume,
    name: Name = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Copy a volume, as it is now, into a new one; print that one's id.

    Of a volume that a running VM writes on, the copy is as after a power cut, unless the VM has
    QEMU's guest agent: `list --json` tells.
    """
    with opened(ctx) as service:
        path = f"/storage/{lookup.volume(service, volume)['id']}"
        made = service.act(path, "snapshot", **({"name": name} if name else {}))
        _tell(service, made["id"], wait=wait, as_json=as_json)


@app.command()
def offline(ctx: typer.Context, volume: Volume) -> None:
    """Keep a volume from being given to a VM."""
    with opened(ctx) as service:
        service.act(f"/storage/{lookup.volume(service, volume)['id']}", "offline")


@app.command()
def online(ctx: typer.Context, volume: Volume) -> None:
    """Let a volume be given to VMs again."""
    with opened(ctx) as service:
        service.act(f"/storage/{lookup.volume(service, volume)['id']}", "online")


@app.command()
def delete(ctx: typer.Context, volume: Volume) -> None:
    """Delete a volume, and all that is on it."""
    with opened(ctx) as service:
        service.delete(f"/storage/{lookup.volume(service, volume)['id']}")


@app.command()
def attach(
    ctx: typer.Context, volume: Volume, vm: VmName, wait: Wait = False, as_json: Json = False
) -> None:
    """Give a VM a volume, now or when it starts; with --wait, print what disk it is there."""
    with opened(ctx) as service:
        target = f"/storage/{lookup.volume(service, volume)['id']}"
        made = attaching.attach(service, "storagelink", target, vm, wait=wait)
    disk = entities.disk(made)
    if as_json:
        listing([disk], (), as_json)
    elif disk["device"]:
        line(disk["device"])


@app.command()
def detach(ctx: typer.Context, volume: Volume, vm: VmName, wait: Wait = False) -> None:
    """Take a volume out of a VM; with --wait, until the VM has let go of it."""
    with opened(ctx) as service:
        target = f"/storage/{lookup.volume(service, volume)['id']}"
        attaching.detach(service, "storagelink", target, vm, wait=wait)


def _tell(service: Service, volume: str, *, wait: bool, as_json: bool) -> None:
    """What is said of a volume that was just asked for."""
    path = f"/storage/{volume}"
    if not as_json:
        line(volume)
    if wait:
        further = "it is there: wnodes cloud volumes"
        waiting.until(service, path, f"volume {volume}", waiting.volume_is_online, further)
    if as_json:
        listing([entities.volume(service.get(path), ())], (), as_json)
