"""What a site opens to its guests: a place, and one of its services or all of them."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

_FORM = re.compile(r"(?P<place>[^:]+)(:(?P<port>[0-9]{1,5})/(?P<protocol>tcp|udp))?")
_NODE = "node"


@dataclass(frozen=True)
class Opening:
    """A place that guests may reach although it would be closed."""

    network: ipaddress.IPv4Network | None  # None: the node itself, at any of its addresses
    port: int | None = None  # None: all that is there
    protocol: Literal["tcp", "udp"] | None = None

    @property
    def is_host(self) -> bool:
        """Whether it is one address, which may be one of the node's."""
        return self.network is None or self.network.prefixlen == 32


def opening(text: str) -> Opening:
    """From `node:3128/tcp`, `10.0.0.5:2049/tcp`, `10.1.0.0/16`. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"«{text}» is not of the form PLACE or PLACE:PORT/tcp (or udp)")
    place, port = found["place"], found["port"]
    protocol: Literal["tcp", "udp"] | None = found["protocol"]  # type: ignore[assignment]
    if port and not 0 < int(port) < 65536:
        raise ValueError(f"«{text}»: there is no port {port}")
    if place == _NODE:
        if not port:
            raise ValueError(f"«{text}»: of the node itself single services are opened")
        return Opening(None, int(port), protocol)
    try:
        network = ipaddress.IPv4Network(place)
    except ValueError as error:
        raise ValueError(f"«{text}»: {error}") from error
    return Opening(network, int(port) if port else None, protocol)
