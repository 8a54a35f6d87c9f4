"""Signed orders: what a bridge asks of the baits, for one cloud machine and one lease.

An order is a JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037): `jti` is the lease, `aud`
the cluster, `exp` the end of its life. The lease job hands it to the bait of the node on which the
LRMS has placed it; each is good for one machine, once.
"""

import base64
import ipaddress
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import jwt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from wnodes_lrms.config import Tag
from wnodes_lrms.errors import RejectedError, WnodesError

_ALGORITHM = "EdDSA"
_AUDIENCE = "wnodes-lrms:"
LEASE_NAME = "wnodes-lease-"  # before the lease's id: the name of the job in the LRMS
_LONGEST = 120_000  # characters: Linux gives a variable of a process's environment 128 KiB


def _interface(text: str) -> str:
    ipaddress.IPv4Interface(text)
    return text


def _host(text: str) -> str:
    ipaddress.IPv4Address(text)
    return text


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text


Line = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
Mac = Annotated[str, StringConstraints(pattern=r"^52:54:00(:[0-9a-f]{2}){3}$")]
Address = Annotated[
    str, StringConstraints(pattern=r"^[0-9.]{7,15}/[0-9]{1,2}$"), AfterValidator(_interface)
]
Host = Annotated[str, StringConstraints(pattern=r"^[0-9.]{7,15}$"), AfterValidator(_host)]


class Nic(BaseModel):
    """A network card of the machine.

    On a network of kind nat the bait of the node gives the address; on the others it is here, or
    absent where the guest is to ask for one itself. What a network of kind bridge is on a node, the
    node's own configuration says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    kind: Literal["nat", "bridge", "isolated"]
    network: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    mac: Mac
    address: Address | None = None  # with the prefix's length
    gateway: Host | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_bridge(cls, values: Any) -> Any:
        """Orders of 0.4, in ledgers and queues, named the node's bridge: it is not believed."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key != "bridge"}
        return values


class Order(BaseModel):
    """A cloud machine that is to run inside one lease."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lease: UUID
    machine: UUID
    hostname: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    dn: Line  # the user's, of the end entity
    fqan: Line = ""  # the first one, empty for a user without VOMS
    account: Account  # the local user that the lease job runs as
    lrms_account: Line = ""  # what is charged; empty: the LRMS's default
    partition: Line = ""  # partition or queue
    walltime: int = Field(ge=60, description="seconds")
    cores: int = Field(ge=1)
    memory: int = Field(ge=64, description="MiB of the guest")
    node: Line = ""  # where it must run, because its disk is there; empty: anywhere
    image: Tag
    saved: bool = False  # the image is one that a user saved
    ssh_keys: tuple[Line, ...] = ()
    user_data: Annotated[str, StringConstraints(max_length=49152), AfterValidator(_base64)] = ""
    nics: tuple[Nic, ...] = ()
    volumes: tuple[UUID, ...] = ()


def sign(order: Order, cluster: str, key: str, now: float, life: float) -> str:
    """The order as a token that is good for `life` seconds from `now`; `key` is a PEM text.

    Raises RejectedError if it is too long for the environment of a lease job.
    """
    claims = {
        "jti": str(order.lease),
        "aud": _AUDIENCE + cluster,
        "iat": int(now),
        "exp": int(now + life),
        "order": order.model_dump(mode="json", exclude_defaults=True),
    }
    token = jwt.encode(claims, key, algorithm=_ALGORITHM)
    if len(token) > _LONGEST:
        raise RejectedError(
            f"the order has {len(token)} characters, a lease job can carry {_LONGEST}: "
            "give the machine less user data or fewer keys"
        )
    return token


def lease_named_in(token: str) -> str:
    """The lease that a token says it is for; nothing of it is verified.

    Raises RejectedError if it is no token at all.
    """
    try:
        return str(UUID(jwt.decode(token, options={"verify_signature": False})["jti"]))
    except (jwt.InvalidTokenError, KeyError, ValueError, AttributeError, RecursionError) as error:
        raise RejectedError("order refused: it is no token") from error


def public_keys(files: Iterable[str]) -> list[str]:
    """The bridges' keys, read each time: a bridge that gets a new one needs no restart.

    Raises WnodesError if one can't be read.
    """
    try:
        return [Path(file).read_text() for file in files]
    except OSError as error:
        raise WnodesError(f"[api] order_keys: {error.filename}: {error.strerror}") from error


def verify(token: str, cluster: str, keys: Collection[str]) -> Order:
    """The order in a token that one of these public keys (PEM texts) has signed.

    Raises RejectedError: not signed by any of them, expired, for another cluster, malformed.
    """
    fault: Exception = jwt.InvalidSignatureError("no key is known to this bait")
    for key in keys:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE + cluster,
                options={"require": ["exp", "iat", "jti", "aud"]},
            )
            order = Order.model_validate(claims.get("order"))
        except jwt.InvalidSignatureError as error:
            fault = error
        except (jwt.InvalidTokenError, ValidationError) as error:
            raise RejectedError(f"order refused: {_first_line(error)}") from error
        except (jwt.InvalidKeyError, ValueError, RecursionError) as error:
            fault = error  # of a key that is none; another may fit
        else:
            if claims["jti"] != str(order.lease):
                raise RejectedError("order refused: it is for another lease")
            return order
    raise RejectedError(f"order refused: {_first_line(fault)}") from fault


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
    return str(error).splitlines()[0]
