"""`wnodes cloud networks`: the site's, and private ones between a user's VMs."""

from typing import Annotated

import typer

from wnodes_lrms.cli.cloud import attaching, entities, lookup
from wnodes_lrms.cli.cloud.connection import opened
from wnodes_lrms.cli.cloud.options import Name, Network, VmName, Wait
from wnodes_lrms.cli.out import Json, line, listing

app = typer.Typer(help="Networks: the site's, and your own.", invoke_without_command=True)
_SHOWN = ("id", "name", "address", "address6", "state", "of")


@app.callback()
def networks(ctx: typer.Context, as_json: Json = False) -> None:
    """List networks, or do what the command says."""
    if ctx.invoked_subcommand is None:
        list_(ctx, as_json)


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the networks that VMs of yours may be on."""
    with opened(ctx) as service:
        listing(lookup.networks(service), _SHOWN, as_json)


@app.command()
def create(
    ctx: typer.Context,
    name: Name = "",
    address: Annotated[str, typer.Option(help="its IPv4 range, as 10.1.2.0/24")] = "",
    address6: Annotated[
        str, typer.Option(help="its IPv6 range, a /64 as fd12:3456:789a:1::/64")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a private network, between VMs of yours; print its id."""
    own = {"occi.core.title": name} if name else {}
    own |= {"occi.network.address": address} if address else {}
    own |= {"wnodes.network.address6": address6} if address6 else {}
    mixins = [entities.IPNETWORK] if address else []
    mixins += [entities.IPV6NETWORK] if address6 else []
    with opened(ctx) as service:
        made = service.create("network", {"mixins": mixins, "attributes": own})
    if as_json:
        listing([entities.network(made)], (), as_json)
    else:
        line(made["id"])


@app.command()
def delete(ctx: typer.Context, network: Network) -> None:
    """Delete a network of yours."""
    with opened(ctx) as service:
        service.delete(f"/network/{lookup.network(service, network)['id']}")


@app.command()
def attach(
    ctx: typer.Context, network: Network, vm: VmName, wait: Wait = False, as_json: Json = False
) -> None:
    """Give a VM a card on a network, now or when it starts; with --wait, print its address."""
    with opened(ctx) as service:
        target = f"/network/{lookup.network(service, network)['id']}"
        made = attaching.attach(service, "networkinterface", target, vm, wait=wait)
    card = entities.card(made)
    if as_json:
        listing([card], (), as_json)
    elif card["address"]:
        line(card["address"])


@app.command()
def detach(ctx: typer.Context, network: Network, vm: VmName) -> None:
    """Take a VM's card on a network away; of several the last."""
    with opened(ctx) as service:
        target = f"/network/{lookup.network(service, network)['id']}"
        attaching.detach(service, "networkinterface", target, vm)
