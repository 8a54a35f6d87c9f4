"""Every fault at once with its place; what holds on one node."""

import ipaddress
from pathlib import Path

import pytest
import tomli_w

from wnodes_lrms.config import load as config
from wnodes_lrms.errors import ConfigError

GOOD = 'cluster = "box"\nlrms = "slurm"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wnodes.toml"
    path.write_text(GOOD)
    return path


def faults(file: Path, text: str, node: str | None = None) -> list[str]:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file, node)
    assert caught.value.where == str(file)
    assert str(caught.value) == "\n".join(f"{file}: {fault}" for fault in caught.value.faults)
    assert not caught.value.retry
    return caught.value.faults


def test_the_least_file_is_enough(file: Path) -> None:
    settled = config.load(file, "hv1")
    assert settled.bait.socket == "/run/wnodes/hv1/bait.sock"
    assert settled.images.cache_dir == "/var/cache/wnodes/hv1"
    assert settled.network.subnet == ipaddress.IPv4Network("192.168.190.0/24")
    assert (settled.retries, settled.machine.memory_overhead) == (2, 128)
    assert config.load(file).bait.socket == "/run/wnodes/%n/bait.sock"


def test_nothing_changes_after_loading(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(config.load(file).bait, "socket", "/elsewhere")  # noqa: B010


def test_names_of_clients_may_be_spelled_as_grid_files_do(file: Path) -> None:
    text = GOOD + '[api]\nclients = ["/C=IT/CN=Ren\\\\xc3\\\\xa9", "CN=host/a,C=IT", "{}"]\n'
    file.write_text(text.format("/C=IT/E=a@b"))
    clients = ("/C=IT/CN=Ren\\xC3\\xA9", "/C=IT/CN=host/a", "/C=IT/emailAddress=a@b")
    assert config.load(file).api.clients == clients
    assert faults(file, text.format("Ann")) == ["api.clients[3]: «Ann» is no name of a certificate"]


def test_every_fault_at_once_with_its_place(file: Path) -> None:
    text = """
cluster = "a b"
lrms = "lsf"
colour = "blue"
[bait]
socket = "relative"
libvirt = "x"
[images]
cache_limit = 0
[machine]
accel = "magic"
ready_timeout = "soon"
[network]
name = "Much-Too-Long-A-Name"
subnet = "192.168.190.1/24"
[share]
directories = ["/home", "home", "/with space"]
[[default]]
image = "small_linux_x86_64"
[[default]]
image = "Small"
[[allow]]
image = "*"
user = ["alice"]
"""
    found = faults(file, text)
    places = [fault.partition(": ")[0] for fault in found]
    assert sorted(places) == sorted(
        [
            "cluster",
            "lrms",
            "colour",
            "bait.socket",
            "bait.libvirt",
            "images.cache_limit",
            "machine.accel",
            "machine.ready_timeout",
            "network.name",
            "network.subnet",
            "share.directories[2]",
            "share.directories[3]",
            "default[2].image",
            "allow[1].user",
        ]
    )
    assert {
        "colour: unknown key",
        "bait.libvirt: unknown key",
        "allow[1].user: unknown key",
    } <= set(found)
    assert "bait.socket: an absolute path without spaces is needed" in found
    assert "default[2].image: «Small» is not of the form <name>_<os>_<arch>, in lower case" in found


BRIDGE = GOOD + '[bridge]\nbaits = ["https://hv1:8445"]\n'


def test_a_bridge_is_only_where_the_file_has_one(file: Path) -> None:
    assert config.load(file).bridge is None
    file.write_text(
        BRIDGE
        + """
[[bridge.network]]
name = "private"
kind = "isolated"
subnet = "10.1.0.0/24"
[[bridge.grant]]
match = "/testvo/*"
[nodes.hv1.api]
listen = "127.0.0.1:1"
"""
    )
    bridge = config.load(file, "hv1").bridge
    assert bridge is not None
    assert bridge.baits == ("https://hv1:8445",)
    assert bridge.network[0].subnet == ipaddress.IPv4Network("10.1.0.0/24")
    assert (bridge.grant[0].machines, bridge.grant[0].images) == (10, ("*",))
    assert config.load(file, "hv1").api.listen == "127.0.0.1:1"
    assert config.load(file, "hv2").api.listen == "0.0.0.0:8445"


def test_faults_in_inner_tables_are_named_with_their_place(file: Path) -> None:
    text = (
        BRIDGE
        + """
workers = 0
colour = "blue"
[[bridge.network]]
name = "Public"
kind = "nat"
[[bridge.network]]
name = "private"
kind = "isolated"
subnet = "10.0.0.1/24"
[[bridge.template]]
name = "small"
cores = 0
[[bridge.grant]]
match = "*"
[[bridge.grant]]
match = "/testvo/*"
walltime = 10
image = ["a"]
"""
    )
    found = faults(file, text)
    assert sorted(fault.partition(": ")[0] for fault in found) == [
        "bridge.colour",
        "bridge.grant[2].image",
        "bridge.grant[2].walltime",
        "bridge.network[1].name",
        "bridge.network[2].subnet",
        "bridge.template[1].cores",
        "bridge.template[1].memory",
        "bridge.workers",
    ]
    assert "bridge.grant[2].image: unknown key" in found
    assert "bridge.template[1].memory: is missing" in found


def test_where_volumes_are(file: Path) -> None:
    assert config.load(file).cloud.pool.kind == "directory"
    pool = '[cloud.pool]\nkind = "rbd"\nname = "cloud"\n'
    file.write_text(GOOD + pool)
    assert (config.load(file).cloud.pool.name, config.load(file).cloud.pool.user) == (
        "cloud",
        "wnodes",
    )
    wrong = 'kind = "nfs"\nname = "--help"\nuser = "a b"\nsecret = "key"\nconf = "ceph.conf"\n'
    found = faults(file, GOOD + '[cloud.pool]\ngroup = "-a"\n' + wrong)
    assert sorted(fault.partition(": ")[0] for fault in found) == [
        *("cloud.pool.conf", "cloud.pool.group", "cloud.pool.kind", "cloud.pool.name"),
        *("cloud.pool.secret", "cloud.pool.user"),
    ]
    (refused,) = faults(file, f"{GOOD}[cloud]\nwipe = true\n{pool}")
    assert refused.startswith("cloud: wipe is for files: Ceph writes elsewhere")
    file.write_text(f'{GOOD}[cloud]\nwipe = true\n[cloud.pool]\nkind = "lvm"\ngroup = "data"\n')
    cloud = config.load(file).cloud
    assert (cloud.wipe, cloud.pool.group, cloud.pool.name) == (True, "data", "volumes")
    assert faults(file, GOOD + '[cloud.pool]\nkind = "lvm"\n') == [
        "cloud.pool: kind lvm needs `group`: the volume group that has the thin pool"
    ]
    assert faults(file, f"{GOOD}{pool}shared = false\n") == [
        "cloud.pool: shared is of kind directory alone, and kind is rbd"
    ]
    assert faults(file, f'{GOOD}{pool}group = "data"\n') == [
        "cloud.pool: group is of kind lvm alone, and kind is rbd"
    ]


def test_a_bridge_needs_baits(file: Path) -> None:
    assert faults(file, GOOD + "[bridge]\n") == ["bridge.baits: is missing"]
    (fault,) = faults(file, GOOD + "[bridge]\nbaits = []\n")
    assert fault.startswith("bridge.baits: ")


@pytest.mark.parametrize(
    ("table", "rest"), [("network", 'kind = "nat"'), ("template", "cores = 1\nmemory = 64")]
)
def test_a_name_is_given_once(file: Path, table: str, rest: str) -> None:
    one, two = (f'[[bridge.{table}]]\nname = "{name}"\n{rest}\n' for name in ("one", "two"))
    file.write_text(BRIDGE + one + two)
    assert config.load(file).bridge is not None
    assert faults(file, BRIDGE + one + two + one) == [
        f"bridge.{table}: the name one is there more than once"
    ]


def test_what_bridge_a_network_is_the_nodes_say(file: Path) -> None:
    text = BRIDGE + '[[bridge.network]]\nname = "lan"\nkind = "bridge"\n'
    assert faults(file, text + 'bridge = "br0"\n') == [
        "bridge.network[1]: `bridge` is for the nodes to say: name the bridge in [[cloud.network]]"
        " there"
    ]
    file.write_text(text + '[[cloud.network]]\nname = "lan"\nbridge = "br0"\n')
    assert config.load(file, "hv1").cloud.network[0].bridge == "br0"


def test_what_guests_may_reach(file: Path) -> None:
    opened = GOOD + '[network]\nopen = ["node:3128/tcp", "nfs:2049"]\n'
    (fault,) = faults(file, opened)
    assert fault.startswith("network.open[2]: «nfs:2049» is not of the form")


def test_what_is_missing_is_named(file: Path) -> None:
    assert sorted(faults(file, "")) == ["cluster: is missing", "lrms: is missing"]
    assert faults(file, GOOD + "[[default]]\n") == ["default[1].image: is missing"]


@pytest.mark.parametrize(
    ("text", "said"), [("cluster = box", "is not TOML: .*line 1"), ("[bait", "is not TOML")]
)
def test_what_is_no_toml(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        config.load(file)


def test_what_can_not_be_read(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ConfigError, match="none: can't be read: No such file"):
        config.load(tmp_path / "none")
    file.write_bytes(b'cluster = "\xff"\n')
    with pytest.raises(ConfigError, match=r"is not TOML: .*utf-8"):
        config.load(file)


NODES = (
    GOOD
    + """
[bait]
libvirt_uri = "qemu:///system"
state_dir = "/data/%n"
[share]
directories = ["/home/%n", "/data"]
[nodes.hv2.network]
subnet = "192.168.191.0/24"
[nodes.hv2.bait]
state_dir = "/ssd/%n"
[nodes.hv3.share]
directories = []
"""
)


def test_a_nodes_own_tables_hold_there_alone(file: Path) -> None:
    file.write_text(NODES)
    hv1, hv2, hv3 = (config.load(file, node) for node in ("hv1", "hv2", "hv3"))
    assert str(hv1.network.subnet) == "192.168.190.0/24"
    assert str(hv2.network.subnet) == "192.168.191.0/24"
    assert (hv1.bait.state_dir, hv2.bait.state_dir) == ("/data/hv1", "/ssd/hv2")
    assert hv2.bait.libvirt_uri == "qemu:///system"  # the rest of the table stays
    assert hv1.share.directories == ("/home/hv1", "/data")
    assert hv3.share.directories == ()
    assert config.load(file).bait.state_dir == "/data/%n"


def test_the_faults_of_every_node_are_found_on_any(file: Path) -> None:
    text = NODES + '[nodes.hv4.machine]\naccel = "magic"\nspeed = 3\n[nodes.hv5]\ncolour = 1\n'
    for node in (None, "hv1", "hv4"):
        found = faults(file, text, node)
        places = sorted(fault.partition(": ")[0] for fault in found)
        assert places == [
            "nodes.hv4.machine.accel",
            "nodes.hv4.machine.speed",
            "nodes.hv5.colour",
        ]


def test_a_common_fault_is_told_once(file: Path) -> None:
    assert faults(file, NODES + "[nodes.hv4.machine]\nspeed = 3\n[hooks]\nx = 1\n") == [
        "hooks.x: unknown key",
        "nodes.hv4.machine.speed: unknown key",
    ]


@pytest.mark.parametrize("value", ["3", '"hv1"', "[1]"])
def test_nodes_must_be_tables(file: Path, value: str) -> None:
    assert len(faults(file, f"nodes = {value}\n{GOOD}")) == 1
    (fault,) = faults(file, f"{GOOD}[nodes]\nhv2 = {value}\n")
    assert fault.startswith("nodes.hv2: ")


@pytest.mark.parametrize("node", ["", "../evil", "a/b", "%n", "a b", "-x", "x" * 64])
def test_a_nodes_name_can_not_lead_elsewhere(file: Path, node: str) -> None:
    with pytest.raises(ConfigError, match="node's name"):
        config.load(file, node)


def test_which_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNODES_CONFIG", "/from/environment")
    assert config.path_in_use(Path("/given")) == Path("/given")
    assert config.path_in_use() == Path("/from/environment")
    monkeypatch.setenv("WNODES_CONFIG", "")
    assert config.path_in_use() == Path("/etc/wnodes/wnodes.toml")


@pytest.mark.parametrize(
    ("tag", "good"),
    [
        ("small_linux_x86_64", True),
        ("sl-7.9_linux_aarch64", True),
        ("small_linux", False),
        ("Small_linux_x86_64", False),
        ("../x_y_z", False),
        ("a/b_c_d", False),
        (".x_y_z", False),
        ("x_y_z\n", False),
        ("x_y z_w", False),
    ],
)
def test_tags(file: Path, tag: str, good: bool) -> None:
    text = GOOD + tomli_w.dumps({"allow": [{"image": tag}]})
    if good:
        file.write_text(text)
        assert config.load(file).allow[0].image == tag
    else:
        assert [fault.partition(": ")[0] for fault in faults(file, text)] == ["allow[1].image"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://bridge:hunter2@db.example.org/bridge",
        "postgresql+psycopg://bridge:hun/te@r2@db.example.org/bridge",
        "postgresql+psycopg://bridge@db.example.org/bridge?password=hunter2",
        "postgresql+psycopg://bridge@/bridge?host=/run&sslpassword=hunter2",
    ],
)
def test_a_database_with_a_password_is_refused_and_not_repeated(file: Path, url: str) -> None:
    (fault,) = faults(file, BRIDGE + f'database = "{url}"\n')
    assert fault.startswith("bridge.database: has a password, and everybody reads this file")
    assert "passfile" in fault
    assert "r2" not in fault


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////srv/a:b@c.sqlite",
        "postgresql+psycopg://wnodes@db.example.org:5432/bridge?passfile=/etc/wnodes/pgpass",
        "postgresql+psycopg://postgres@/bridge?host=/run/postgresql",
        "postgresql+psycopg:///bridge",
    ],
)
def test_a_database_without_one_is_taken(file: Path, url: str) -> None:
    file.write_text(BRIDGE + f'database = "{url}"\n')
    bridge = config.load(file).bridge
    assert bridge
    assert bridge.database == url
