"""The only module that touches libvirt: the guests' network, and the domains that are ours.

A domain is ours if its metadata bear our mark with this cluster and this node. Nothing else is
ever listed, changed or destroyed.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

import libvirt

from wnodes_lrms.config import Network
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.resources import render

MARK = "urn:wnodes-lrms:machine:1"
FILTER = "wnodes-guest"  # see templates/nwfilter.xml.j2
_KEEPALIVE = (5, 3)  # seconds between probes, probes without answer before the link is given up
_ARP_RETRY = 100  # ms

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Domain:
    """A running domain that bears our mark."""

    id: str
    job: str
    restart: int


class Hypervisor:
    """One libvirt, as one bait sees it. Every method raises UnknownError if libvirt is away."""

    def __init__(self, uri: str, cluster: str, node: str, network: Network) -> None:
        self.uri = uri
        self.cluster = cluster
        self.node = node
        self.network = network
        self._lock = threading.Lock()
        self._link: libvirt.virConnect | None = None
        self._stopped: Callable[[str], None] = lambda _machine: None
        _start_event_loop()

    def on_stop(self, callback: Callable[[str], None]) -> None:
        """Have `callback(machine id)` called, in another thread, when any domain stops."""
        self._stopped = callback

    def create(self, xml: str) -> None:
        """Start a transient domain; one that runs already under the same UUID is success."""
        link = self._connect()
        try:
            link.createXML(xml)
        except libvirt.libvirtError as error:
            machine = ElementTree.fromstring(xml).findtext("uuid") or ""  # noqa: S314 (our own)
            if machine not in self.domains():
                raise WnodesError(f"libvirt can't start the machine: {error}") from error

    def destroy(self, machine: str) -> None:
        """End a domain of ours at once; one that is gone is success."""
        link = self._connect()
        try:
            domain = link.lookupByUUIDString(machine)
            if self._ours(domain) is None:
                raise WnodesError(f"domain {machine} does not bear our mark: not touched")
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN and self._is_there(machine):
                raise UnknownError(f"libvirt can't end machine {machine}: {error}") from error

    def domains(self) -> dict[str, Domain]:
        """The running domains that are ours, by machine id."""
        try:
            found = (self._ours(domain) for domain in self._connect().listAllDomains())
            return {domain.id: domain for domain in found if domain}
        except libvirt.libvirtError as error:
            raise UnknownError(f"libvirt does not list its domains: {error}") from error

    def is_running(self, machine: str) -> bool:
        """Whether the domain is there and has neither stopped nor crashed."""
        try:
            domain = self._connect().lookupByUUIDString(machine)
            state, _reason = domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise UnknownError(f"libvirt does not tell of machine {machine}: {error}") from error
        return state not in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)

    def version(self) -> str:
        """The version of libvirt, as a person writes it."""
        return _dotted(self._connect().getLibVersion())

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
        return Domain(domain.UUIDString(), mark.get("job") or "", int(mark.get("restart") or "0"))

    def _connect(self) -> libvirt.virConnect:
        with self._lock:
            if self._link is not None and self._link.isAlive():
                return self._link
            try:
                link = libvirt.open(self.uri)
                if link.getType() != "TEST":
                    link.setKeepAlive(*_KEEPALIVE)
                link.domainEventRegisterAny(
                    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._event, None
                )
            except libvirt.libvirtError as error:
                raise UnknownError(f"libvirt does not answer at {self.uri}: {error}") from error
            self._have_network(link)
            self._link = link
            return link

    def _have_network(self, link: libvirt.virConnect) -> None:
        """Have the guests' network and their filter there: once a connection, that is also
        after a restart of libvirt."""
        name = self.network.name
        try:
            if link.getType() != "TEST":
                link.nwfilterDefineXML(render("nwfilter.xml.j2", xml=True))
            if name not in link.listNetworks():
                values = {"name": name, "subnet": self.network.subnet}
                link.networkCreateXML(render("network.xml.j2", xml=True, **values))
        except libvirt.libvirtError as error:
            raise WnodesError(f"guests' network {name}: {error}") from error
        _hurry_neighbours(f"wn-{name}")

    def _event(
        self, _link: object, domain: libvirt.virDomain, event: int, _detail: int, _opaque: object
    ) -> None:
        if event in (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED):
            # Not in libvirt's own thread: the callback asks libvirt things.
            machine = domain.UUIDString()
            threading.Thread(target=self._stopped, args=(machine,), daemon=True).start()


@dataclass(frozen=True)
class Sight:
    """What there is to see of a libvirt without changing anything."""

    version: str
    networks: frozenset[str]  # active ones
    filters: frozenset[str] | None  # None: this kind of libvirt has no filters
    qemu: tuple[int, int] | None  # uid and gid of its QEMU processes; None: it does not tell


def look(uri: str) -> Sight:
    """Look at a libvirt, over a read-only connection. Raises UnknownError if it is away."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # it would print to stderr
    try:
        link = libvirt.openReadOnly(uri)
        number, qemu = link.getLibVersion(), link.getVersion()
        return Sight(
            f"libvirt {_dotted(number)}, {link.getType()} {_dotted(qemu)}",
            frozenset(link.listNetworks()),
            _filters(link),
            _qemu_user(link.getCapabilities()),
        )
    except libvirt.libvirtError as error:
        raise UnknownError(f"libvirt does not answer at {uri}: {error}") from error


def _filters(link: libvirt.virConnect) -> frozenset[str] | None:
    try:
        return frozenset(link.listNWFilters())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        raise


def _qemu_user(capabilities: str) -> tuple[int, int] | None:
    """From the label that libvirt's ownership driver ("dac") gives, such as `+64055:+64055`."""
    for model in ElementTree.fromstring(capabilities).iterfind("host/secmodel"):  # noqa: S314
        label = model.findtext("baselabel") or ""
        if model.findtext("model") == "dac" and ":" in label:
            uid, _, gid = label.partition(":")
            return int(uid), int(gid)
    return None


def _dotted(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _start_event_loop() -> None:
    """libvirt's events and keep-alives need a loop that somebody runs, once in a process."""
    if any(thread.name == "libvirt-events" for thread in threading.enumerate()):
        return
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # it would print to stderr
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, name="libvirt-events", daemon=True).start()


def _hurry_neighbours(bridge: str) -> None:
    """Ask for a guest's link address ten times a second, not once.

    A guest's address is tried from the moment its domain runs; with the kernel's 1000 ms the
    answer would be seen up to a second after the guest can give it.
    """
    try:
        with open(f"/proc/sys/net/ipv4/neigh/{bridge}/retrans_time_ms", "w") as file:  # noqa: PTH123
            file.write(f"{_ARP_RETRY}\n")
    except OSError as error:
        log.warning("bridge %s: ARP can't be made faster: %s", bridge, error.strerror)
