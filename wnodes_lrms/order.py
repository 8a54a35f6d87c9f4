"""What a bridge asks of the baits, signed: a lease of any of them, then a VM of the one whose node
the LRMS has placed the lease on.

Both are JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037): `jti` is the lease, `aud` the
cluster, `exp` the end of its life. A request for a lease says what the lease job needs, and nothing
of what the VM will have. An order has all of it, and names the job and the node that it is for: so
it is good once in the whole cluster, and nowhere but there.
"""

import base64
import ipaddress
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
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

from wnodes_lrms.config.load import Tag
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.rates import Mbits, Rates
from wnodes_lrms.validation import first_fault

_ALGORITHM = "EdDSA"
_AUDIENCE = "wnodes-lrms:"
LEASE_NAME = "wnodes-lease-"  # before the lease's id: the name of the job in the LRMS
_LONGEST = 120_000  # characters; baits take no more, see bait/frontend/models.py


def _interface(text: str) -> str:
    ipaddress.IPv4Interface(text)
    return text


def _interface6(text: str) -> str:
    ipaddress.IPv6Interface(text)
    return text


def _host(text: str) -> str:
    ipaddress.IPv4Address(text)
    return text


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text


# A job on its way between bridge and baits. Only the adapter of the batch system makes it a job id.
JobText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\[\]-]{0,299}$")]
Line = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
Mac = Annotated[str, StringConstraints(pattern=r"^52:54:00(:[0-9a-f]{2}){3}$")]
Address = Annotated[
    str, StringConstraints(pattern=r"^[0-9.]{7,15}/[0-9]{1,2}$"), AfterValidator(_interface)
]
Address6 = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f:]{2,39}/64$"), AfterValidator(_interface6)
]
# A number beyond what the cards of one VM may have together.
Count = Annotated[int, Field(ge=1, le=1 << 24)]
Feature = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,30}$")]
Host = Annotated[str, StringConstraints(pattern=r"^[0-9.]{7,15}$"), AfterValidator(_host)]


class Nic(BaseModel):
    """A network card of the machine.

    On a network of kind nat the bait of the node gives the address; on the others it is here, or
    absent where the guest is to ask for one itself. What a network of kind bridge is on a node, the
    node's own configuration says, and whether cards on it have IPv6; on one of kind isolated those
    have it whose orders say so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    kind: Literal["nat", "bridge", "isolated"]
    network: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    mac: Mac
    address: Address | None = None  # with the prefix's length
    gateway: Host | None = None
    address6: Address6 | None = None  # that follows from the MAC, with the prefix's length
    inbound: Mbits | None = None
    outbound: Mbits | None = None

    @property
    def rates(self) -> Rates:
        """What it may carry, as its user and the bridge's site have it."""
        return Rates(self.inbound, self.outbound)

    @model_validator(mode="before")
    @classmethod
    def _without_bridge(cls, values: Any) -> Any:
        """Orders of 0.4, in ledgers and queues, named the node's bridge: it is not believed."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key != "bridge"}
        return values


class LeaseRequest(BaseModel):
    """A lease that a bait is to submit: what its job needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lease: UUID
    dn: Line  # the user's, of the end entity
    fqan: Line = ""  # the first one, empty for a user without VOMS
    account: Account  # the local user that the lease job runs as
    lrms_account: Line = ""  # what is charged; empty: the LRMS's default
    partition: Line = ""  # partition or queue
    walltime: int = Field(ge=60, description="seconds")
    cores: int = Field(ge=1)
    memory: int = Field(ge=64, description="MiB of the guest")
    node: Line = ""  # where it must run; of a request, empty: anywhere
    features: tuple[Feature, ...] = ()  # of the nodes that may have it, in the batch system
    consumables: dict[Feature, Count] = {}  # how much of what the batch system counts of its node


class Order(LeaseRequest):
    """The VM that is to run inside a lease, in this job and on this node alone.

    Ledgers from before 0.5 have some that name no job; nobody takes such an order
    (cloud/admission.py).
    """

    job: JobText = ""
    machine: UUID
    hostname: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    image: Tag
    saved: bool = False  # the image is one that a user saved
    disk: int = Field(0, ge=0, le=65536, description="GiB of the root disk, at least")
    ssh_keys: tuple[Line, ...] = ()
    user_data: Annotated[str, StringConstraints(max_length=49152), AfterValidator(_base64)] = ""
    nics: tuple[Nic, ...] = ()
    volumes: tuple[UUID, ...] = ()
    readonly: tuple[UUID, ...] = ()  # those of them that the VM may only read

    @property
    def lease_request(self) -> LeaseRequest:
        """What of it the lease job needs."""
        return LeaseRequest(**{name: getattr(self, name) for name in LeaseRequest.model_fields})


Asked = TypeVar("Asked", bound=LeaseRequest)


def sign(asked: LeaseRequest, cluster: str, key: str, now: float, life: float) -> str:
    """A request or an order as a token that is good for `life` seconds from `now`; `key` is PEM.

    Raises RejectedError if it is too long for the baits.
    """
    claims = {
        "jti": str(asked.lease),
        "aud": _AUDIENCE + cluster,
        "iat": int(now),
        "exp": int(now + life),
        _claim(type(asked)): asked.model_dump(mode="json", exclude_defaults=True),
    }
    token = jwt.encode(claims, key, algorithm=_ALGORITHM)
    if len(token) > _LONGEST:
        raise RejectedError(
            f"the order has {len(token)} characters, the baits take {_LONGEST}: "
            "give the VM less user data or fewer keys"
        )
    return token


def _claim(kind: type[LeaseRequest]) -> str:
    """Where a token has it: a request can't pass for an order, nor an order for a request."""
    return "order" if issubclass(kind, Order) else "wish"


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


def verify(kind: type[Asked], token: str, cluster: str, keys: Collection[str]) -> Asked:
    """The request or the order in a token that one of these public keys (PEM texts) has signed.

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
            asked = kind.model_validate(claims.get(_claim(kind)))
        except jwt.InvalidSignatureError as error:
            fault = error
        except (jwt.InvalidTokenError, ValidationError) as error:
            raise RejectedError(f"order refused: {_first_line(error)}") from error
        except (jwt.InvalidKeyError, ValueError, RecursionError) as error:
            fault = error  # of a key that is none; another may fit
        else:
            if claims["jti"] != str(asked.lease):
                raise RejectedError("order refused: it is for another lease")
            return asked
    raise RejectedError(f"order refused: {_first_line(fault)}") from fault


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return first_fault(error)
    return str(error).splitlines()[0]
