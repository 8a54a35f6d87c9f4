"""Which nodes a bait can be the one of: those that its host certificate names. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any


def of_hosts(certificate: Mapping[str, Any]) -> list[str]:
    """The hosts that a certificate names, as ssl.SSLSocket.getpeercert() tells of it: its DNS
    names, and its common name, with or without a service (`host/hv1.example.org`)."""
    pairs = [pair for part in certificate.get("subject", ()) for pair in part]
    common = [value.rpartition("/")[2] for name, value in pairs if name == "commonName"]
    other = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return sorted({name.lower() for name in (*common, *other) if "*" not in name})


def fits(node: str, hosts: Iterable[str]) -> bool:
    """Whether one of the hosts is called as the LRMS calls the node, with or without a domain."""
    return any(f"{host}.".startswith(f"{node.lower()}.") for host in hosts)
