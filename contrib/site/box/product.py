"""The product on the site: its configuration, its image, its hooks, a bait a node."""

from pathlib import Path
from string import Template

from . import people
from .errors import SiteError
from .layout import IMAGE, NODES, REPOSITORY, Layout, Memory
from .part import Part, listens
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
        homes=Path(people.home()).parent,
        image=IMAGE,
    )
    networks = [
        f'\n[nodes.{node}.network]\nname = "box-{node}"\nsubnet = "{subnet}"\n'
        for node, subnet in zip(NODES, memory.get("subnets"), strict=True)
    ]
    site.wnodes_config.write_text(common + "".join(networks))


def build_image(site: Layout) -> None:
    """Build the small image, unless it is there from an earlier time."""
    if not (site.images / "cmdline").exists():
        run([str(RECIPE), str(site.images)], timeout=600)


def register_image(site: Layout) -> None:
    """Put the small image into the catalogue."""
    _wnodes(
        site,
        *("image", "add", IMAGE, "--format", "qcow2", "--source", f"{site.images}/disk.qcow2"),
        *("--kernel", f"{site.images}/kernel", "--initrd", f"{site.images}/initrd"),
        *("--cmdline", (site.images / "cmdline").read_text().strip()),
        *("--context", "script", "--trusted"),
    )


def install_hooks(site: Layout) -> None:
    """Put the hooks into this Slurm, whose slurm.conf names them already."""
    _wnodes(site, "hooks", "install", "--lrms", "slurm")


def baits(site: Layout) -> list[Part]:
    """The daemons, one a node."""
    return [_bait(site, node) for node in NODES]


def _bait(site: Layout, node: str) -> Part:
    program = str(PROGRAMS / "wnodes-bait")
    return Part(
        f"bait-{node}",
        [program, "--config", str(site.wnodes_config), "--node", node],
        lambda: listens(site.bait_socket(node)),
        env=site.environment(),
        remedy="see what its log says; `wnodes doctor` knows the usual causes",
        patience=120,  # the first one finds out whether KVM works, by a guest with a deadline
    )


def require_setup() -> None:
    """Raises SiteError unless contrib/setup has been run."""
    if not (PROGRAMS / "wnodes").exists():
        raise SiteError("the project is not set up on this machine", "run contrib/setup")


def _wnodes(site: Layout, *arguments: str) -> None:
    run([str(PROGRAMS / "wnodes"), *arguments], site.environment())
