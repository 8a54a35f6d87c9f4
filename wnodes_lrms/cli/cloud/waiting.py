"""Waiting for what the service does in its own time, and saying meanwhile how far it is."""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wnodes_lrms.cli.cloud import entities, standing
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.faults import AwayError, InterruptedByUserError, ServiceError
from wnodes_lrms.cli.out import progress
from wnodes_lrms.errors import WnodesError

_PAUSE = 1.0  # seconds between two looks
_BORNE = 120.0  # seconds without an answer
_SSH_PORT = 22
_SSH_PATIENCE = 300.0  # seconds from an address to an SSH server

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """What one look at something has shown."""

    says: str  # its state, and why
    expected: str = ""  # when that is to be over, as far as anybody says so (ISO 8601)
    done: bool = False
    fault: str = ""  # why it will not come to what is waited for


def vm_is(wanted: str, *, reachable: bool = False) -> Callable[[Json], Look]:
    """Judges a VM that shall be in a state; `reachable`: and have an address. Pure."""

    def look(found: Json) -> Look:
        has = found["attributes"]
        state = has["occi.compute.state"]
        message = has.get("occi.compute.state.message", "")
        says = f"{state}: {message}" if message else state
        if state == "error":
            return Look(says, fault=message or "it failed")
        if state == wanted:
            address = any(_address(link) for link in found.get("links", []))
            return Look(
                says if address or not reachable else f"{says}, without address yet",
                done=address or not reachable,
            )
        expected = has.get(entities.LEASE_EXPECTED, "")
        on_its_way = any(action.endswith("#stop") for action in found["actions"])
        if wanted == "active" and state == "inactive" and not on_its_way:
            return Look(says, fault=f"it is stopped{f' ({message})' if message else ''}")
        return Look(says, expected)

    return look


def volume_is_online(found: Json) -> Look:
    """Judges a volume that is being made. Pure."""
    state = found["attributes"]["occi.storage.state"]
    message = found["attributes"].get("occi.storage.state.message", "")
    fault = message or "it failed" if state == "error" else ""
    says = f"{state}: {message}" if message else state
    return Look(says, done=state == "online", fault=fault)


def link_is_active(kind: str) -> Callable[[Json], Look]:
    """Judges a link of a kind, as "storagelink", that shall be active. Pure."""

    def look(found: Json) -> Look:
        state = found["attributes"][f"occi.{kind}.state"]
        message = found["attributes"].get(f"occi.{kind}.state.message", "")
        fault = message or "it failed" if state == "error" else ""
        says = f"{state}: {message}" if message else state
        return Look(says, done=state == "active", fault=fault)

    return look


def link_goes(kind: str) -> Callable[[Json], Look]:
    """Judges a link of a kind that is being taken away. Pure."""

    def look(found: Json) -> Look:
        state = found["attributes"][f"occi.{kind}.state"]
        return Look(found["attributes"].get(f"occi.{kind}.state.message", "") or state)

    return look


def until_gone(
    service: Service, path: str, what: str, look: Callable[[Json], Look], further: str
) -> None:
    """Wait until there is nothing at a path any more. Raises as `until`."""
    try:
        until(service, path, what, look, further)
    except ServiceError as fault:
        if fault.status != 404:
            raise


def until(
    service: Service, path: str, what: str, look: Callable[[Json], Look], further: str
) -> dict[str, Any]:
    """Wait until something is as it shall be; as it is then.

    `what` names it in messages, and `further` says how to go on where the wait ends before.
    Raises WnodesError if it will not come to that, InterruptedByUserError on Ctrl-C, AwayError if
    the service does not answer for two minutes.
    """
    began = heard = time.monotonic()
    said = ""
    try:
        while True:
            try:
                found: dict[str, Any] = service.get(path)
                seen, heard = look(found), time.monotonic()
            except (AwayError, ServiceError) as fault:
                if isinstance(fault, ServiceError) and fault.status != 503:
                    if fault.unknown_user:  # as when a proxy has ended meanwhile
                        raise ServiceError(fault.status, f"{fault.sentence}; {further}") from fault
                    raise
                if time.monotonic() - heard > _BORNE:
                    raise AwayError(f"{fault}; {further}") from fault
                seen = Look(str(fault))
            says = _line(seen)
            if says != said and (said or not seen.done):
                said = says
                progress(f"{time.monotonic() - began:4.0f} s  {said}")
            if seen.fault:
                raise WnodesError(f"{what}: {seen.fault}; {further}")
            if seen.done:
                return found
            time.sleep(_PAUSE)
    except KeyboardInterrupt as fault:
        raise InterruptedByUserError(f"{what}: no longer waited for; {further}") from fault


def _line(seen: Look) -> str:
    """What is told of a look; when it is to be over, as the batch system plans it, to ten minutes:
    it plans anew twice a minute."""
    at = standing.when(f"{seen.expected[:15]}0:00Z", time.time()) if seen.expected else ""
    return f"{seen.says}; expected to begin about {at}" if at else seen.says


def until_ssh_answers(address: str, what: str, further: str) -> None:
    """Wait, but not for ever, until an SSH server says its first word.

    Raises InterruptedByUserError on Ctrl-C.
    """
    began = time.monotonic()
    try:
        while not _answers(address):
            if time.monotonic() - began > _SSH_PATIENCE:
                return  # ssh itself says best what is wrong
            if time.monotonic() - began < _PAUSE:
                progress(f"waiting for the SSH server at {address}")
            time.sleep(_PAUSE)
    except KeyboardInterrupt as fault:
        raise InterruptedByUserError(f"{what}: no longer waited for; {further}") from fault


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, _SSH_PORT), timeout=_PAUSE) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _address(link: Json) -> str:
    return str(link["attributes"].get("occi.networkinterface.address", ""))
