"""libvirt's networks that guests are on: the node's, and isolated ones.

Each function acts on a connection that its caller has.
"""

import logging
from collections.abc import Collection
from xml.etree import ElementTree

import libvirt

from bait.network.addresses import guest_addresses, mac_of
from bait.network.tunnels import bridge_of, libvirt_name
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.resources import render

_ARP_RETRY = 100  # ms

log = logging.getLogger(__name__)


def have_network(link: libvirt.virConnect, network: Network) -> None:
    """Have the guests' network there: once a connection, that is also after a restart of
    libvirt.
    """
    name = network.name
    try:
        if name not in link.listNetworks():
            values = {
                "name": name,
                "subnet": network.subnet,
                "hosts": [(mac_of(at), at) for at in guest_addresses(network.subnet)],
            }
            link.networkCreateXML(render("network.xml.j2", xml=True, **values))
    except libvirt.libvirtError as error:
        told = "the node can't make its guests' network"
        raise WnodesError(f"guests' network {name}: {error}", told=told) from error
    _hurry_neighbours(f"wn-{name}")


def have_isolated(link: libvirt.virConnect, node: str, name: str) -> str:
    """Have an isolated network of this name on the node; what libvirt calls it.

    Guests on it reach each other and nothing else: there is no router and no address.
    """
    network, bridge = libvirt_name(node, name), bridge_of(node, name)
    try:
        if network not in link.listNetworks():
            xml = render("isolated.xml.j2", xml=True, name=network, bridge=bridge)
            link.networkCreateXML(xml)
    except libvirt.libvirtError as error:
        if network not in _active(link):
            told = "the node can't make a network of the VM's"
            raise WnodesError(f"isolated network {name}: {error}", told=told) from error
    return network


def drop_isolated(link: libvirt.virConnect, node: str, keep: Collection[str]) -> None:
    """Remove the node's isolated networks that no domain is on, but those named in `keep`.

    Raises UnknownError if libvirt does not answer.
    """
    try:
        start, end = libvirt_name(node, "*").split("*")
        spare = {n for n in link.listNetworks() if n.startswith(start) and n.endswith(end)}
        for domain in link.listAllDomains() if spare else ():
            spare -= _networks_of(domain)
        for name in spare - {libvirt_name(node, kept) for kept in keep}:
            link.networkLookupByName(name).destroy()
    except libvirt.libvirtError as error:
        raise UnknownError(f"isolated networks: {error}") from error


def _networks_of(domain: libvirt.virDomain) -> set[str]:
    """The networks that a domain is on; none if it has just ended."""
    try:
        xml = ElementTree.fromstring(domain.XMLDesc())  # noqa: S314 (libvirt's own)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return set()
        raise
    return {source.get("network") or "" for source in xml.iterfind("devices/*/source")}


def _active(link: libvirt.virConnect) -> list[str]:
    try:
        names: list[str] = link.listNetworks()
    except libvirt.libvirtError as error:
        told = "the node's libvirt does not list its networks"
        raise UnknownError(f"{told}: {error}", told=told) from error
    return names


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
