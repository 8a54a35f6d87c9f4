"""What the tests of the service share: a bridge, its users, and what is refused."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from occi_bridge.driver import persistence
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.occi.validate_new import New
from tests.unit.occi_bridge.local_bridge import ANNA, BOB, LocalBridge, person

ANNAS = person(ANNA)
BOBS = person(BOB)
STATE = "occi.compute.state"
MESSAGE = "occi.compute.state.message"


@pytest.fixture
def bridge(url: str, make_bridge: Callable[..., LocalBridge]) -> LocalBridge:
    """A bridge whose baits have just been heard."""
    made = make_bridge(url)
    made.heard()
    return made


@contextlib.contextmanager
def refused(status: int, *words: str) -> Iterator[None]:
    """What is asked for meanwhile is refused, with these words in its message."""
    with pytest.raises(OcciError) as caught:
        yield
    assert caught.value.status == status, caught.value.message
    for word in words:
        assert word in caught.value.message


def put(bridge: LocalBridge, entity: Entity, **values: object) -> None:
    """Have the driver have written this into a VM's row."""
    row = bridge.row(entity)
    bridge.db.write(lambda link: persistence.set_columns(link, row, values))


def link_to(target: str, kind: str = schema.NETWORKINTERFACE, **more: str) -> New:
    """A link to be made; __ in the name of an attribute is a dot."""
    given = {name.replace("__", "."): value for name, value in more.items()}
    return New(kind, (), {schema.TARGET: target, **given})
