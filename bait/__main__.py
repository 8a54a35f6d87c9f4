"""`wnodes-bait`: the node daemon's entry point."""

import argparse
import logging
import os
import platform
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path

from bait import alone, heap
from bait.batch.controller import BatchController
from bait.cloud.controller import CloudController
from bait.frontend.control_socket import Server, notify
from bait.frontend.https import start
from bait.hypervisor import kvm as probe
from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.machine.images import Cache
from bait.machine.tasks import Tasks
from bait.machine.vms import NodeVms
from bait.network.firewall import Firewall
from bait.network.shaper import Shaper
from bait.network.vxlan import Tunnels, held
from bait.privileges import ownership
from bait.privileges.sandbox import onlooker
from bait.reconcile.drain import Drain
from bait.reconcile.jobs import Jobs
from bait.reconcile.loop import PeriodicLoop
from bait.reconcile.node_status import NodeStatus
from bait.reconcile.reconciler import Controller, Reconciler
from bait.volumes.pool import pool_of
from wnodes_lrms.config import load as configuration
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.log import set_up
from wnodes_lrms.lrms.systems import SYSTEMS, leases_of
from wnodes_lrms.model import Kind
from wnodes_lrms.version import VERSION

# Seconds that the first round may take before the node counts as started: in it libvirt is found,
# and the guests' network made. A libvirt or batch system that hangs keeps no node from starting.
_PATIENCE = 20.0

log = logging.getLogger(__name__)


def main() -> int:
    """Run the bait until it is told to stop; the VMs live on without it."""
    parser = argparse.ArgumentParser(
        prog="wnodes-bait",
        description="Turns the batch system's allocations on this node into virtual machines.",
    )
    parser.add_argument("--config", type=Path, help="default: $WNODES_CONFIG, /etc/wnodes/…")
    parser.add_argument(
        "--node",
        default=platform.node().split(".")[0],
        help="this node's name in the LRMS; default: the host name",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="print what this node has and lacks, as JSON, and end; see also `wnodes doctor`",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    options = parser.parse_args()
    set_up()
    heap.have_one()
    os.umask(0o077)
    try:
        path = configuration.path_in_use(options.config)
        config = configuration.load(path, options.node)
        if options.check:
            from bait.checks import node as checks  # a daemon needs nothing of it

            checks.report(config, path, options.node)
            return 0
        return _serve(config, options.node)
    except WnodesError as error:
        for line in str(error).splitlines():
            log.critical("%s", line)
        return 1


def _serve(config: configuration.Config, node: str) -> int:
    state = Path(config.bait.state_dir)
    alone.hold(state)
    ownership.close(config)
    ledger = Ledger(state / "ledger.sqlite")
    accel = config.machine.accel
    kvm = probe.kvm_works(state / "kvm.json") if accel == "auto" else accel == "kvm"
    hypervisor = Hypervisor(
        config.bait.libvirt_uri, config.cluster, node, config.network, state / "machines"
    )
    cache = Cache(
        Path(config.images.cache_dir),
        config.images.cache_limit,
        lambda: {digest for row in ledger.rows() for digest in row.digests.split()},
        onlooker,
        config.images.credentials,
    )
    firewall = Firewall(config, node, ledger.rows, lambda: held(ledger))
    tunnels = Tunnels(config, node, ledger, firewall)
    shaper = Shaper(config, node, ledger.rows)
    vms = NodeVms(config, node, kvm, hypervisor, cache, tunnels.admit, shaper)
    lrms, tasks = SYSTEMS[config.lrms].node(config, node), Tasks()
    drain, jobs = Drain(ledger, lrms), Jobs(lrms)
    batch = BatchController(config, ledger, jobs, vms, tasks, drain)
    volumes = pool_of(config.cloud, node)
    threading.Thread(target=volumes.sweep, daemon=True).start()  # what a killed bait has left
    cloud = CloudController(config, node, ledger, jobs, vms, tasks, volumes, drain)
    controllers: dict[Kind, Controller] = {Kind.BATCH: batch, Kind.CLOUD: cloud}
    reconciler = Reconciler(config, ledger, jobs, vms, tasks, controllers, drain)
    ledger.on_move = reconciler.moved
    status = NodeStatus(lrms, config.machine.memory_overhead, reconciler.heard)

    def keep() -> None:
        tunnels.keep()
        shaper.keep()
        cloud.freezer.thaw_left()
        cloud.restarts.settle_left()
        cloud.isolated.keep()
        if config.api.clients:
            status.keep()

    keep()
    stop = _stop_by_signal()
    with closing(Server(Path(config.bait.socket), reconciler, batch, cloud)) as server:
        threading.Thread(target=server.serve, name="server", daemon=True).start()
        api = None
        if config.api.clients:
            api = start(config, node, cloud, leases_of(config), tunnels, status)
        log.info("node %s of %s, %s", node, config.cluster, "KVM" if kvm else "emulation")
        loop = PeriodicLoop(reconciler, keep)
        _run_until(stop, loop)
        if api:
            api.stop()
    Path(config.bait.socket).unlink(missing_ok=True)
    ledger.close()
    log.info("stopped; the VMs live on")
    return 0


def _stop_by_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _run_until(stop: threading.Event, loop: PeriodicLoop) -> None:
    """Make rounds, and tell systemd when the first is done, or takes too long."""
    late = threading.Timer(_PATIENCE, notify, ("READY=1",))
    late.daemon = True
    late.start()
    wait = loop.run_once()
    notify("READY=1")  # a second time means nothing
    while not stop.is_set():
        loop.wait(stop, wait)
        wait = loop.run_once()
    notify("STOPPING=1")


if __name__ == "__main__":
    sys.exit(main())
