"""Addresses that a site has registered, in the tables of networks."""

import ipaddress

from pydantic import Field

from wnodes_lrms.config.values import Section


class Host(Section):
    """An address of the network that the site has registered, with a name in its DNS and the MAC
    that its switches or its DHCP server know. A card that gets the address has that MAC."""

    name: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63}){0,8}$",
        description="its name, with or without the domain: the first part is that of the VM, unless"
        " a cloud user has named it; cloud users see the whole of it on the link",
    )
    mac: str = Field(
        pattern=r"^52:54:00(:[0-9a-f]{2}){3}$",
        description="its MAC: one that begins as those of all cloud VMs do",
    )
    address: ipaddress.IPv4Address = Field(
        description="of the network's `subnet`; for batch VMs, of what a node has there (`batch`)"
    )
