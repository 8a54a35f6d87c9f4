"""The database's rows as values, and the few ways of reading them."""

from dataclasses import dataclass, field

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Value
from wnodes_lrms.rates import Rates


@dataclass(slots=True, kw_only=True)
class Row:
    """What all entities have. See store/tables.py for the columns."""

    uid: str
    id: str | None
    owner: str
    shared: str
    created: float
    mixins: list[str]
    attributes: dict[str, Value]

    @property
    def gone(self) -> bool:
        """Whether its owner has deleted it."""
        return self.id is None


@dataclass(slots=True, kw_only=True)
class Driven(Row):
    """An entity that the driver does something about.

    `act` is what was asked of a bait last and `tries` how often that failed since; it is not
    asked again before `again`. What was seen before `acted` says nothing about it any more.
    """

    act: str = ""
    tries: int = 0
    again: float = 0.0
    acted: float = 0.0


@dataclass(slots=True, kw_only=True)
class Compute(Driven):
    """A VM: what it is to be, and what was last known of it."""

    fqan: str = ""
    account: str
    lrms_account: str = ""
    partition: str = ""
    walltime: int
    image: str
    saved: bool = False
    hostname: str
    cores: int
    memory: int
    disk: int = 0
    desired: str = "active"
    method: str = ""
    restart: str = ""
    wish: int = 0
    lease: str = ""
    job: str = ""
    via: str = ""
    lease_state: str = ""
    lease_at: float = 0.0
    expected: float = 0.0
    began: float = 0.0
    state: str = ""
    node: str = ""
    since: float = 0.0
    reason: str = ""
    fault: bool = False
    ran: bool = False

    @property
    def home(self) -> str:
        """The node that has it, by its order or its disk: no other node's word on it counts."""
        return self.node if self.lease or self.ran else ""


@dataclass(slots=True, kw_only=True)
class Network(Row):
    """A network that a user has made."""

    name: str
    vni: int  # under which it spans nodes
    subnet: str = ""
    gateway: str = ""
    subnet6: str = ""
    up: bool = True


@dataclass(slots=True, kw_only=True)
class Interface(Driven):
    """A VM's network card."""

    compute: str
    network: str
    owned: str | None
    mac: str
    assigned: str | None = None
    gateway: str = ""
    address: str = ""
    seen_mac: str = ""
    flows: dict[str, float] = field(default_factory=dict)
    attached: bool = False
    reason: str = ""

    @property
    def rates(self) -> Rates:
        """What it is to carry, in Mbit/s."""
        ways = (self.attributes.get(name) for name in (schema.INBOUND, schema.OUTBOUND))
        return Rates(*(None if value is None else int(value) for value in ways))


@dataclass(slots=True, kw_only=True)
class Storage(Driven):
    """A user's volume."""

    size: int
    has: int = 0
    made: bool = False
    node: str = ""
    online: bool = True
    source: str = ""
    origin: str = ""
    consistency: str = ""
    taken: float = 0.0
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Attachment(Driven):
    """A volume that is linked to a VM."""

    compute: str
    storage: str
    device: str = ""
    attached: bool = False
    reason: str = ""

    @property
    def readonly(self) -> bool:
        """Whether the VM only reads it: then others that only read may have it too."""
        return schema.READONLY in self.mixins


@dataclass(slots=True, kw_only=True)
class Saved:
    """An image that a user makes of a VM. What the driver notes is as in Driven."""

    tag: str
    owner: str
    shared: str = ""
    title: str = ""
    machine: str
    node: str
    state: str = "wanted"
    reason: str = ""
    consistency: str = ""
    stripped: bool = False
    created: float = 0.0
    act: str = ""
    tries: int = 0
    again: float = 0.0
    acted: float = 0.0

    def is_made_of(self, machine: str) -> bool:
        """Whether it is still to be written, from the disk of this VM (its uid)."""
        return self.state == "wanted" and self.machine == machine
