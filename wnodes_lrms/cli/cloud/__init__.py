"""`wnodes cloud`: a user's VMs at a site's cloud service, over OCCI."""

from typing import Annotated

import typer

from wnodes_lrms.cli.cloud import login, networks, offers, vms, volumes
from wnodes_lrms.cli.cloud.connection import Connection
from wnodes_lrms.cli.credentials import CertFile, KeyFile, ProxyFile, TokenFile

app = typer.Typer(
    help="Your VMs at a site's cloud service. Begin with: login, images, create.",
    no_args_is_help=True,
)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("images")(offers.images)
app.command("sizes")(offers.sizes)
app.command("create")(vms.create)
app.command("list")(vms.list_)
app.command("show")(vms.show)
app.command("ssh", context_settings={"allow_interspersed_args": False})(vms.log_in)
app.command("stop")(vms.stop)
app.command("start")(vms.start)
app.command("delete")(vms.delete)
app.add_typer(volumes.app, name="volumes")
app.add_typer(networks.app, name="networks")


@app.callback()
def connection(
    ctx: typer.Context,
    url: Annotated[
        str,
        typer.Option(
            envvar="WNODES_URL",
            help="the service, as https://host:11443; default: what login has remembered",
        ),
    ] = "",
    cert: CertFile = None,
    key: KeyFile = None,
    proxy: ProxyFile = None,
    token: TokenFile = None,
) -> None:
    """Say which service, and who you are there, where that is not as usual."""
    ctx.obj = Connection(url, cert, key, proxy, token)
