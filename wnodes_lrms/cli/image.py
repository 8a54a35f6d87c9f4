"""`wnodes image`: the catalogue of images."""

import functools
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from wnodes_lrms.cli.hooks import hooks_of
from wnodes_lrms.cli.out import ConfigFile, Json, details, line, listing, progress
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.images import catalogue, examine, glue2, source
from wnodes_lrms.images.catalogue import Image, Part
from wnodes_lrms.lrms import hookfiles

app = typer.Typer(help="The catalogue of images.", no_args_is_help=True)
Tag = Annotated[str, typer.Argument(help="<name>_<os>_<arch>", metavar="TAG")]
Digest = Annotated[str | None, typer.Option(help="SHA-256 of the file; default: what it has now")]
_MIB = 1 << 20
_UNREAD = "0" * 64  # for a checksum, until the file is read: what no file has


@app.command()
def add(
    tag: Tag,
    source: Annotated[str, typer.Option(help="the disk: an absolute path or http(s) URL")],
    context: Annotated[str, typer.Option(help="how guests are told: script, cloud-init, guestfs")],
    format: Annotated[str, typer.Option(help="qcow2 or raw")] = "qcow2",  # noqa: A002
    sha256: Digest = None,
    kernel: Annotated[str | None, typer.Option(help="boot this kernel directly")] = None,
    kernel_sha256: Digest = None,
    initrd: Annotated[str | None, typer.Option(help="the kernel's initial RAM disk")] = None,
    initrd_sha256: Digest = None,
    cmdline: Annotated[str, typer.Option(help="the kernel's command line")] = "",
    trusted: Annotated[bool, typer.Option("--trusted", help="its VMs see shared folders")] = False,
    acls: Annotated[bool, typer.Option("--acls", help="its kernel is Linux 5.13 or newer")] = False,
    min_memory: Annotated[int, typer.Option(help="MiB that the guest needs")] = 64,
    config: ConfigFile = None,
) -> None:
    """Put an image into the catalogue, or in the place of an older one.

    Its files are looked at first: an image that no VM starts from is refused. Then those without a
    checksum are read, once, to compute it.
    """
    loaded = _load(config)
    parts = {
        name: {"source": where, "sha256": digest or _UNREAD}
        for name, where, digest in (
            ("disk", source, sha256),
            ("kernel", kernel, kernel_sha256),
            ("initrd", initrd, initrd_sha256),
        )
        if where
    }
    try:
        image = Image.model_validate(
            {
                "tag": tag,
                "format": format,
                "context": context,
                "cmdline": cmdline,
                "trusted": trusted,
                "acls": acls,
                "min_memory": min_memory,
                **parts,
            }
        )
    except ValidationError as error:
        raise ConfigError(f"image {tag}", catalogue.faults(error)) from error
    _look(image)
    read = {
        role: _read(image, role, loaded.images.credentials)
        for role, part in image.roles.items()
        if part.sha256 == _UNREAD
    }
    path = catalogue.write(_folder(loaded), image.model_copy(update=read))
    line(f"{tag}: written to {path}")
    _tell_submission(loaded)


@app.command("list")
def list_(as_json: Json = False, config: ConfigFile = None) -> None:
    """List the images."""
    rows = [_row(image) for image in catalogue.images(_folder(_load(config)))]
    listing(rows, ("tag", "format", "context", "trusted", "source"), as_json)


@app.command()
def show(tag: Tag, as_json: Json = False, config: ConfigFile = None) -> None:
    """Show all of an image's entry."""
    details(_row(catalogue.read(_folder(_load(config)), tag)), as_json)


@app.command()
def remove(tag: Tag, config: ConfigFile = None) -> None:
    """Take an image out of the catalogue; VMs that run from it live on."""
    loaded = _load(config)
    catalogue.remove(_folder(loaded), tag)
    line(f"{tag}: removed")
    _tell_submission(loaded)


@app.command("glue2")
def glue2_(
    manager: Annotated[str, typer.Option(help="DN of the CE's computing manager", metavar="DN")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of LDIF")] = False,
    config: ConfigFile = None,
) -> None:
    """Print the tags as GLUE 2.0 application environments, for an information system.

    A computing element shows jobs' folders to VMs from trusted images only: so these.
    """
    found = catalogue.images(_folder(_load(config)))
    tags = [image.tag for image in found if image.trusted]
    render = glue2.document if as_json else glue2.ldif
    typer.echo(render(tags, manager, time.time()).rstrip("\n"))


def _load(path: Path | None) -> Config:
    return configuration.load(configuration.path_in_use(path))


def _folder(config: Config) -> Path:
    return Path(config.images.catalogue)


def _look(image: Image) -> None:
    """Refuse an image that no VM starts from, by those of its files that are on this host."""
    paths = {role: Path(part.source) for role, part in image.roles.items()}
    here = {role: path for role, path in paths.items() if path.is_file()}
    examine.refuse_unfit(image, here)
    if image.format == "raw" and "disk" in here and (sizes := examine.hollow(here["disk"])):
        size, taken = (-(-number // _MIB) for number in sizes)
        progress(
            f"{image.disk.source}: every node copies {size} MiB, of which {taken} are in use:"
            " as qcow2 it is smaller (`qemu-img convert -O qcow2`)"
        )


def _read(image: Image, role: str, credentials: str | None) -> Part:
    """The part with the checksum that its file has. Raises WnodesError."""
    where = image.roles[role].source
    progress(f"reading {where} for its checksum …")
    look = functools.partial(examine.refuse_beginning, image, role)
    return Part(source=where, sha256=source.sha256(where, credentials, look))


def _row(image: Image) -> dict[str, object]:
    row: dict[str, object] = {"tag": image.tag, "source": image.disk.source}
    row["sha256"] = image.disk.sha256
    for name, part in (("kernel", image.kernel), ("initrd", image.initrd)):
        row[name] = part and part.source
    rest = image.model_dump(exclude={"tag", "disk", "kernel", "initrd"})
    return row | rest


def _tell_submission(config: Config) -> None:
    if hookfiles.write_policy(hooks_of(config)):
        line("the submission hook knows")
