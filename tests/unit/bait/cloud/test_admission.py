"""An order against the allocation and against what is there, limits included."""

import dataclasses
import uuid
from typing import Any

import pytest

from bait.cloud.admission import check
from bait.ledger.records import Row
from bait.ledger.states import AT_REST
from tests.unit.bait.conftest import an_order
from tests.unit.conftest import NOBODY, TAG, Batch
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic

ORDER = an_order(cores=2, memory=384)
OLD = Row(
    str(ORDER.machine),
    "",
    0,
    State.STOPPED,
    0.0,
    tag=TAG,
    cores=1,
    memory=256,
    kind=Kind.CLOUD,
    spec=an_order().model_dump_json(exclude_defaults=True),
)


def refusal(old: Row | None = None, carries: bool = False, **changes: Any) -> str:
    """Why an order is refused; empty if it isn't."""
    order = ORDER.model_copy(update=changes.pop("order", {}))
    values: dict[str, Any] = {"tag": "", "cores": 2} | changes
    allocation = Batch().grant("7", **values)
    order = order.model_copy(update={"job": order.job or "7", "node": order.node or "hv1"})
    try:
        check(order, allocation, NOBODY.pw_name, "hv1", 128, old, carries)
    except RejectedError as error:
        return str(error)
    return ""


def test_what_fits_exactly_or_with_room_is_taken() -> None:
    assert refusal() == ""
    assert refusal(cores=64, memory=99999) == ""
    assert refusal(order={"node": "hv1", "lrms_account": "grid"}) == ""
    for state in AT_REST - {State.HIBERNATED}:  # of another size than before: so be it
        assert refusal(dataclasses.replace(OLD, state=state)) == ""
    assert refusal(dataclasses.replace(OLD, state=State.HIBERNATED, cores=2, memory=384)) == ""


NAT = [Nic(id=uuid.uuid4(), kind="nat", network="n", mac=f"52:54:00:00:00:0{n}") for n in (1, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cores": 1}, "needs 2 cores"),
        ({"memory": 511}, "512 MiB, the lease has 2 and 511"),
        ({"order": {"account": "alice"}}, "the account alice, the lease is nobody's"),
        ({"order": {"lrms_account": "cms"}}, "charges cms, the lease grid"),
        ({"order": {"lrms_account": "cms"}, "account": ""}, "the lease nobody"),
        ({"order": {"node": "hv11"}}, "for job 7 on node hv11, the lease is job 7 on hv1"),
        ({"order": {"job": "8"}}, "for job 8 on node hv1, the lease is job 7 on hv1"),
        ({"order": {"nics": tuple(NAT)}}, "several cards"),
        ({"carries": True}, "carries another VM"),
        ({"tag": TAG}, "carries another VM"),
        ({"old": dataclasses.replace(OLD, kind=Kind.BATCH, spec="")}, "somebody else's"),
        ({"old": OLD, "order": {"dn": "/CN=Mallory"}}, "somebody else's"),
        ({"old": dataclasses.replace(OLD, tag="other_linux_x86_64")}, "from image other"),
        ({"old": dataclasses.replace(OLD, state=State.HIBERNATED)}, "with 1 cores and 256 MiB"),
        *(
            ({"old": dataclasses.replace(OLD, state=state)}, f"is {state} already")
            for state in State
            if state not in AT_REST
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    reason = refusal(**arguments)
    assert reason.startswith("order refused: ")
    assert message in reason
