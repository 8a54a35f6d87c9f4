"""What Prometheus sees of a bait."""

import time
from collections.abc import Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bait.ledger.records import Moved
from wnodes_lrms.rates import Flows

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


class Cards(Collector):
    """What each limited card carries, by its VM and its tap."""

    def __init__(self) -> None:
        self.flows: Mapping[tuple[str, str], Flows] = {}

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for it."""
        labels = ("machine", "card", "direction")
        families: tuple[GaugeMetricFamily | CounterMetricFamily, ...] = (
            GaugeMetricFamily(
                "wnodes_card_limit_bits_per_second", "What it may carry.", labels=labels
            ),
            GaugeMetricFamily(
                "wnodes_card_bits_per_second",
                "What it carries, over the last seconds.",
                labels=labels,
            ),
            CounterMetricFamily(
                "wnodes_card_bytes", "What it has carried since it is limited.", labels=labels
            ),
            CounterMetricFamily(
                "wnodes_card_dropped_packets",
                "What did not find room in its queue since it is limited.",
                labels=labels,
            ),
        )
        for (machine, card), flows in self.flows.items():
            for direction, flow in (("inbound", flows.inbound), ("outbound", flows.outbound)):
                if flow is not None:
                    values = (flow.limit * 10**6, flow.passing, flow.passed, flow.dropped)
                    for family, value in zip(families, values, strict=True):
                        family.add_metric((machine, card, direction), value)
        return iter(families)


_CARDS = Cards()
REGISTRY.register(_CARDS)


def answered(source: str) -> None:
    """The batch system (lrms) or libvirt has given an answer."""
    _ANSWERED.labels(source).set(time.time())


def moved(move: Moved) -> None:
    """A VM's state has changed."""
    _MOVES.labels(move.kind, move.old or "", move.new or "").inc()


def text(machines: Mapping[tuple[str, str], int], flows: Mapping[tuple[str, str], Flows]) -> bytes:
    """All of it in Prometheus's text format; `machines` counts them by kind and state, `flows` is
    what the limited cards carry, by VM and tap."""
    _CARDS.flows = flows
    _MACHINES.clear()
    for (kind, state), count in machines.items():
        _MACHINES.labels(kind, state).set(count)
    return generate_latest(REGISTRY)
