"""A VM's memory goes on in a new lease: what of its description that changes, and what it can't."""

from xml.etree import ElementTree

import pytest

from bait.hypervisor.domain_xml import in_new_lease

MEMFD = "<memoryBacking><source type='memfd'/></memoryBacking>"
HUGE = "<memoryBacking><hugepages><page size='2048'/></hugepages><source type='memfd'/>"
HUGE += "</memoryBacking>"
ON_1 = "<numatune><memory mode='preferred' nodeset='1'/></numatune>"
ON_BOTH = "<numatune><memnode cellid='0' nodeset='0'/><memnode cellid='1' nodeset='1'/></numatune>"
PINS = "<cputune><vcpupin vcpu='0' cpuset='9'/><iothreadpin iothread='1' cpuset='9'/></cputune>"


def cells(*cpus: str) -> str:
    each = "".join(f"<cell id='{at}' cpus='{which}'/>" for at, which in enumerate(cpus))
    return f"<cpu><numa>{each}</numa></cpu>"


def gone_on(kept: str, new: str) -> ElementTree.Element:
    text = in_new_lease(f"<domain>{kept}</domain>", f"<domain>{new}</domain>")
    return ElementTree.fromstring(text)  # noqa: S314 (our own)


def inside(domain: ElementTree.Element, name: str) -> list[str]:
    return [element.tag for element in domain.iterfind(f"{name}/*")]


def test_what_a_new_lease_changes_is_put_into_the_saved_description() -> None:
    kept = "<domain><uuid>x</uuid><metadata><a job='1'/></metadata><devices><d/></devices></domain>"
    new = "<domain><metadata><a job='2'/></metadata><cputune><p/></cputune><devices/></domain>"
    assert in_new_lease(kept, new) == (
        '<domain><uuid>x</uuid><devices><d /></devices><metadata><a job="2" /></metadata>'
        "<cputune><p /></cputune></domain>"
    )


def test_a_card_in_a_machines_memory_is_plugged_in_as_cards_are_now() -> None:
    """One of a version before 0.5 had a filter of libvirt's, and an end that libvirt named."""
    kept = (
        "<cpu/><devices><interface type='network'><mac address='52:54:c0:a8:be:07'/>"
        "<target dev='vnet3'/><filterref filter='wnodes-guest'/><address slot='5'/></interface>"
        "<interface type='bridge'><mac address='02:00:00:00:00:01'/><target dev='vnet4'/>"
        "</interface></devices>"
    )
    ours = (
        "<devices><interface type='network'><mac address='52:54:c0:a8:be:07'/>"
        "<target dev='wg1'/><driver queues='2'/><port isolated='yes'/></interface></devices>"
    )
    first, second = gone_on(kept, ours).iterfind("devices/interface")
    assert [child.tag for child in first] == ["mac", "address", "target", "port"]
    target = first.find("target")
    assert target is not None
    assert target.get("dev") == "wg1"
    assert [child.tag for child in second] == ["mac", "target"]


def test_memory_is_where_the_new_lease_has_its_cores() -> None:
    old = "<numatune><memory mode='preferred' nodeset='0'/></numatune>"
    assert inside(gone_on(old, ""), "numatune") == []
    memory = gone_on(old, ON_1).find("numatune/memory")
    assert memory is not None
    assert memory.get("nodeset") == "1"


@pytest.mark.parametrize(
    ("kept", "new", "found"),
    [
        (cells("0-1", "2"), cells("0,1", "2") + ON_BOTH, ["memnode", "memnode"]),
        (cells("0", "1-2"), cells("0,1", "2") + ON_BOTH, []),  # split in another way
        ("<cpu/>", cells("0,1", "2") + ON_BOTH, []),  # the guest has no nodes
        (cells("0-1", "2") + ON_BOTH, ON_1, ["memory"]),  # the new lease is on one
        (cells("0-1", "2") + ON_BOTH, "", []),
    ],
)
def test_a_guests_own_nodes_stay_and_are_placed_if_they_fit(
    kept: str, new: str, found: list[str]
) -> None:
    domain = gone_on(kept, new)
    assert inside(domain, "numatune") == found
    assert domain.findall("numatune") if found else not domain.findall("numatune")
    assert inside(domain, "cpu/numa") == inside(gone_on(kept, ""), "cpu/numa")


@pytest.mark.parametrize(
    ("kept", "new", "found"),
    [
        (MEMFD, HUGE, ["source", "hugepages"]),
        (HUGE, HUGE, ["source", "hugepages"]),
        (HUGE, "", ["source"]),  # none are free
        ("", HUGE, []),  # libvirt refuses memory of another kind than it was
    ],
)
def test_huge_pages_are_taken_if_the_memory_can_be_of_them(
    kept: str, new: str, found: list[str]
) -> None:
    assert inside(gone_on(kept, new), "memoryBacking") == found


def test_a_disk_of_an_earlier_release_has_no_thread_to_be_pinned() -> None:
    assert inside(gone_on("", PINS), "cputune") == ["vcpupin"]
    kept = "<iothreads>1</iothreads>"
    assert inside(gone_on(kept, PINS), "cputune") == ["vcpupin", "iothreadpin"]
