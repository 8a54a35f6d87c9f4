"""The arguments and options of commands of `wnodes cloud`, as Typer declares them."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from wnodes_lrms.cli.cloud import completion

_ONE = "its name, its id, or the beginning of one"

VmName = Annotated[str, Argument(help=_ONE, metavar="VM", autocompletion=completion.vm)]
VmNames = Annotated[
    list[str],
    Argument(help="names, ids, or their beginnings", metavar="VM...", autocompletion=completion.vm),
]
Volume = Annotated[str, Argument(help=_ONE, metavar="VOLUME", autocompletion=completion.volume)]
Network = Annotated[str, Argument(help=_ONE, metavar="NETWORK", autocompletion=completion.network)]
Name = Annotated[str, Argument(help="what you call it", metavar="NAME")]
Wait = Annotated[bool, Option("--wait", help="wait until it is done, and say how far it is")]

# Of `create`:
Image = Annotated[
    str,
    Option(metavar="IMAGE", help="as `images` lists them", autocompletion=completion.image),
]
Size = Annotated[
    str, Option(metavar="SIZE", help="as `sizes` lists them", autocompletion=completion.size)
]
PublicKey = Annotated[
    Path | None,
    Option(metavar="FILE", help="public SSH key that may log in; default: yours in ~/.ssh"),
]
UserData = Annotated[
    Path | None,
    Option(metavar="FILE", help="data for its first boot: a script, or cloud-init's"),
]
OnNetworks = Annotated[
    list[str] | None,
    Option(
        "--network",
        metavar="NETWORK",
        help="a network to be on; can be repeated",
        autocompletion=completion.network,
    ),
]
WithVolumes = Annotated[
    list[str] | None,
    Option(
        "--volume",
        metavar="VOLUME",
        help="a volume to attach; can be repeated",
        autocompletion=completion.volume,
    ),
]
Ssh = Annotated[bool, Option("--ssh", help="wait, and log in as root")]

# Of `ssh`:
User = Annotated[str, Option("--login", metavar="USER", help="whom to log in as")]
Identity = Annotated[
    Path | None, Option("--identity", "-i", metavar="FILE", help="private SSH key, as for ssh")
]
Command = Annotated[
    list[str] | None, Argument(metavar="COMMAND...", help="to run there in place of a shell")
]
