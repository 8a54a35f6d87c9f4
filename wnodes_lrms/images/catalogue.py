"""The catalogue of images: one TOML file for each tag, in a folder that all nodes have."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from wnodes_lrms.config.load import TAG, Tag
from wnodes_lrms.errors import ConfigError, RejectedError
from wnodes_lrms.folders import LISTED, have

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Parameters of a URL that let whoever has them in: of signed URLs, and of many programs.
_KEY = re.compile(
    r"[?&#;](?:[^=&]*(?:token|secret|passw|signature|credential)[^=&]*|sig|auth|(?:api|access)?_?key)=",
    re.IGNORECASE,
)


def _public(source: str) -> str:
    """A source that everybody may read: images are listed, and named in jobs' errors."""
    if source.startswith("/"):
        return source
    if "@" in source:
        raise ValueError(
            "has a user name or password, and everybody reads the catalogue: write them into the"
            " file `credentials` of [images]; an @ in a path is %40"
        )
    if _KEY.search(source):
        raise ValueError("has a key or token in its query, and everybody reads the catalogue")
    return source


Source = Annotated[str, StringConstraints(pattern=r"^(/|https?://)\S+$"), AfterValidator(_public)]


class Part(BaseModel):
    """A file of an image: where it comes from, and the SHA-256 that every copy must have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source
    sha256: Digest


class Image(BaseModel):
    """An image as the catalogue has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag: Tag
    format: Literal["qcow2", "raw"]
    disk: Part
    kernel: Part | None = None
    initrd: Part | None = None
    cmdline: str = Field("", description="kernel command line; needs a kernel")
    context: Literal["script", "cloud-init", "guestfs"] = Field(
        description="how a VM learns its user, keys and address: see docs/images.md"
    )
    trusted: bool = Field(False, description="the site vouches for it: it may see shared folders")
    acls: bool = Field(
        False, description="its kernel knows access lists of shared folders (Linux 5.13 or newer)"
    )
    min_memory: int = Field(64, gt=0, description="MiB the guest needs at least")

    @property
    def roles(self) -> dict[str, Part]:
        """Its files, by what they are for."""
        found = {"disk": self.disk, "kernel": self.kernel, "initrd": self.initrd}
        return {role: part for role, part in found.items() if part}

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every file that a node must have before a VM can be made from this image."""
        return tuple(self.roles.values())


def tags(folder: Path) -> list[str]:
    """The tags in the catalogue, sorted. An absent folder is an empty catalogue."""
    found = (path.stem for path in folder.glob("*.toml"))
    return sorted(tag for tag in found if TAG.fullmatch(tag))


def images(folder: Path) -> Iterator[Image]:
    """Every image in the catalogue. Raises ConfigError at the first entry that is wrong."""
    return (read(folder, tag) for tag in tags(folder))


def read(folder: Path, tag: str) -> Image:
    """The catalogue's entry for a tag.

    Raises RejectedError if there is none, ConfigError with every fault if it is wrong.
    """
    if not TAG.fullmatch(tag):
        raise RejectedError(f"image {tag[:60]!a}: a tag has the form <name>_<os>_<arch>")
    path = folder / f"{tag}.toml"
    try:
        entry = tomllib.loads(path.read_text())
        if "tag" in entry:
            raise ConfigError(str(path), ["tag: unknown key: the file's name is the tag"])
        return Image.model_validate({"tag": tag} | entry)
    except FileNotFoundError as error:
        known = ", ".join(tags(folder)) or "none"
        raise RejectedError(f"image {tag} is not in the catalogue (known: {known})") from error
    except OSError as error:
        raise ConfigError(str(path), [f"can't be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"is not TOML: {error}"]) from error
    except ValidationError as error:
        raise ConfigError(str(path), faults(error)) from error


def write(folder: Path, image: Image, mode: int = 0o644) -> Path:
    """Put an image into the catalogue, replacing an older entry; returns its file."""
    have(folder, LISTED)
    path = folder / f"{image.tag}.toml"
    new = path.with_suffix(".new")
    new.write_text(tomli_w.dumps(image.model_dump(exclude={"tag"}, exclude_none=True)))
    new.chmod(mode)
    new.replace(path)
    return path


def remove(folder: Path, tag: str) -> None:
    """Take a tag out of the catalogue. Raises RejectedError if it is not there."""
    read(folder, tag)
    (folder / f"{tag}.toml").unlink()


def faults(error: ValidationError) -> list[str]:
    """What pydantic found wrong, one line for each fault, with its place."""
    return [
        f"{'.'.join(str(part) for part in fault['loc'])}: "
        f"{fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    ]
