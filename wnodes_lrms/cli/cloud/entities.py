"""OCCI's entities as rows for people and programs: VMs, volumes, networks, offers. Pure.

Memory is in MiB, volumes are in GiB.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
Row = dict[str, Any]

INFRA = "http://schemas.ogf.org/occi/infrastructure"
OWN = "http://wnodes-lrms.invalid/occi/"  # the scheme of what is not OCCI's
IPNETWORK = f"{INFRA}/network#ipnetwork"
IPV6NETWORK = f"{OWN}network#ipv6network"
LEASE_EXPECTED, LEASE_END = "wnodes.lease.expected", "wnodes.lease.end"
IMAGES, SIZES = f"{OWN}os_tpl#", f"{OWN}resource_tpl#"


def vm(found: Json) -> Row:
    """A VM, with its cards and volumes."""
    has = found["attributes"]
    links = found.get("links", [])
    cards = [card(link) for link in links if _is(link, "networkinterface")]
    disks = [disk(link) for link in links if _is(link, "storagelink")]
    return {
        "id": found["id"],
        "name": has.get("occi.core.title", ""),
        "state": has["occi.compute.state"],
        "message": has.get("occi.compute.state.message", ""),
        "expected": has.get(LEASE_EXPECTED, ""),
        "ends": has.get(LEASE_END, ""),
        "address": next((each["address"] for each in cards if each["address"]), ""),
        "image": _mixin(found, IMAGES),
        "size": _mixin(found, SIZES),
        "cores": has.get("occi.compute.cores"),
        "memory": round(has.get("occi.compute.memory", 0) * 1024),
        "hostname": has.get("occi.compute.hostname", ""),
        "networks": cards,
        "volumes": disks,
        "observed": has.get("wnodes.observed.time"),
    }


def card(link: Json) -> Row:
    """A VM's card on a network."""
    has = link["attributes"]
    return {
        "link": link["id"],
        "network": _last(has["occi.core.target"]),
        "state": has.get("occi.networkinterface.state", ""),
        "message": has.get("occi.networkinterface.state.message", ""),
        "address": str(has.get("occi.networkinterface.address", "")).partition("/")[0],
        "address6": has.get("wnodes.networkinterface.address6", ""),
        "hostname": has.get("wnodes.networkinterface.hostname", ""),
        "mac": has.get("occi.networkinterface.mac", ""),
        "interface": has.get("occi.networkinterface.interface", ""),
    }


def disk(link: Json) -> Row:
    """A volume in a VM."""
    has = link["attributes"]
    return {
        "link": link["id"],
        "volume": _last(has["occi.core.target"]),
        "state": has.get("occi.storagelink.state", ""),
        "message": has.get("occi.storagelink.state.message", ""),
        "device": has.get("occi.storagelink.deviceid", ""),
    }


def volume(found: Json, links: Iterable[Json]) -> Row:
    """A volume; `links` are all storage links, which say what VM it is in."""
    has = found["attributes"]
    place = f"/storage/{found['id']}"
    ends = [link["attributes"] for link in links]
    within = [each["occi.core.source"] for each in ends if each["occi.core.target"] == place]
    return {
        "id": found["id"],
        "name": has.get("occi.core.title", ""),
        "size": has["occi.storage.size"],
        "state": has["occi.storage.state"],
        "message": has.get("occi.storage.state.message", ""),
        "vm": _last(within[0]) if within else "",
        "copy_of": _last(has.get("wnodes.copy.source", "")),
        "copied": has.get("wnodes.copy.time", ""),
        "consistency": has.get("wnodes.copy.consistency", ""),
    }


def network(found: Json) -> Row:
    """A network. The site's can't be changed: there is no action for them."""
    has = found["attributes"]
    return {
        "id": found["id"],
        "name": has.get("occi.core.title", ""),
        "address": has.get("occi.network.address", ""),
        "address6": has.get("wnodes.network.address6", ""),
        "state": has["occi.network.state"],
        "of": "you" if found.get("actions") else "the site",
    }


def offers(model: Json, scheme: str) -> list[Row]:
    """The images or the sizes (by their scheme) of the model."""
    return [
        {"name": mixin["term"], "title": mixin.get("title", "")}
        for mixin in model["mixins"]
        if mixin["scheme"] == scheme
    ]


def column(rows: Sequence[Row], key: str) -> list[str]:
    """The values of one key."""
    return [str(row[key]) for row in rows]


def _mixin(found: Json, scheme: str) -> str:
    """The term of the mixin of a scheme that an entity has."""
    terms = [name.removeprefix(scheme) for name in found["mixins"] if name.startswith(scheme)]
    return terms[0] if terms else ""


def _is(link: Json, kind: str) -> bool:
    return bool(link["kind"] == f"{INFRA}#{kind}")


def _last(path: str) -> str:
    return path.rpartition("/")[2]
