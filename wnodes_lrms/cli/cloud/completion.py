"""What a shell offers when a user touches Tab: names of what the service has for them.

A shell can show nothing else: where the service can't be asked, nothing is offered.

What is offered becomes part of a command line as it is, and shells evaluate what is said of it (zsh
does, as Typer quotes it). Others have given the names, so only harmless characters come through.
"""

import re
from collections.abc import Callable, Sequence

import typer

from wnodes_lrms.cli.cloud import connection, entities
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.errors import WnodesError

_PATIENCE = 3.0  # seconds
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_SAID = re.compile(r"[^A-Za-z0-9._-]+")

Offer = tuple[str, str]  # a word, and what it means
Complete = Callable[[typer.Context, str], list[Offer]]


def _completer(offers: Callable[[Service], Sequence[Offer]]) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        try:
            with connection.completing(ctx, _PATIENCE) as service:
                found = harmless(offers(service))
        except (WnodesError, OSError):
            return []
        return [offer for offer in found if offer[0].startswith(incomplete)]

    return complete


def harmless(offers: Sequence[Offer]) -> list[Offer]:
    """Those that mean nothing to a shell, in what is said of them too. Pure."""
    return [
        (word, _NOT_SAID.sub(" ", said).strip()) for word, said in offers if _WORD.fullmatch(word)
    ]


def _vms(service: Service) -> Sequence[Offer]:
    return named([entities.vm(each) for each in service.members("compute")], "state")


def _volumes(service: Service) -> Sequence[Offer]:
    return named([entities.volume(each, ()) for each in service.members("storage")], "size")


def _networks(service: Service) -> Sequence[Offer]:
    return named([entities.network(each) for each in service.members("network")], "address")


def named(rows: Sequence[entities.Row], meaning: str) -> Sequence[Offer]:
    """By their names where these are unambiguous and harmless, else by their ids. Pure."""
    names = entities.column(rows, "name")
    return [
        (row["name"], str(row[meaning]))
        if _WORD.fullmatch(row["name"]) and names.count(row["name"]) == 1
        else (row["id"], f"{row['name']} {row[meaning]}".strip())
        for row in rows
    ]


def _offered(scheme: str) -> Callable[[Service], Sequence[Offer]]:
    return lambda service: [
        (row["name"], row["title"]) for row in entities.offers(service.get("/-/"), scheme)
    ]


vm = _completer(_vms)
volume = _completer(_volumes)
network = _completer(_networks)
image = _completer(_offered(entities.IMAGES))
size = _completer(_offered(entities.SIZES))
