"""What Prometheus sees of a bait."""

import time
from collections.abc import Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from bait.ledger.records import Moved

MEDIA_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

BUILD = Histogram(
    "wnodes_build_seconds",
    "From a VM's beginning until it is ready (batch) or its domain runs (cloud).",
    ["kind"],
    buckets=(1, 2, 5, 10, 20, 40, 80, 160, 320),
    registry=REGISTRY,
)
SUBMITTED = Counter(
    "wnodes_leases_submitted", "Leases that the batch system has taken.", registry=REGISTRY
)
REFUSED = Counter(
    "wnodes_leases_refused",
    "Orders that were refused, by this bait or by the batch system.",
    registry=REGISTRY,
)
_MOVES = Counter(
    "wnodes_moves",
    "Changes of VMs' states; an empty one is that of a VM without a row.",
    ["kind", "old", "new"],
    registry=REGISTRY,
)
_MACHINES = Gauge("wnodes_machines", "VMs of this node.", ["kind", "state"], registry=REGISTRY)
_ANSWERED = Gauge(
    "wnodes_last_answer_timestamp_seconds",
    "When the batch system and libvirt last gave an answer.",
    ["source"],
    registry=REGISTRY,
)


def answered(source: str) -> None:
    """The batch system (lrms) or libvirt has given an answer."""
    _ANSWERED.labels(source).set(time.time())


def moved(move: Moved) -> None:
    """A VM's state has changed."""
    _MOVES.labels(move.kind, move.old or "", move.new or "").inc()


def text(machines: Mapping[tuple[str, str], int]) -> bytes:
    """All of it in Prometheus's text format; `machines` counts them by kind and state."""
    _MACHINES.clear()
    for (kind, state), count in machines.items():
        _MACHINES.labels(kind, state).set(count)
    return generate_latest(REGISTRY)
