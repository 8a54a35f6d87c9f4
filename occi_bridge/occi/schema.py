"""OCCI's names, its kinds and its actions, as data.

From OCCI 1.2: GFD.221 (core), GFD.224 (infrastructure). All that is not OCCI's has a scheme of our
own. The mixins are in occi/mixins.py.
"""

from occi_bridge.occi.model import Action, Attribute, Kind
from wnodes_lrms.volumes import LARGEST

CORE = "http://schemas.ogf.org/occi/core#"
INFRA = "http://schemas.ogf.org/occi/infrastructure"
OWN = "http://wnodes-lrms.invalid/occi/"

ENTITY = f"{CORE}entity"
RESOURCE = f"{CORE}resource"
LINK = f"{CORE}link"
COMPUTE = f"{INFRA}#compute"
NETWORK = f"{INFRA}#network"
STORAGE = f"{INFRA}#storage"
STORAGELINK = f"{INFRA}#storagelink"
NETWORKINTERFACE = f"{INFRA}#networkinterface"
IPNETWORK = f"{INFRA}/network#ipnetwork"
IPNETWORKINTERFACE = f"{INFRA}/networkinterface#ipnetworkinterface"
IPV6NETWORK = f"{OWN}network#ipv6network"
IPV6NETWORKINTERFACE = f"{OWN}networkinterface#ipv6networkinterface"
REGISTERED = f"{OWN}networkinterface#registered"
OS_TPL = f"{INFRA}#os_tpl"
RESOURCE_TPL = f"{INFRA}#resource_tpl"
SSH_KEY = f"{INFRA}/credentials#ssh_key"
USER_DATA = f"{INFRA}/compute#user_data"
OBSERVED = f"{OWN}compute#observed"
LEASE = f"{OWN}compute#lease"
THROUGHPUT = f"{OWN}networkinterface#throughput"
DISK = f"{OWN}storagelink#disk"
READONLY = f"{OWN}storagelink#readonly"
COPY = f"{OWN}storage#copy"
COPIES = frozenset({f"{INFRA}/storage/action#snapshot", f"{INFRA}/storage/action#backup"})

ID = "occi.core.id"
SOURCE = "occi.core.source"
TARGET = "occi.core.target"
ARCHITECTURE = "occi.compute.architecture"
CORES = "occi.compute.cores"
MEMORY = "occi.compute.memory"
DISK_SIZE = "occi.compute.ephemeral_storage.size"  # GiB of the root disk, as in GFD.222
PUBLIC_KEY = "occi.credentials.ssh.publickey"
USERDATA = "occi.compute.userdata"
NETWORK_ADDRESS = "occi.network.address"
NETWORK_ADDRESS6 = "wnodes.network.address6"  # beside that, by IPv6
ADDRESS = "occi.networkinterface.address"
ADDRESS6 = "wnodes.networkinterface.address6"
HOSTNAME = "wnodes.networkinterface.hostname"  # that the site's DNS has for the address
INBOUND = "wnodes.throughput.inbound"  # Mbit/s
OUTBOUND = "wnodes.throughput.outbound"
SERIAL = "wnodes.storagelink.serial"  # by which the guest finds the disk
COPY_SOURCE = "wnodes.copy.source"  # path of the volume that it is a copy of
COPY_TIME = "wnodes.copy.time"  # ISO 8601, UTC: of when it is
COPY_CONSISTENCY = "wnodes.copy.consistency"  # see wnodes_lrms/volumes.py
OBSERVED_TIME = "wnodes.observed.time"  # ISO 8601, UTC: when the state was last known
LEASE_EXPECTED = "wnodes.lease.expected"  # ISO 8601, UTC: when it is to begin, as things are now
LEASE_END = "wnodes.lease.end"  # ISO 8601, UTC: when it is over at the latest

_NUMBER_MOST = 1e9
_COMPUTE_ACTION = f"{INFRA}/compute/action#"
_NETWORK_ACTION = f"{INFRA}/network/action#"
_STORAGE_ACTION = f"{INFRA}/storage/action#"

_ENTITY = (
    Attribute(
        ID,
        set_by="creator",
        form=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        meaning='1 to 64 letters, digits, ".", "_" or "-"',
    ),
    Attribute("occi.core.title"),
)
_RESOURCE = (*_ENTITY, Attribute("occi.core.summary", longest=4096))
_LINK = (
    *_ENTITY,
    Attribute(SOURCE, set_by="creator", required=True),
    Attribute(TARGET, set_by="creator", required=True),
)


