"""What the user has at the service, as rows, and which of it is meant by a word."""

from collections.abc import Sequence

from wnodes_lrms.cli.cloud import entities
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.entities import Row
from wnodes_lrms.cli.cloud.names import one


def vms(service: Service) -> list[Row]:
    """All VMs."""
    return [entities.vm(found) for found in service.members("compute")]


def volumes(service: Service) -> list[Row]:
    """All volumes, with the VM that each is in."""
    links = service.members("storagelink")
    return [entities.volume(found, links) for found in service.members("storage")]


def networks(service: Service) -> list[Row]:
    """All networks that a VM may be on."""
    return [entities.network(found) for found in service.members("network")]


def vm(service: Service, given: str) -> Row:
    """The VM that is meant. Raises NoneSuchError, RejectedError; so do those below."""
    return one(vms(service), given, "VM")


def volume(service: Service, given: str) -> Row:
    """The volume that is meant."""
    return one(volumes(service), given, "volume")


def network(service: Service, given: str) -> Row:
    """The network that is meant."""
    return one(networks(service), given, "network")


def each(rows: Sequence[Row], given: Sequence[str], what: str) -> list[Row]:
    """All that are meant, each once: known before anything is done to one of them."""
    found = [one(rows, word, what) for word in given]
    return list({row["id"]: row for row in found}.values())
