"""The product on the site: its configuration, its image, its hooks, a bait a node."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from string import Template

from . import batch, people
from .errors import SiteError
from .grid import VO, Grid, host_name
from .layout import BARE_IMAGE, DEBIAN_IMAGE, IMAGE, NODES, REPOSITORY, Layout, Memory
from .part import Part, listens
from .ports import TUNNELS, port
from .process import run

TEMPLATE = Path(__file__).parent / "wnodes.toml.in"
PROGRAMS = REPOSITORY / ".venv" / "bin"
RECIPE = REPOSITORY / "contrib" / "images" / "small" / "build"


def configure(site: Layout, memory: Memory) -> None:
    """Write wnodes.toml, one for both nodes."""
    (site.etc / "images").mkdir(parents=True, exist_ok=True)
    common = Template(TEMPLATE.read_text()).substitute(
        etc=site.etc,
        run=site.run,
        spool=site.spool,
        libvirt_uri=site.libvirt_uri,
        hooks=site.hooks,
        slurm_conf=site.slurm_conf,
        shares=_texts(dict.fromkeys(map(str, (Path(people.home()).parent, site.home)))),
        image=IMAGE,
        ready_timeout=memory.get("ready_timeout", 60),
        **batch.system(memory).settings(site),
        grid=Grid(site).root,
        vo=VO,
        bridge_dn=host_name("bridge"),
        bridge_port=port(memory, "bridge"),
        page_port=port(memory, "page"),
        issuer_port=port(memory, "issuer"),
        cloud_users=_texts(people.CLOUD_USERS),
        baits=_texts(f"https://localhost:{port(memory, f'api-{node}')}" for node in NODES),
    )
    own = [
        f'\n[nodes.{node}.network]\nname = "box-{node}"\nsubnet = "{subnet}"\n'
        f"tunnel_port = {TUNNELS + number}\n"
        f'[nodes.{node}.api]\nlisten = "127.0.0.1:{port(memory, f"api-{node}")}"\n'
        for number, (node, subnet) in enumerate(zip(NODES, memory.get("subnets"), strict=True))
    ]
    site.wnodes_config.write_text(common + "".join(own))
    for name in ("volumes", "saved", "apel"):
        (site.spool / name).mkdir(exist_ok=True)
        (site.spool / name).chmod(0o711)  # QEMU passes through; names and contents are nobody's


def _texts(values: Iterable[str]) -> str:
    """As TOML has a list of texts, without the brackets."""
    return ", ".join(f'"{value}"' for value in values)


def build_image(site: Layout) -> None:
    """Build the small image, unless it is there from an earlier time, and of this very recipe."""
    stamp, recipe = site.images / "recipe", _digest(RECIPE.parent)
    if not stamp.exists() or stamp.read_text() != recipe:
        run([str(RECIPE), str(site.images)], timeout=600)
        stamp.write_text(recipe)


def _digest(folder: Path) -> str:
    """Follows from the content of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = [f"{path.relative_to(folder)}\0".encode() + path.read_bytes() for path in files]
    return hashlib.sha256(b"\0".join(content)).hexdigest()


def register_images(site: Layout, memory: Memory) -> None:
    """Put the small image into the catalogue, for each way to prepare it; a built large one too."""
    _register(site, memory, IMAGE, site.images, "script", "--trusted", "--acls")
    _register(site, memory, BARE_IMAGE, site.images, "guestfs")
    if (site.debian / "cmdline").exists():
        _register(site, memory, DEBIAN_IMAGE, site.debian, "cloud-init", "--trusted", "--acls")


def _register(
    site: Layout, memory: Memory, tag: str, folder: Path, context: str, *options: str
) -> None:
    _wnodes(
        site,
        memory,
        *("image", "add", tag, "--format", "qcow2", "--source", f"{folder}/disk.qcow2"),
        *("--kernel", f"{folder}/kernel", "--initrd", f"{folder}/initrd"),
        *("--cmdline", (folder / "cmdline").read_text().strip(), "--context", context, *options),
    )


def install_hooks(site: Layout, memory: Memory) -> None:
    """Put the hooks where the batch system's configuration names them."""
    _wnodes(site, memory, "hooks", "install", "--lrms", batch.name(memory))


def baits(site: Layout, memory: Memory) -> list[Part]:
    """The daemons, one a node."""
    return [_bait(site, memory, node) for node in NODES]


def _bait(site: Layout, memory: Memory, node: str) -> Part:
    program = str(PROGRAMS / "wnodes-bait")
    return Part(
        f"bait-{node}",
        [program, "--config", str(site.wnodes_config), "--node", node],
        lambda: listens(site.bait_socket(node)),
        env=batch.environment(site, memory),
        remedy="see what its log says; `wnodes doctor` knows the usual causes",
        patience=120,  # the first one finds out whether KVM works, by a guest with a deadline
    )


def require_setup() -> None:
    """Raises SiteError unless contrib/setup has been run."""
    if not (PROGRAMS / "wnodes").exists():
        raise SiteError("the project is not set up on this machine", "run contrib/setup")


def _wnodes(site: Layout, memory: Memory, *arguments: str) -> None:
    run([str(PROGRAMS / "wnodes"), *arguments], batch.environment(site, memory))
