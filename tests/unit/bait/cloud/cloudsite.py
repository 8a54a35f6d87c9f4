"""What the tests of cloud VMs share beside the fixtures."""

from typing import Any

from bait.ledger.states import AT_REST
from bait.reconcile.plan import Act
from tests.unit.bait.conftest import MACHINE, Site
from tests.unit.conftest import GUESTS, NOBODY, TAG, put
from wnodes_lrms.model import State
from wnodes_lrms.order import Order

ID = str(MACHINE)
UID = NOBODY.pw_uid
FIRST = f"{GUESTS}.2"
STEPS = [f"fetching image {TAG}", "making the disk", "making the seed", "starting the domain"]


def acts(site: Site) -> list[Act]:
    return [line.action.act for line in site.bait.reconciler.reconcile() if not line.wait]


def rest_of(told: Any) -> list[dict[str, Any]]:
    return list(told)


def spec(site: Site) -> Order:
    """The VM's order, as it is by now."""
    return Order.model_validate_json(site.row().spec)


def leaves_nothing(site: Site) -> bool:
    return [name for name in site.node.left() if "ledger" not in name] == []


def into(site: Site, state: State) -> None:
    """Bring a VM into a state, and let nobody work on it."""
    site.runs()
    if state is State.HIBERNATED:
        site.cloud.suspend(ID, "hibernate")
        site.reaches(state)
    elif state in AT_REST:
        site.cloud.stop(ID, "poweroff")
        site.reaches(State.STOPPED)
    elif state in (State.REQUESTED, State.BUILDING):
        site.libvirt.on_stop(lambda _machine, _how: None)
        site.libvirt.destroy(ID)
    elif state is State.SUSPENDED:
        site.cloud.suspend(ID, "suspend")
    if site.row().state is not state:
        put(site.node.ledger, ID, state=state)
