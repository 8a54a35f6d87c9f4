"""Which of libvirt's domains are ours, and how one is got hold of.

A domain is ours if its metadata bear our mark with this cluster and this node. Nothing else is
ever listed, changed or destroyed.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from bait.hypervisor import networks, remains
from bait.hypervisor.causes import fault
from bait.hypervisor.connections import Connections
from bait.hypervisor.domain import MARK, Domain
from bait.hypervisor.domain_state import condition, sleeps
from bait.hypervisor.events import Events
from bait.hypervisor.inventory import qemu_user, usual_qemu_uids
from bait.hypervisor.processes import Processes
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError

_DYING = 1.0  # seconds for a process to go that libvirt has just ended

log = logging.getLogger(__name__)


class OwnDomains:
    """One libvirt's domains, as one bait sees them. Every method raises UnknownError if libvirt is
    away."""

    def __init__(self, uri: str, cluster: str, node: str, network: Network, machines: Path) -> None:
        """`machines` is the folder of the VMs' folders of files."""
        self.uri = uri
        self.processes = Processes(machines, self.qemu_uids)
        self.cluster = cluster
        self.node = node
        self.network = network
        self._connections = Connections(uri, self._begin)
        self._events = Events()
        self._runs_as: int | None = None  # the uid of QEMU, as libvirt has told

    def on_stop(self, callback: Callable[[str, str], None]) -> None:
        """Have `callback(VM id, how in words)` called, in another thread, when any domain
        stops."""
        self._events.stopped = callback

    def on_sleep(self, callback: Callable[[str], None]) -> None:
        """The same, without words, for when a guest puts itself to sleep, or wakes."""
        self._events.slept = callback

    def on_panic(self, callback: Callable[[str], None]) -> None:
        """The same for when a guest's kernel panics."""
        self._events.panicked = callback

    def on_stuck(self, callback: Callable[[str], None]) -> None:
        """The same for when a guest is held because there was no room for what it wrote."""
        self._events.stuck = callback

    def on_let_go(self, callback: Callable[[str], None]) -> None:
        """The same for when a guest has let go of a device."""
        self._events.let_go = callback

    def on_flood(self, callback: Callable[[str], None]) -> None:
        """The same for when a guest floods libvirt with word of its crash."""
        self._events.flooded = callback

    def domains(self) -> dict[str, Domain]:
        """The running domains that are ours, by VM id."""
        try:
            found = (self._ours(domain) for domain in self._connect().listAllDomains())
            return {domain.id: domain for domain in found if domain}
        except libvirt.libvirtError as error:
            raise fault("does not list its domains", error, UnknownError) from error

    def pid(self, machine: str) -> int | None:
        """The number of the VM's process; None if there is none."""
        return self.processes.of(machine)

    def qemu_uids(self) -> frozenset[int]:
        """Whom libvirt runs QEMU as: who it says, root, and the accounts that are made for it."""
        told = frozenset() if self._runs_as is None else frozenset({self._runs_as})
        return told | {0, *usual_qemu_uids()}

    def qemu_user(self) -> int | None:
        """The uid of QEMU's processes; None if libvirt does not tell."""
        self._connect()
        return self._runs_as

    def is_running(self, machine: str) -> bool:
        """Whether the domain is there and has neither stopped nor crashed.

        Gone is what libvirt does not know and no process runs.
        """
        try:
            domain = self._connect().lookupByUUIDString(machine)
            state, _reason = domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return not self._dies(machine)
            raise fault("does not tell of the VM", error, UnknownError) from error
        return state not in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)

    @contextmanager
    def _acting(self, machine: str) -> Iterator[libvirt.virDomain]:
        """A domain of ours, to act on.

        Raises ConflictError if it does not run, UnknownError if libvirt still does something else
        with it, WnodesError if it can't.
        """
        with self._connections.own() as link:
            try:
                domain = link.lookupByUUIDString(machine)
                if self._ours(domain) is None:
                    raise WnodesError(f"domain {machine} does not bear our mark: not touched")
                yield domain
            except libvirt.libvirtError as error:
                code = error.get_error_code()
                if code == libvirt.VIR_ERR_NO_DOMAIN or not self._is_there(machine):
                    raise ConflictError(f"VM {machine} does not run") from error
                if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
                    what = "does not get through to the VM"
                    raise fault(what, error, UnknownError) from error
                raise fault("can't do that to the VM", error) from error

    @contextmanager
    def _awake(self, machine: str) -> Iterator[libvirt.virDomain]:
        """The same of a guest that can be told something: one that sleeps is a ConflictError."""
        with self._acting(machine) as domain:
            if sleeps(domain):
                raise ConflictError("the guest has put itself to sleep: start it first")
            yield domain

    def _dies(self, machine: str) -> bool:
        """Whether its process has gone, or goes within a moment."""
        return self.processes.wait_for_end(machine, _DYING)

    def _is_there(self, machine: str) -> bool:
        return machine in self.domains()

    def _ours(self, domain: libvirt.virDomain) -> Domain | None:
        try:
            text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK)
        except libvirt.libvirtError:
            return None  # no mark, or gone since it was listed
        mark = ElementTree.fromstring(text)  # noqa: S314 (kept by libvirt, written by root)
        if (mark.get("cluster"), mark.get("node")) != (self.cluster, self.node):
            return None
        job, restart = mark.get("job") or "", int(mark.get("restart") or "0")
        return Domain(domain.UUIDString(), job, restart, *condition(domain))

    def _connect(self) -> libvirt.virConnect:
        return self._connections.shared()

    def _begin(self, link: libvirt.virConnect) -> None:
        """With a new connection: have libvirt tell of domains that stop, and the network there.

        It is made after a reboot, too, of whose VMs libvirt has left something.
        """
        try:
            self._events.listen(link)
            user = qemu_user(link.getCapabilities())
        except libvirt.libvirtError as error:
            raise fault("does not answer", error, UnknownError) from error
        self._runs_as = user[0] if user else None
        networks.have_network(link, self.network)
        if link.getURI().startswith("qemu:///system"):
            self._sweep_remains(link)

    def _sweep_remains(self, link: libvirt.virConnect) -> None:
        def running() -> list[tuple[int, str]]:
            return [(domain.ID(), domain.name()) for domain in link.listAllDomains()]

        try:
            remains.sweep(self.cluster, running)
        except (libvirt.libvirtError, OSError) as error:
            log.warning("what libvirt has left of VMs that are gone stays for now: %s", error)
