"""Domains' XML, changed. Pure."""

from collections.abc import Collection
from xml.etree import ElementTree

_ENDS = ("target", "port", "filterref")  # of a card, on the node's side


def with_elements_of(xml: str, other: str, names: Collection[str]) -> str:
    """A domain's XML with these elements as they are in the other's."""
    domain, source = ElementTree.fromstring(xml), ElementTree.fromstring(other)  # noqa: S314
    _plug(domain, source)
    for name in names:
        for element in domain.findall(name):
            domain.remove(element)
        domain.extend(source.findall(name))
    return ElementTree.tostring(domain, encoding="unicode")


def _plug(domain: ElementTree.Element, source: ElementTree.Element) -> None:
    """Give a domain's cards the node's ends that they have in the other."""
    ours = {_mac(card): card for card in source.iterfind("devices/interface")}
    for card in domain.iterfind("devices/interface"):
        mine = ours.get(_mac(card))
        for name in _ENDS if mine is not None else ():
            for element in card.findall(name):
                card.remove(element)
            card.extend(mine.findall(name) if mine is not None else ())


def _mac(card: ElementTree.Element) -> str | None:
    mac = card.find("mac")
    return None if mac is None else mac.get("address")
