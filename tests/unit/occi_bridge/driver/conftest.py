"""A bridge whose driver drives baits behind real HTTP, and the pauses of real life made short.

Modules that use `haste` or `scene` need the fixtures of bridgefixtures.py, too.
"""

from collections.abc import Callable
from typing import Any

import pytest

from occi_bridge.driver import driver, lease_end, lookups, retry, watcher
from occi_bridge.driver.persistence import read_all
from occi_bridge.occi.messages import Entity
from tests.unit.occi_bridge.fake_baits import FakeBait
from tests.unit.occi_bridge.local_bridge import (
    ANNA,
    LocalBridge,
    person,
    until,
)

ANNAS = person(ANNA)
STATE = "occi.compute.state"
MESSAGE = "occi.compute.state.message"


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of real life, made short."""
    for module, name, seconds in (
        (watcher, "OFTEN", 0.05),
        (watcher, "SELDOM", 0.1),
        (watcher, "SELDOM_LEASES", 0.1),
        (driver, "_RENEW", 0.2),
        (driver, "_PAUSE", 0.01),
        (driver, "_TICK", 0.05),
        (retry, "CEILING", 0.2),
        (lease_end, "CONFIRMED_LATELY", 0.2),
        (lease_end, "SUBMITTED_LATELY", 0.5),
        (lease_end, "SURE", 0.2),
        (lookups, "PAUSE", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)


class Scene:
    """A bridge with SQLite, and baits on hv1 and hv2."""

    def __init__(self, bridge: LocalBridge, baits: list[FakeBait]) -> None:
        self.bridge = bridge
        self.hv1, self.hv2 = baits
        self.lrms = self.hv1.lrms
        bridge.heard()

    def entity(self, made: Entity) -> Entity:
        return self.bridge.service.entity(ANNAS, made.path)

    def act(self, made: Entity, action: str, method: str = "") -> None:
        self.bridge.service.act(ANNAS, made.path, action, {"method": method} if method else {})

    async def state(self, made: Entity, wanted: str, within: float = 20.0) -> Entity:
        await until(lambda: self.entity(made).attributes[STATE] == wanted, within)
        return self.entity(made)

    async def forgotten(self) -> None:
        await until(lambda: not any(read_all(self.bridge.db).values()))

    def machine(self, made: Entity) -> dict[str, Any]:
        return self.hv1.machines[self.bridge.row(made).uid]


@pytest.fixture
def scene(file_url: str, make_bridge: Callable[..., LocalBridge], baits: list[FakeBait]) -> Scene:
    return Scene(make_bridge(file_url, *baits), baits)
