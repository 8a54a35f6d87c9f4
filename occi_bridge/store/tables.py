"""The bridge's database: what users want, and what was last known of it.

A row of `entity` and one of its kind's own table make an entity. `uid` is our own name for it, the
one that baits hear; `id` is the one that users know, NULL from the moment they have deleted it. The
row itself goes when the baits have confirmed that nothing is left. Times are seconds since the
epoch.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="")


def _flag(name: str, default: bool = False) -> Column[bool]:
    return Column(name, Boolean, nullable=False, default=default)


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, default=0.0)


def _key() -> Column[str]:
    return Column("uid", String(36), ForeignKey("entity.uid", ondelete="CASCADE"), primary_key=True)


def _refers(name: str, to: str) -> Column[str]:
    return Column(name, String(36), ForeignKey(to), nullable=False, index=True)


def _work() -> tuple[Column[str], Column[int], Column[float], Column[float]]:
    """How the driver gets on with a row: see store/rows.py."""
    return (
        _text("act"),  # what was asked of a bait last
        Column("tries", Integer, nullable=False, default=0),  # how often in vain
        _time("again"),  # not again before this
        _time("acted"),  # what was seen before this says nothing
    )


entity = Table(
    "entity",
    metadata,
    Column("uid", String(36), primary_key=True),
    Column("id", String(64)),
    Column("kind", String(16), nullable=False),
    Column("owner", Text, nullable=False, index=True),  # DN
    Column("shared", Text, nullable=False, index=True),  # group that sees it; "" for none
    _time("created"),
    Column("mixins", JSON, nullable=False),  # ids
    Column("attributes", JSON, nullable=False),  # those with no column of their own
    UniqueConstraint("owner", "id"),
)

compute = Table(
    "compute",
    metadata,
    _key(),
    # What its leases are: from the owner and their grant.
    _text("fqan"),
    _text("account"),
    _text("lrms_account"),
    _text("partition"),
    Column("walltime", Integer, nullable=False),  # seconds
    # What the VM is.
    _text("image"),  # tag
    _flag("saved"),  # the image is one that a user saved
    _text("hostname"),
    Column("cores", Integer, nullable=False),
    Column("memory", Integer, nullable=False),  # MiB
    Column("disk", Integer, nullable=False, default=0),  # GiB at least; 0: as the image is
    _text("user_data"),  # base64
    # What the user wants: the desired state.
    Column("desired", String(16), nullable=False),
    _text("method"),  # how to stop or suspend
    _text("restart"),  # how to restart; "" when that is done
    Column("wish", Integer, nullable=False, default=0),  # counts the user's changes
    # Its lease in the LRMS.
    _text("lease"),  # UUID, a new one each try; "" for none
    _text("job"),
    _text("via"),  # URL of the bait that was asked for it
    _text("lease_state"),
    _time("lease_at"),
    _time("expected"),  # when it is to begin, as the LRMS saw it last; 0: it does not tell
    _time("began"),  # when it was first seen to run
    # What the baits said last.
    _text("state"),  # "" where no bait has it
    _text("node"),
    _time("since"),
    _text("reason"),
    _flag("fault"),  # it is in error, until the user starts it again
    _flag("ran"),  # it has a disk, which is on that node
    *_work(),
    CheckConstraint("desired IN ('active', 'inactive', 'suspended')", name="desired"),
)

network = Table(
    "network",
    metadata,
    _key(),
    Column("name", String(63), nullable=False, unique=True),  # as the baits know it
    _text("subnet"),  # "" without addresses
    _text("gateway"),
    _text("subnet6"),  # by IPv6; "" without
    _flag("up", True),
    Column("vni", Integer, nullable=False, unique=True),  # under which it spans nodes
)

interface = Table(
    "interface",
    metadata,
    _key(),
    _refers("compute", "compute.uid"),
    _text("network"),  # name: of the site's network, or of the user's
    Column("owned", String(36), ForeignKey("network.uid"), index=True),  # NULL for the site's
    Column("mac", String(17), nullable=False, unique=True),
    Column("assigned", String(18)),  # address that we have given; NULL: none
    _text("gateway"),
    _text("address"),  # address that it has, as the bait told
    _text("seen_mac"),  # on a network of kind nat the bait gives that too
    Column("flows", JSON, nullable=False, default=dict),  # what it carries: see driver/reports.py
    _flag("attached"),
    _text("reason"),
    *_work(),
    UniqueConstraint("network", "assigned"),
)

returned = Table(
    "returned",
    metadata,
    Column("network", String(63), primary_key=True),  # the site's
    Column("address", String(18), primary_key=True),  # as in interface.assigned
    _time("at"),  # since when no card has it
)

storage = Table(
    "storage",
    metadata,
    _key(),
    Column("size", Integer, nullable=False),  # GiB, as its user wants it
    Column("has", Integer, nullable=False, default=0),  # GiB that it was made or grown to
    _flag("made"),
    _text("node"),  # that keeps it for itself; "": any can have it, or it is not known yet
    _flag("online", True),  # as the user wants it: offline ones can't be linked
    _text("source"),  # uid of the volume that it is a copy of; "" for none
    _text("origin"),  # that one's path then
    _text("consistency"),  # see wnodes_lrms/volumes.py; "" until it is known
    _time("taken"),  # of which time the copy is
    _text("reason"),
    *_work(),
)

attachment = Table(
    "attachment",
    metadata,
    _key(),
    _refers("compute", "compute.uid"),
    _refers("storage", "storage.uid"),
    _text("device"),  # as the bait told
    _flag("attached"),
    _text("reason"),
    *_work(),
)

saved = Table(
    "saved",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    _text("shared"),
    _text("title"),
    _text("machine"),  # uid of the compute it is made of
    _text("node"),
    Column("state", String(16), nullable=False),  # wanted, ready, failed, gone
    _text("reason"),
    _text("consistency"),  # see wnodes_lrms/volumes.py; "" where it is not known
    _flag("stripped"),  # of what its VM was known by
    _time("created"),
    *_work(),
)

mixin = Table(
    "mixin",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("scheme", Text, primary_key=True),
    Column("term", Text, primary_key=True),
    _text("title"),
    Column("location", Text, nullable=False),
    _text("parent"),
    UniqueConstraint("owner", "location"),
)

link = Table(
    "link",
    metadata,
    Column("subject", Text, primary_key=True),  # a token's issuer#subject
    Column("owner", Text, nullable=False),  # the DN under which what they have is kept
    _time("created"),
)

session = Table(
    "session",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of what the browser has
    Column("subject", Text, nullable=False, index=True),  # who logged in
    Column("proof", JSON, nullable=False),  # see store/sessions.py
    _flag("opened"),  # False: proven by certificate, and not taken up by the page yet
    Column("created", Double, nullable=False, index=True),
)

ssh_key = Table(
    "ssh_key",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("key", Text, nullable=False),
    _time("created"),
)

usage = Table(
    "usage",
    metadata,
    Column("node", String(63), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # its bait's own
    Column("owner", Text, nullable=False, index=True),
    Column("cores", Integer, nullable=False),
    _time("began"),
    _time("wall"),  # seconds that the VM ran
    _time("held"),  # seconds that it was suspended
)

bait = Table(
    "bait",
    metadata,
    Column("url", Text, primary_key=True),
    _text("node"),
    _time("seen"),  # when it answered last, to within half a minute while it does
    _flag("silent"),
    _text("drained"),  # why its node takes no new VMs; "": it does
    _time("drained_by"),  # when what still runs there is ended; 0: at no set time
    Column("room", JSON, nullable=False, default=dict),  # cores, memory (MiB); empty: not known
    Column("sources", JSON, nullable=False, default=dict),  # when each answered its bait last
)

leader = Table(
    "leader",
    metadata,
    Column("name", String(16), primary_key=True),  # one row: "driver"
    _text("holder"),
    _time("until"),
)

# How many changes there were that users may see is the sum. Who counts has a part until the change
# is on disk: with one part for all, each would wait for the disk of all others.
PARTS = 32
changes = Table(
    "changes",
    metadata,
    Column("part", Integer, primary_key=True, autoincrement=False),  # from 0 to PARTS - 1
    Column("number", BigInteger, nullable=False),
)
