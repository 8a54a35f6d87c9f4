"""What can be asked of a bait, or done with a row: the lines of a plan."""

from dataclasses import dataclass
from enum import StrEnum

from occi_bridge.store.states import AWAITS


class Act(StrEnum):
    """What to do. All but the last four are requests to a bait."""

    SUBMIT = "submit"  # a request for a lease
    PLACE = "place"  # write down the node where its lease job waits, before there is an order
    ORDER = "order"  # a VM, of the node where its lease job waits for that
    CANCEL = "cancel"  # a lease job
    STOP = "stop"
    RESTART = "restart"
    SUSPEND = "suspend"
    RESUME = "resume"
    DESTROY = "destroy"  # a VM, with its disk
    SAVE = "save"  # an image of a VM
    UNSAVE = "unsave"  # remove it
    PLUG = "plug"  # a network card into a running VM
    UNPLUG = "unplug"
    ATTACH = "attach"  # a volume to a running VM
    DETACH = "detach"
    MAKE = "make"  # a volume
    GROW = "grow"  # a volume
    COPY = "copy"  # a volume from another
    DELETE = "delete"  # a volume
    AWAIT = AWAITS  # the first VM of a volume, whose node will keep it
    TELL = "tell"  # the user why nothing happens
    FAIL = "fail"  # a VM, which can't start in the lease that it has
    FORGET = "forget"  # the row: nothing is left of it anywhere


@dataclass(frozen=True)
class Action:
    """One line of the plan. `bait` is the URL of the one that is to be asked, `detail` how.

    For an order `detail` is the node, and `witness` who knows whether the lease job runs there.
    `node` is where a volume will be, if that is on one alone.
    """

    act: Act
    uid: str  # of the row that it is for; the tag for SAVE and UNSAVE
    why: str
    bait: str = ""
    detail: str = ""
    witness: str = ""
    node: str = ""

    @property
    def asked(self) -> str:
        """What goes into Driven.act: equal for the same request."""
        return f"{self.act} {self.detail}".rstrip()
