"""What a VM's card may carry: what its user asks for, within what site and grant allow. Pure.

The attributes are of the link, not of the VM: each of its networks has a limit of its own.
"""

from collections.abc import Mapping

from occi_bridge.occi import schema
from occi_bridge.occi.messages import OcciError, Value
from occi_bridge.store.networks import Net
from wnodes_lrms.config.load import Grant
from wnodes_lrms.rates import least

WAYS = (schema.INBOUND, schema.OUTBOUND)


def settled(
    net: Net, grant: Grant, given: Mapping[str, Value], of_size: int | None
) -> dict[str, Value]:
    """What a card on this network gets each way, in Mbit/s, where that is limited; `of_size` is
    what the size of its VM gives where nothing is asked.

    Raises OcciError 403 for more, or less, than its user may have.
    """
    found: dict[str, Value] = {}
    for name in WAYS:
        most, asked = least(net.most, grant.throughput), given.get(name)
        if asked is None:
            limit = least(max(of_size, net.least) if of_size else net.throughput, most)
            found |= {name: limit} if limit else {}
            continue
        for bound, word in ((most, "more"), (net.least, "less")):
            beyond = bound is not None and (asked > bound if word == "more" else asked < bound)  # type: ignore[operator]
            if beyond:
                what = "most" if word == "more" else "least"
                said = f"{asked} Mbit/s is {word} than {bound}, the {what} on network {net.name}"
                raise OcciError(403, f"{name}: {said} for you")
        found[name] = asked
    return found


def allowed(net: Net, grant: Grant, has: Mapping[str, Value]) -> dict[str, Value]:
    """What a card that has been given that much may have today."""
    most = least(net.most, grant.throughput)
    return {
        name: limit for name in WAYS if (limit := least(_number(has.get(name)), most)) is not None
    }


def is_counted(net: Net, sends: int, to_send: int) -> bool:
    """Whether a card is to send more (Mbit/s) of what the batch system counts."""
    return bool(net.consumable) and to_send > sends


def _number(value: Value | None) -> int | None:
    return int(value) if value is not None else None
