"""Building a batch VM: disk, keys, seed, domain. Each step that makes a thing pushes its undo."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bait.machine import seed
from bait.machine.files import Paths, paths
from bait.machine.hardware import Blueprint, DiskLimit, Hardware
from bait.machine.scratch import make_scratch
from bait.machine.vms import NodeVms
from bait.network.addresses import ipv6_of, mac_of
from bait.network.cards import Card, site_card


@dataclass(frozen=True)
class BatchBuilder:
    """Makes the batch VMs of a node."""

    vms: NodeVms

    def build(
        self, machine: Blueprint, step: Callable[[str], None], starting: Callable[[], None]
    ) -> None:
        """Make and start the VM. On any error nothing of it is left.

        `step` is told what comes next, `starting` is called just before libvirt is asked for the
        domain; both may raise to stop. Raises WnodesError.
        """
        vms, image = self.vms, machine.image
        where = paths(vms.config, machine.id)
        shares = vms.config.share.directories if image.trusted else ()
        with ExitStack() as undo:
            vms.fetch(image, step)
            vms.end(machine.id)  # of a bait that was killed in the middle
            undo.callback(where.remove)
            vms.new_disk(image, where, step)
            vms.copy_kernel(image, where)
            if size := machine.provision.scratch:
                step("making the scratch disk")
                make_scratch(vms.config, vms.node, where.scratch, size, machine.owner)
            step("making the seed")
            self.contextualize(where, machine, shares)
            starting()
            undo.callback(vms.end, machine.id)
            hardware = self.hardware(where, machine, shares)
            begin = partial(vms.hypervisor.create, held=vms.config.machine.charge == "cgroup")
            vms.plug_in(hardware.nics, lambda: vms.start(where, hardware, step, begin))
            step("waiting for the guest's SSH server")
            undo.pop_all()

    def cards(self, machine: Blueprint) -> tuple[Card, ...]:
        """The VM's cards: by the first the node reaches it, by the second, if it has one, it
        reaches the world. Raises WnodesError if this node does not have the network of that."""
        own = self.vms.own_card(str(machine.address))
        name = machine.provision.network
        if not name:
            return (own,)
        guest = self.vms.taps.site_card(machine.id, name, machine.site_mac)
        return (own, site_card(guest, self.vms.offer(name)))

    def _on_site(self, machine: Blueprint) -> tuple[seed.Interface, ...]:
        """The card on a network of the site's as its guest is told of it, if there is one."""
        name, address = machine.provision.network, machine.site_address
        if not name:
            return ()
        offer = self.vms.offer(name)
        mac = self.vms.taps.site_card(machine.id, name, machine.site_mac).mac
        address6, gateway6 = ipv6_of(mac, offer)
        return (
            seed.Interface(
                mac,
                f"{address}/{offer.subnet.prefixlen}" if address and offer.subnet else None,
                str(offer.gateway) if address and offer.gateway else None,
                address6,
                gateway6,
                dhcp=not address,
            ),
        )

    def hardware(self, where: Paths, machine: Blueprint, shares: tuple[str, ...]) -> Hardware:
        """What the domain is made of."""
        allocation, given = machine.allocation, machine.provision
        return Hardware(
            id=machine.id,
            name=f"{allocation.job}-{allocation.restart}",
            job=allocation.job,
            restart=allocation.restart,
            image=machine.image,
            cores=allocation.cores,
            memory=machine.memory,
            cpus=allocation.cpus,
            nics=self.cards(machine),
            # The server wants a folder, not a link to one.
            scratch=where.scratch if given.scratch else None,
            limit=DiskLimit(given.disk_rate << 20, given.disk_iops),
            shares=tuple(f"{where.share(number)}/." for number in range(len(shares))),
        )

    def contextualize(self, where: Paths, machine: Blueprint, shares: tuple[str, ...]) -> None:
        """Write the VM's keys and seed."""
        owner = machine.owner
        login, host = seed.key_pair(), seed.key_pair()
        known = f"{machine.address} {host.public}\n"
        for file, text in ((where.key, login.private), (where.known_hosts, known)):
            file.touch(mode=0o600)
            file.write_text(text)
        guest = seed.Guest(
            id=machine.id,
            hostname=machine.hostname,
            mac=mac_of(machine.address),
            address=machine.address,
            subnet=self.vms.config.network.subnet,
            host_key=host,
            owner=owner,
            public_key=login.public,
            workdir=machine.allocation.workdir,
            shares=shares,
            scratch=bool(machine.provision.scratch),
            others=self._on_site(machine),
        )
        seed.write(where.seed, seed.files(guest, machine.image.context))
        where.owner.touch(mode=0o600)
        numbers = " ".join(map(str, (owner.uid, *(gid for _, gid in owner.groups))))
        where.owner.write_text(f"{numbers}\n{'acls' if machine.image.acls else ''}\n")
        for number, directory in enumerate(shares):
            where.share(number).symlink_to(directory)
