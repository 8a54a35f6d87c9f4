"""Domains' XML, changed. Pure."""

from collections.abc import Iterable
from xml.etree import ElementTree

_ENDS = ("target", "port", "filterref")  # of a card, on the node's side


def in_new_lease(xml: str, other: str) -> str:
    """The XML of a VM's memory, with all that its new lease changes as it is in the other's.

    That is our mark, the node's ends of its cards, and how it is fitted to its cores, as far as the
    guest does not see it: its own NUMA nodes, its disk's thread and what its memory is made of (a
    file of libvirt's kind «memfd» or none) stay as QEMU has them in that memory.
    """
    domain, source = ElementTree.fromstring(xml), ElementTree.fromstring(other)  # noqa: S314
    _plug(domain, source)
    for name in ("metadata", "cputune", "numatune"):
        _replace(domain, name, source.findall(name))
    _unpin_threads(domain)
    _place(domain, source)
    _give_huge_pages(domain, source)
    return ElementTree.tostring(domain, encoding="unicode")


def _plug(domain: ElementTree.Element, source: ElementTree.Element) -> None:
    """Give a domain's cards the node's ends that they have in the other."""
    ours = {_mac(card): card for card in source.iterfind("devices/interface")}
    for card in domain.iterfind("devices/interface"):
        mine = ours.get(_mac(card))
        for name in _ENDS if mine is not None else ():
            _replace(card, name, mine.findall(name) if mine is not None else ())


def _unpin_threads(domain: ElementTree.Element) -> None:
    """Pin no thread of a disk that it does not have: it may be of an earlier release."""
    tune = domain.find("cputune")
    if tune is not None and domain.find("iothreads") is None:
        _replace(tune, "iothreadpin", ())


def _place(domain: ElementTree.Element, source: ElementTree.Element) -> None:
    """Place the guest's NUMA nodes only if it has those that the other would have."""
    places = domain.find("numatune")
    if places is not None and _nodes(domain) != _nodes(source):
        _replace(places, "memnode", ())
        if not len(places):
            domain.remove(places)


def _nodes(domain: ElementTree.Element) -> list[list[int]]:
    """The vCPUs of each of a guest's NUMA nodes, which are written as lists or as ranges."""
    found = []
    for cell in domain.iterfind("cpu/numa/cell"):
        ends = [part.split("-") for part in (cell.get("cpus") or "").split(",") if part]
        ranges = [range(int(end[0]), int(end[-1]) + 1) for end in ends]
        found.append(sorted(cpu for each in ranges for cpu in each))
    return found


def _give_huge_pages(domain: ElementTree.Element, source: ElementTree.Element) -> None:
    """Have a memory that can be of huge pages be of those of the other, or of none."""
    backing = domain.find("memoryBacking")
    if backing is not None:
        memfd = backing.find("source[@type='memfd']") is not None
        _replace(backing, "hugepages", source.findall("memoryBacking/hugepages") if memfd else ())


def _replace(parent: ElementTree.Element, name: str, others: Iterable[ElementTree.Element]) -> None:
    """Have these children in the place of all that have this name."""
    for element in parent.findall(name):
        parent.remove(element)
    parent.extend(others)


def _mac(card: ElementTree.Element) -> str | None:
    mac = card.find("mac")
    return None if mac is None else mac.get("address")
