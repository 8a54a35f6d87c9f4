"""What libvirt is asked and told of the domains that are ours: see own_domains.py."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from bait.hypervisor import logs, networks, operations, power_button
from bait.hypervisor.causes import fault
from bait.hypervisor.connections import dotted
from bait.hypervisor.consoles import ConsoleThread, Listener
from bait.hypervisor.domain_state import has_panicked, is_stuck, sleeps, traffic_of_cards
from bait.hypervisor.domain_xml import in_new_lease
from bait.hypervisor.operations import IsIt
from bait.hypervisor.own_domains import OwnDomains
from bait.hypervisor.power_button import PowerButton
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError

log = logging.getLogger(__name__)


class Hypervisor(OwnDomains):
    """One libvirt, as one bait sees it. Every method raises UnknownError if libvirt is away."""

    def __init__(self, uri: str, cluster: str, node: str, network: Network, machines: Path) -> None:
        """`machines` is the folder of the VMs' folders of files."""
        super().__init__(uri, cluster, node, network, machines)
        self._copying: dict[str, threading.Lock] = {}  # by VM
        self._isolated = threading.Lock()  # none is removed just after it was found to be there

    def create(self, xml: str, *, held: bool = False) -> None:
        """Start a transient domain; one that runs already under the same UUID is success.

        `held`: its guest does nothing before `resume`.
        """
        with self._connections.own() as link:
            try:
                operations.create(link, xml, held=held)
            except libvirt.libvirtError as error:
                machine = ElementTree.fromstring(xml).findtext("uuid") or ""  # noqa: S314 (our own)
                if machine not in self.domains():
                    raise fault("can't start the VM", error) from error

    def destroy(self, machine: str) -> None:
        """End a domain of ours at once; one that is gone is success.

        A process of it that libvirt has lost sight of is ended, too.
        """
        with self._connections.own() as link:
            try:
                domain = link.lookupByUUIDString(machine)
                if self._ours(domain) is None:
                    raise WnodesError(f"domain {machine} does not bear our mark: not touched")
                domain.destroy()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN and self._is_there(machine):
                    raise fault("can't end the VM", error, UnknownError) from error
        if not self._dies(machine) and not self.processes.kill(machine):
            raise UnknownError(f"the QEMU process of VM {machine} does not end")
        self.processes.kill_helpers(machine)

    def traffic(self) -> Mapping[str, Mapping[str, tuple[int, int]]]:
        """Machine → card → bytes that it has received and sent. No guest is asked for it."""
        link = self._connect()
        try:
            found = link.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_INTERFACE)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                return {}
            raise fault("does not tell of traffic", error, UnknownError) from error
        return {domain.UUIDString(): traffic_of_cards(stats) for domain, stats in found}

    def is_asleep(self, machine: str) -> bool:
        """Whether the guest has put itself to sleep. Raises ConflictError if it does not run."""
        with self._acting(machine) as domain:
            return sleeps(domain)

    def is_stuck(self, machine: str) -> bool:
        """Whether QEMU holds it because there was no room for what it wrote. Raises ConflictError
        if there is no domain."""
        with self._acting(machine) as domain:
            return is_stuck(domain)

    def has_panicked(self, machine: str) -> bool:
        """Whether the guest's kernel has panicked. Raises ConflictError if there is no domain."""
        with self._acting(machine) as domain:
            return has_panicked(domain)

    def shutdown(self, machine: str) -> None:
        """Press the VM's power button (ACPI), to end it; one that is gone is success."""
        with suppress(ConflictError), self._acting(machine) as domain:
            power_button.at_poweroff(domain, restart=False)
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def restart_at_poweroff(self, machine: str) -> None:
        """Have its guest start anew when it shuts down, whoever has it do so, until
        `end_at_poweroff`, `shutdown`, `reset` or `save`."""
        with self._awake(machine) as domain:
            power_button.at_poweroff(domain, restart=True)

    def end_at_poweroff(self, machine: str) -> None:
        """Have its guest end its VM when it shuts down, as is usual; one that is gone is
        success."""
        with suppress(ConflictError), self._acting(machine) as domain:
            power_button.at_poweroff(domain, restart=False)

    @contextmanager
    def power_button(self, machine: str) -> Iterator[PowerButton]:
        """Its power button, to be pressed again until the guest starts anew."""
        with self._acting(machine) as domain, power_button.listening(domain) as button:
            yield button

    def reset(self, machine: str) -> None:
        """Start the VM anew at once, as a reset button does."""
        with self._awake(machine) as domain:
            power_button.at_poweroff(domain, restart=False)
            panicked = has_panicked(domain)
            domain.reset()
            if panicked:
                domain.resume()  # libvirt leaves it paused

    def suspend(self, machine: str) -> None:
        """Hold the VM's CPUs; it keeps its memory. One that is held already is success."""
        with self._awake(machine) as domain:
            if domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED and not has_panicked(domain):
                domain.suspend()

    def resume(self, machine: str) -> None:
        """Let the VM's CPUs run again; a guest that has put itself to sleep is woken."""
        with self._acting(machine) as domain:
            operations.resume(domain)

    def save(self, machine: str, file: Path) -> None:
        """Write the VM's memory to a file and end it. One that is gone is success."""
        with suppress(ConflictError), self._acting(machine) as domain:
            power_button.at_poweroff(domain, restart=False)
            domain.save(str(file))

    def backup(
        self,
        machine: str,
        is_it: IsIt,
        file: Path,
        form: str,
        moment: AbstractContextManager[object],
    ) -> None:
        """Copy a disk of the running VM into a file that needs no other. `moment` lasts while that
        of the copy is taken.

        One of a VM at a time: libvirt does no two. Nobody waits for another VM's, which may take
        hours.
        """
        with self._copying.setdefault(machine, threading.Lock()), self._acting(machine) as domain:
            operations.backup(domain, is_it, file, form, moment)

    def is_copied(self, machine: str) -> bool:
        """Whether a copy of one of its disks is made, or waits for its turn."""
        lock = self._copying.get(machine)
        return lock is not None and lock.locked()

    def freeze(self, machine: str) -> bool:
        """Have the guest's agent freeze its file systems; False if there is none, or it does not.

        After any fault but ConflictError, which is that there is no domain, they may be frozen.
        """
        with self._acting(machine) as domain:
            return operations.freeze(domain)

    def thaw(self, machine: str) -> int | None:
        """Have the agent thaw what is frozen; how many file systems that were. None if none can
        hear now. Raises ConflictError if there is no domain."""
        with self._acting(machine) as domain:
            return operations.thaw(domain)

    def restore(self, xml: str, file: Path) -> None:
        """Start a VM with the memory in the file.

        Its devices are those that the memory knows, in the same places; only what a new lease
        changes is taken from `xml`.
        """
        with self._connections.own() as link:
            try:
                kept = link.saveImageGetXMLDesc(str(file), libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
                changed = in_new_lease(kept, xml)
                link.restoreFlags(str(file), changed, libvirt.VIR_DOMAIN_SAVE_RUNNING)
            except libvirt.libvirtError as error:
                machine = ElementTree.fromstring(xml).findtext("uuid") or ""  # noqa: S314 (our own)
                if machine not in self.domains():
                    raise fault("can't restore the VM", error) from error

    def attach(self, machine: str, xml: str, is_it: IsIt) -> None:
        """Plug a device into the running VM; one that is in is success. `is_it` tells it among the
        domain's devices."""
        with self._acting(machine) as domain:
            operations.attach(domain, xml, is_it)

    def detach(self, machine: str, xml: str, is_it: IsIt) -> None:
        """Ask the guest to let go of a device; one that is not there is success.

        Raises ConflictError if the device is still there after a moment.
        """
        with self._acting(machine) as domain:
            operations.detach(domain, xml, is_it)

    def grow(self, machine: str, disk: str, size: int) -> None:
        """Have the guest see that one of its disks has `size` GiB; one that has is success."""
        with self._acting(machine) as domain:
            operations.grow(domain, disk, size)

    def console(self, machine: str, listener: Listener) -> ConsoleThread:
        """Open its serial console, for this listener; how that went the listener is told."""
        thread = ConsoleThread(self._acting(machine), lambda: self.is_running(machine), listener)
        thread.start()
        return thread

    def has(self, machine: str, is_it: IsIt) -> bool:
        """Whether the running VM has a device. Raises ConflictError if it does not run."""
        with self._acting(machine) as domain:
            return operations.has(domain, is_it)

    def have_isolated(self, name: str) -> str:
        """Have an isolated network of this name; what libvirt calls it. That it is needed has been
        written down before."""
        with self._isolated:
            return networks.have_isolated(self._connect(), self.node, name)

    def drop_isolated(self, needed: Callable[[], Collection[str]]) -> None:
        """Remove the isolated networks that no domain is on, but those that are `needed`.

        Raises UnknownError if libvirt does not answer.
        """
        with self._isolated:
            networks.drop_isolated(self._connect(), self.node, needed())

    def sweep_logs(self) -> None:
        """Remove libvirt's logs of VMs of this cluster that have ended long ago. Raises nothing:
        what can't be done now is tried again in an hour."""
        try:
            living = {domain.name() for domain in self._connect().listAllDomains()}
            logs.sweep(logs.FOLDER, self.cluster, living)
        except (libvirt.libvirtError, UnknownError, OSError) as error:
            log.warning("libvirt's logs stay for now: %s", error)

    def version(self) -> str:
        """The version of libvirt, as a person writes it."""
        return dotted(self._connect().getLibVersion())