def _state(prefix: str, *values: str) -> tuple[Attribute, Attribute]:
    return (
        Attribute(f"{prefix}.state", set_by="service", values=values),
        Attribute(f"{prefix}.state.message", set_by="service"),
    )


def _method(*values: str) -> Attribute:
    return Attribute("method", values=values, default=values[0])


_NAME = Attribute("name", longest=1024)
_SIZE = Attribute("size", "number", required=True, least=1 / 1024, most=LARGEST)

ACTIONS = (
    Action("start", _COMPUTE_ACTION, "Start a VM"),
    Action(
        "stop",
        _COMPUTE_ACTION,
        "Stop a VM; its disk is kept",
        (_method("graceful", "acpioff", "poweroff"),),
    ),
    Action("restart", _COMPUTE_ACTION, "Restart a VM", (_method("graceful", "warm", "cold"),)),
    Action("suspend", _COMPUTE_ACTION, "Suspend a VM", (_method("suspend", "hibernate"),)),
    Action(
        "save",
        _COMPUTE_ACTION,
        "Save the disk of a VM as an image",
        (_method("hot", "deferred"), Attribute("name", longest=64)),
    ),
    Action("up", _NETWORK_ACTION, "Bring a network up"),
    Action("down", _NETWORK_ACTION, "Take a network down"),
    Action("online", _STORAGE_ACTION, "Bring a volume online"),
    Action("offline", _STORAGE_ACTION, "Take a volume offline"),
    Action("resize", _STORAGE_ACTION, "Make a volume larger", (_SIZE,)),
    Action("snapshot", _STORAGE_ACTION, "Copy a volume into a new one", (_NAME,)),
    Action("backup", _STORAGE_ACTION, "Copy a volume into a new one", (_NAME,)),
)


def _actions(scheme: str) -> tuple[str, ...]:
    return tuple(action.id for action in ACTIONS if action.scheme == scheme)


KINDS = (
    Kind("entity", CORE, "Entity", _ENTITY, "", "/entity/", abstract=True),
    Kind("resource", CORE, "Resource", _RESOURCE, ENTITY, "/resource/", abstract=True),
    Kind("link", CORE, "Link", _LINK, ENTITY, "/link/", abstract=True),
    Kind(
        "compute",
        f"{INFRA}#",
        "Virtual machine",
        (
            *_RESOURCE,
            Attribute(ARCHITECTURE, set_by="creator", values=("x86", "x64")),
            Attribute(CORES, "integer", least=1, most=_NUMBER_MOST),
            Attribute("occi.compute.hostname"),
            Attribute(MEMORY, "number", least=1 / 1024, most=_NUMBER_MOST),
            Attribute(DISK_SIZE, "integer", set_by="service"),
            Attribute("occi.compute.share", "integer", set_by="nobody"),
            Attribute("occi.compute.speed", "number", set_by="nobody"),
            *_state("occi.compute", "active", "inactive", "suspended", "error"),
        ),
        RESOURCE,
        "/compute/",
        _actions(_COMPUTE_ACTION),
    ),
    Kind(
        "network",
        f"{INFRA}#",
        "Network",
        (
            *_RESOURCE,
            Attribute("occi.network.vlan", "integer", set_by="nobody"),
            Attribute("occi.network.label"),
            *_state("occi.network", "active", "inactive", "error"),
        ),
        RESOURCE,
        "/network/",
        _actions(_NETWORK_ACTION),
    ),
    Kind(
        "storage",
        f"{INFRA}#",
        "Volume",
        (
            *_RESOURCE,
            Attribute("occi.storage.size", "number", required=True, least=1 / 1024, most=LARGEST),
            *_state("occi.storage", "online", "offline", "error"),
        ),
        RESOURCE,
        "/storage/",
        _actions(_STORAGE_ACTION),
    ),
    Kind(
        "storagelink",
        f"{INFRA}#",
        "A volume in a VM",
        (
            *_LINK,
            Attribute("occi.storagelink.deviceid", set_by="creator"),
            Attribute("occi.storagelink.mountpoint", set_by="nobody"),
            *_state("occi.storagelink", "active", "inactive", "error"),
        ),
        LINK,
        "/storagelink/",
        target=STORAGE,
        source=COMPUTE,
    ),
    Kind(
        "networkinterface",
        f"{INFRA}#",
        "A VM on a network",
        (
            *_LINK,
            Attribute("occi.networkinterface.interface", set_by="creator"),
            Attribute("occi.networkinterface.mac", set_by="service"),
            *_state("occi.networkinterface", "active", "inactive", "error"),
        ),
        LINK,
        "/networkinterface/",
        target=NETWORK,
        source=COMPUTE,
    ),
)
