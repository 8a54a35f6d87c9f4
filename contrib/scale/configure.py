"""Writes all that a site of some size needs before its processes start."""

import grp
import pwd
import secrets
import shutil
from pathlib import Path
from string import Template

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from contrib.scale import guests
from contrib.scale.plan import (
    ACCOUNT,
    API_PORTS,
    BASE,
    BRIDGE,
    BRIDGE_PORTS,
    BRIDGES,
    CONTROLLER_PORT,
    FIRST_UID,
    IMAGE,
    NODE_PORTS,
    PROGRAMS,
    USERS,
    Size,
    dn,
    host_dn,
    user,
)
from contrib.site.box.ca import Authority, new_key
from contrib.site.box.layout import Layout
from contrib.site.box.process import run

_HERE = Path(__file__).parent
_OWN = 128  # MiB of a lease that are QEMU's, beside 64 of the guest


def write(site: Layout, size: Size) -> None:
    """All of it. Raises SiteError."""
    for folder in (site.etc / "images", site.run, site.spool, site.log, site.slurm_conf.parent):
        folder.mkdir(parents=True, exist_ok=True)
    _people()
    _slurm(site, size)
    _grid(site, size)
    for bridge in BRIDGES:
        _product(site, size, bridge, 0)
    for number in range(size.nodes):
        _product(site, size, BRIDGES[0], number)
    _image(site)


def config_of(site: Layout, host: str) -> Path:
    """The configuration file of a bridge, or of a node."""
    return site.wnodes_config.with_name(f"{host}.toml")


def people(passwd: str, group: str) -> tuple[str, str]:
    """/etc/passwd and /etc/group with all users; they have one group."""
    names = [*(user(number) for number in range(USERS)), ACCOUNT]
    lines = [
        f"{name}:x:{FIRST_UID + number}:{FIRST_UID}::/tmp:/bin/sh"
        for number, name in enumerate(names)
    ]
    return passwd + "\n".join([*lines, ""]), f"{group}scale:x:{FIRST_UID}:\n"


def _people() -> None:
    """In the /etc that this run has for itself."""
    if ACCOUNT not in {each.pw_name for each in pwd.getpwall()}:
        files = (Path("/etc/passwd"), Path("/etc/group"))
        for file, text in zip(files, people(*(file.read_text() for file in files)), strict=True):
            file.write_text(text)
    for name in (BRIDGE, "wnodes-guestfs"):
        if name not in {each.gr_name for each in grp.getgrall()}:
            options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/")
            run(["useradd", *options, "--shell", "/usr/sbin/nologin", name])


def _slurm(site: Layout, size: Size) -> None:
    site.munge_socket.parent.mkdir(parents=True, exist_ok=True)
    (site.spool / "slurmctld").mkdir(exist_ok=True)
    for name in size.names:
        (site.spool / f"slurmd-{name}").mkdir(exist_ok=True)
    text = Template((_HERE / "slurm.conf.in").read_text()).substitute(
        controller_port=CONTROLLER_PORT,
        munge_socket=site.munge_socket,
        spool=site.spool,
        run=site.run,
        log=site.log,
        hooks=site.hooks,
        nodes=",".join(size.names),
        node_ports=",".join(str(NODE_PORTS + n) for n in range(size.nodes)),
        cpus=size.slots,
        memory=size.slots * (_OWN + 64),
    )
    site.slurm_conf.write_text(text)
    key = site.etc / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def _grid(site: Layout, size: Size) -> None:
    """A CA, hosts and users. All have one key: what is measured does not depend on it."""
    grid = site.etc / "grid-security"
    if grid.exists():
        shutil.rmtree(grid)
    for folder in (grid / "vomsdir", grid / "gridmapdir", site.root / "users"):
        folder.mkdir(parents=True, exist_ok=True)
    authority, key = Authority.make(f"{BASE}/CN=CA"), new_key()
    authority.install(grid / "certificates", subjects=[f"{BASE}/*"])
    for host in ("bridge", *size.names):
        (grid / host).mkdir()
        made = authority.issue(host_dn(host), hosts=(host, "localhost", "127.0.0.1"), key=key)
        made.write(grid / host / "hostcert.pem", grid / host / "hostkey.pem")
    shutil.chown(grid / "bridge" / "hostkey.pem", BRIDGE)
    names = [user(number) for number in range(USERS)]
    for name in names:
        authority.issue(dn(name), key=key).write_bundle(site.root / "users" / f"{name}.pem")
    (grid / "grid-mapfile").write_text("".join(f'"{dn(name)}" {ACCOUNT}\n' for name in names))
    for name in ("voms-mapfile", "ban_users.db"):
        (grid / name).touch()
    signing = ed25519.Ed25519PrivateKey.generate()
    (site.etc / "order.pub").write_bytes(
        signing.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    order_key = site.etc / "order.key"
    order_key.touch(mode=0o600)
    order_key.write_bytes(
        signing.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    shutil.chown(order_key, BRIDGE)


def _product(site: Layout, size: Size, bridge: str, number: int) -> None:
    """The file of a bridge, and that of a node, counted from 0."""
    node = size.names[number]
    text = Template((_HERE / "wnodes.toml.in").read_text()).substitute(
        etc=site.etc,
        run=site.run,
        spool=site.spool,
        hooks=site.hooks,
        slurm_conf=site.slurm_conf,
        grid=site.etc / "grid-security",
        account=ACCOUNT,
        node=node,
        subnet=guests.subnet(number),
        api_port=API_PORTS + number,
        bridge=bridge,
        bridge_dn=host_dn("bridge"),
        bridge_user=BRIDGE,
        bridge_port=BRIDGE_PORTS[bridge],
        postgres=site.run / "postgres",
        baits=", ".join(f'"https://localhost:{API_PORTS + n}"' for n in range(size.nodes)),
    )
    for host in (bridge, node):
        config_of(site, host).write_text(text)
    for folder in (site.spool / bridge, site.spool / "volumes", site.spool / "saved"):
        folder.mkdir(exist_ok=True)
    shutil.chown(site.spool / bridge, BRIDGE, BRIDGE)


def _image(site: Layout) -> None:
    """An image that nothing boots from: a boot sector's signature, and zeros."""
    disk = site.etc / "disk.raw"
    disk.write_bytes(b"\xeb\xfe" + bytes(508) + b"\x55\xaa" + bytes(1 << 20))
    options = ("--format", "raw", "--source", str(disk), "--context", "script")
    run(
        [str(PROGRAMS / "wnodes"), "image", "add", IMAGE, *options],
        {"WNODES_CONFIG": str(config_of(site, BRIDGES[0]))},
    )
