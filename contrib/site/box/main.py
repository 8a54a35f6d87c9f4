"""`site up`, `down`, `status` and `env`."""

import argparse
import json
import os
import shlex
import shutil
import sys

from . import arc, batch, bridge, libvirt, people, ports, private, product
from .errors import SiteError
from .grid import PASSWORD, Grid
from .layout import NODES, REPOSITORY, Layout, Memory, layout, locked
from .part import Part, bring_up, launch, require_alive
from .process import Processes, wait_until
from .report import step, table

KEPT = {"cache", "images", "log", "lock", "used"}  # by `down`; all else goes


def main() -> int:
    """Do what the command line says; the exit code."""
    parser = argparse.ArgumentParser(
        prog="site",
        description="A whole site on this machine: a batch system with two nodes and a bait each,"
        " a libvirt, a bridge, a small CA with users, a small image. All of it is in one folder,"
        " $WNODES_SITE (/var/lib/wnodes-site), and does not touch a batch system or libvirt that"
        " is already here.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="bring up all that is not up yet")
    start.add_argument(
        "--lrms", choices=batch.SYSTEMS, help=f"the batch system; {batch.DEFAULT} if none is up"
    )
    start.add_argument("--ce", choices=["arc"], help="with a computing element in front")
    start.add_argument(
        "--ready-timeout", type=int, metavar="SECONDS", help="for a guest to boot; 60"
    )
    down = commands.add_parser("down", help="end all of it; keeps the built image and the logs")
    down.add_argument("--purge", action="store_true", help="keep nothing")
    status = commands.add_parser("status", help="what is up; exit code 1 if anything is down")
    status.add_argument("--json", action="store_true", help="a list of objects")
    commands.add_parser("env", help='exports for a shell: eval "$(site env)"')
    arguments = parser.parse_args()
    os.umask(0o022)  # users pass through the site's folders
    try:
        return _do(arguments, layout())
    except SiteError as error:
        print(f"\nsite: {error.text()}", file=sys.stderr)
        return 1


def _do(arguments: argparse.Namespace, site: Layout) -> int:
    if arguments.command == "env":
        print(exports(site))
        return 0
    if arguments.command == "status":
        return show_status(site, as_json=arguments.json)
    if os.geteuid() != 0:
        raise SiteError(f"`site {arguments.command}` needs root", "run it as root, or with sudo")
    if arguments.command == "up":
        site.root.mkdir(parents=True, exist_ok=True)
        with locked(site):
            up(site, arguments.lrms, arguments.ce, arguments.ready_timeout)
    elif site.root.exists():
        with locked(site):
            down(site, purge=arguments.purge)
    else:
        print(f"There is no site in {site.root}")
    return 0


def exports(site: Layout) -> str:
    """Shell text that makes any shell use the site."""
    memory = Memory(site.root / "state.json")
    variables = batch.environment(site, memory) | bridge.environment(site, memory)
    variables |= arc.environment(site, memory)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    programs = REPOSITORY / ".venv" / "bin"
    return "\n".join([*lines, f'export PATH={shlex.quote(str(programs))}:"$PATH"'])


def up(site: Layout, lrms: str | None, ce: str | None, ready_timeout: int | None) -> None:
    """Bring up what is not up. Raises SiteError; what is up by then stays up, for a look."""
    product.require_setup()
    memory = Memory(site.root / "state.json")
    choose(memory, lrms, ce)
    if ready_timeout:
        memory.set("ready_timeout", ready_timeout)
    print(f"Bringing up the site in a box in {site.root}, with {batch.name(memory)}", flush=True)
    system, processes = batch.system(memory), Processes(memory, site.log)
    if processes.pid(private.NAME) is None:
        # The first time, or after a crash: of the machine, or of the namespace's keeper only.
        end_daemons(site, memory, processes)
        system.clear(memory)
        private.prepare(site, memory)
    with step("users, configuration"):
        people.make(site, memory)
        ports.choose(memory)
        libvirt.configure(site, memory)
        system.configure(site, memory)
        product.configure(site, memory)
    with step("certificates, proxies"):
        bridge.configure(site)
    if arc.wanted(memory):
        with step("computing element"):
            arc.configure(site, memory)
    bring_up(private.part(site, system.covers(site), processes), processes)
    inside = private.enter(processes)
    for part in (*system.foundations(site), *libvirt.parts(site)):
        bring_up(part, processes, inside)
    with step("images"):
        product.build_image(site)
        product.register_images(site, memory)
    with step("hooks"):
        product.install_hooks(site, memory)
    bring_up(system.controller(site, memory), processes, inside)
    for part in product.baits(site, memory):  # all at once: each may first probe KVM for seconds
        launch(part, processes, inside)
    with step("nodes, queues, accounts"):
        system.admit(site, memory, inside)
        product.install_hooks(site, memory)  # again: some of what they know is told only now
    for part in product.baits(site, memory):
        bring_up(part, processes, inside)
    for part in system.nodes(site, memory, processes):
        bring_up(part, processes, inside)
    for part in services(site, memory):
        bring_up(part, processes, inside)
    for part in all_parts(site, memory, processes):
        require_alive(part, processes)
    print(f'Up. Use it in any shell with: eval "$({REPOSITORY}/contrib/site/site env)"')
    print(f"A job as an ordinary user: runuser -u {people.USER} -- …")
    print("A cloud user: curl --capath $X509_CERT_DIR --cert $X509_USER_PROXY $WNODES_URL/-/")
    print('Another one: curl --capath … -H "Authorization: Bearer $(cat $BEARER_TOKEN_FILE)" …')
    print("In a browser: $WNODES_PAGE; log in at the issuer in the box, or with a certificate,")
    print(f"{Grid(site).pkcs12(bridge.USER)}, whose password is «{PASSWORD}»")


def choose(memory: Memory, lrms: str | None, ce: str | None) -> None:
    """Remember what the site is to have. Raises SiteError if it can't be, or has another."""
    chosen = lrms or batch.name(memory)
    if memory.get("lrms", chosen) != chosen:
        raise SiteError(f"the site has {batch.name(memory)}", "run `site down` first")
    if (ce or arc.wanted(memory)) and chosen != "slurm":
        raise SiteError(f"the computing element does not submit to {chosen}", "leave out one")
    memory.set("lrms", chosen)
    if ce:
        memory.set("ce", ce)


def down(site: Layout, *, purge: bool) -> None:
    """End all of it, politely as far as it answers, and leave the machine as `up` found it."""
    print(f"Taking down the site in a box in {site.root}", flush=True)
    memory = Memory(site.root / "state.json")
    processes = Processes(memory, site.log)
    with step("bridge, jobs"):
        # First: they would submit again.
        for part in services(site, memory):
            processes.stop(part.name)
        end_jobs(site, memory, processes)
    with step("batch system and baits"):
        for part in reversed(batch_parts(site, memory, processes)):
            if not part.name.startswith(private.NAME):
                processes.stop(part.name)
    with step("machines and networks"):
        end_machines(site, memory, processes)
    with step("all other processes"):
        end_daemons(site, memory, processes)
    with step("users, firewall, files"):
        people.remove(site, memory)
        batch.system(memory).clear(memory)
        libvirt.restore(memory, processes)
        private.restore(memory)
        for entry in site.root.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if purge:
        shutil.rmtree(site.root)
    else:
        print(f"Down. Kept in {site.root}: the built image and the logs.")


def end_jobs(site: Layout, memory: Memory, processes: Processes) -> None:
    """Cancel every job and wait until all have wholly ended, for half a minute at most."""
    system = batch.system(memory)
    controller = system.controller(site, memory)
    if processes.pid(controller.name) is None or not controller.ready():
        return
    wait_until(lambda: not system.cancel_all(site, memory), 30, pause=0.5)


def end_machines(site: Layout, memory: Memory, processes: Processes) -> None:
    """End machines and networks; for that a libvirtd that has gone is brought back."""
    if processes.pid("libvirtd") is None:
        if not libvirt.left_behind(site, memory):
            return
        private.prepare(site, memory)  # a crash may have left the site in a namespace that is gone
        keeper = private.part(site, {}, processes)
        launch(keeper, processes)
        wait_until(keeper.ready, keeper.patience)
        for part in libvirt.parts(site):
            launch(part, processes, private.enter(processes))
            wait_until(part.ready, part.patience)
    libvirt.destroy_all(site)


def end_daemons(site: Layout, memory: Memory, processes: Processes) -> None:
    """Stop every recorded process and whatever else is in the namespaces, their keepers last."""
    for part in reversed(all_parts(site, memory, processes)):
        if not part.name.startswith(private.NAME):
            processes.stop(part.name)
    private.clear(processes)
    for keeper in private.keepers_of(processes):
        processes.stop(keeper)


def batch_parts(site: Layout, memory: Memory, processes: Processes) -> list[Part]:
    """The batch system and the baits, in the order in which they start."""
    system = batch.system(memory)
    return [
        system.controller(site, memory),
        *product.baits(site, memory),
        *system.nodes(site, memory, processes),
    ]


def services(site: Layout, memory: Memory) -> list[Part]:
    """What users come to, and who vouches for them."""
    return [bridge.issuer(site, memory), bridge.part(site, memory), *arc.parts(site, memory)]


def all_parts(site: Layout, memory: Memory, processes: Processes) -> list[Part]:
    """Every process of the site, in the order in which they start."""
    system = batch.system(memory)
    return [
        private.part(site, system.covers(site), processes),
        *system.foundations(site),
        *libvirt.parts(site),
        *batch_parts(site, memory, processes),
        *services(site, memory),
    ]


def show_status(site: Layout, *, as_json: bool) -> int:
    """Print what is up and what the batch system says of its nodes; 0 if all is well, else 1."""
    rows = status(site)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        head: dict[str, object] = {"name": "part", "state": "state", "pid": "pid", "log": "log"}
        print(table([tuple(str(row[key] or "-") for key in head) for row in (head, *rows)]))
    system = batch.system(Memory(site.root / "state.json"))
    return 0 if all(row["state"] in ("up", *system.IN_SERVICE) for row in rows) else 1


def status(site: Layout) -> list[dict[str, object]]:
    """Each process, up, not ready or down, with its number and its log; then each node's state."""
    memory = Memory(site.root / "state.json")
    processes = Processes(memory, site.log)
    rows: list[dict[str, object]] = []
    for part in all_parts(site, memory, processes):
        pid = processes.pid(part.name)
        state = "down" if pid is None else "up" if part.ready() else "not ready"
        rows.append(
            {"name": part.name, "state": state, "pid": pid, "log": str(processes.log(part.name))}
        )
    system = batch.system(memory)
    for node in NODES:
        state = system.node_state(site, memory, node)
        rows.append({"name": f"node {node}", "state": state, "pid": None, "log": None})
    return rows
