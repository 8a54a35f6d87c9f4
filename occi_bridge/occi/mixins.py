"""The mixins of this service, as data, and the whole model of a site.

From OCCI 1.2 (GFD.224); contextualization also in the spellings that OCCI 1.1's clients had from
OpenStack.
"""

import hashlib
from collections.abc import Iterable

from occi_bridge.occi.model import Attribute, Mixin, Model
from occi_bridge.occi.schema import (
    ACTIONS,
    ADDRESS6,
    COMPUTE,
    COPY_CONSISTENCY,
    COPY_SOURCE,
    COPY_TIME,
    CORES,
    DISK_SIZE,
    HOSTNAME,
    INBOUND,
    INFRA,
    KINDS,
    LEASE_END,
    LEASE_EXPECTED,
    MEMORY,
    NETWORK,
    NETWORK_ADDRESS6,
    NETWORKINTERFACE,
    OBSERVED_TIME,
    OS_TPL,
    OUTBOUND,
    OWN,
    PUBLIC_KEY,
    RESOURCE_TPL,
    SERIAL,
    STORAGE,
    STORAGELINK,
    USERDATA,
)
from wnodes_lrms.config.load import Template
from wnodes_lrms.rates import MOST

_V4 = r"[0-9.]{7,15}(/[0-9]{1,2})?"
_V6 = r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,41}(/[0-9]{1,3})?"


def _ip(prefix: str) -> tuple[Attribute, ...]:
    either = "an IPv4 or IPv6 address, with or without its prefix's length"
    meaning = "an IPv4 address, with or without its prefix's length"
    return (
        Attribute(f"{prefix}.address", set_by="creator", form=f"({_V4}|{_V6})", meaning=either),
        Attribute(f"{prefix}.gateway", set_by="creator", form=_V4, meaning=meaning),
        Attribute(f"{prefix}.allocation", set_by="creator", values=("dynamic", "static")),
    )


def _way(name: str) -> Attribute:
    return Attribute(name, "integer", least=1, most=MOST)


_OF_COPIES = (COPY_SOURCE, COPY_TIME, COPY_CONSISTENCY)
_KEY = Attribute(PUBLIC_KEY, set_by="creator", required=True, longest=16384)
_DATA = Attribute(USERDATA, set_by="creator", required=True, longest=49152)


def _spelling(term: str, scheme: str, meant: Mixin, renames: dict[str, str]) -> Mixin:
    """Another spelling of a mixin, with its own names for the attributes."""
    [attribute] = meant.attributes
    return Mixin(
        term,
        scheme,
        meant.title,
        tuple(Attribute(name, set_by="creator", longest=attribute.longest) for name in renames),
        location=f"/openstack/{term}/",
        applies=meant.applies,
        set_by="creator",
        alias=meant.id,
        renames=renames,
    )


_SSH_KEY_MIXIN = Mixin(
    "ssh_key",
    f"{INFRA}/credentials#",
    "SSH key that may log in",
    (_KEY,),
    location="/ssh_key/",
    applies=(COMPUTE,),
    set_by="creator",
    renames={
        "occi.crendentials.ssh.publickey": PUBLIC_KEY,  # as GFD.224 has it
        "occi.credentials.ssh_key": PUBLIC_KEY,
    },
)
_USER_DATA_MIXIN = Mixin(
    "user_data",
    f"{INFRA}/compute#",
    "Data for the VM's first boot",
    (_DATA,),
    location="/user_data/",
    applies=(COMPUTE,),
    set_by="creator",
    renames={"occi.compute.user_data": USERDATA},
)

MIXINS = (
    Mixin(
        "ipnetwork",
        f"{INFRA}/network#",
        "IP network",
        _ip("occi.network"),
        location="/ipnetwork/",
        applies=(NETWORK,),
        set_by="creator",
    ),
    Mixin(
        "ipnetworkinterface",
        f"{INFRA}/networkinterface#",
        "IP address of a VM",
        _ip("occi.networkinterface"),
        location="/ipnetworkinterface/",
        applies=(NETWORKINTERFACE,),
        set_by="creator",
    ),
    Mixin(
        "ipv6network",
        f"{OWN}network#",
        "IPv6 of a network",
        (
            Attribute(
                NETWORK_ADDRESS6,
                set_by="creator",
                form=_V6,
                meaning="an IPv6 range, as fd12:3456:789a:1::/64",
            ),
        ),
        location="/ipv6network/",
        applies=(NETWORK,),
        set_by="creator",
    ),
    Mixin(
        "ipv6networkinterface",
        f"{OWN}networkinterface#",
        "IPv6 address of a VM",
        (Attribute(ADDRESS6, set_by="service"),),
        location="/ipv6networkinterface/",
        applies=(NETWORKINTERFACE,),
        set_by="service",
    ),
    Mixin(
        "registered",
        f"{OWN}networkinterface#",
        "Name of a VM's address",
        (Attribute(HOSTNAME, set_by="service"),),
        location="/registered/",
        applies=(NETWORKINTERFACE,),
        set_by="service",
    ),
    Mixin("os_tpl", f"{INFRA}#", "Image", location="/os_tpl/", applies=(COMPUTE,)),
    Mixin("resource_tpl", f"{INFRA}#", "Size", location="/resource_tpl/", applies=(COMPUTE,)),
    _SSH_KEY_MIXIN,
    _USER_DATA_MIXIN,
    _spelling(
        "public_key",
        "http://schemas.openstack.org/instance/credentials#",
        _SSH_KEY_MIXIN,
        {
            "org.openstack.credentials.publickey.name": "",
            "org.openstack.credentials.publickey.data": PUBLIC_KEY,
        },
    ),
    _spelling(
        "user_data",
        "http://schemas.openstack.org/compute/instance#",
        _USER_DATA_MIXIN,
        {"org.openstack.compute.user_data": USERDATA},
    ),
    Mixin(
        "observed",
        f"{OWN}compute#",
        "When the state was last known",
        (Attribute(OBSERVED_TIME, set_by="service"),),
        location="/observed/",
        applies=(COMPUTE,),
        set_by="service",
    ),
    Mixin(
        "lease",
        f"{OWN}compute#",
        "When a VM's lease is to begin, and is over at the latest",
        tuple(Attribute(name, set_by="service") for name in (LEASE_EXPECTED, LEASE_END)),
        location="/lease/",
        applies=(COMPUTE,),
        set_by="service",
    ),
    Mixin(
        "throughput",
        f"{OWN}networkinterface#",
        "What a VM's network card may carry, and carries, in Mbit/s",
        tuple(_way(name) for name in (INBOUND, OUTBOUND))
        + tuple(
            Attribute(f"{name}.{what}", "number", set_by="service")
            for name in (INBOUND, OUTBOUND)
            for what in ("measured", "dropped")
        ),
        location="/throughput/",
        applies=(NETWORKINTERFACE,),
        set_by="creator",
    ),
    Mixin(
        "copy",
        f"{OWN}storage#",
        "A volume that was made as a copy of another",
        tuple(Attribute(name, set_by="service") for name in _OF_COPIES),
        location="/copy/",
        applies=(STORAGE,),
        set_by="service",
    ),
    Mixin(
        "readonly",
        f"{OWN}storagelink#",
        "A volume that the VM only reads",
        location="/readonly/",
        applies=(STORAGELINK,),
        set_by="creator",
    ),
    Mixin(
        "disk",
        f"{OWN}storagelink#",
        "What the guest knows the volume by",
        (Attribute(SERIAL, set_by="service"),),
        location="/disk/",
        applies=(STORAGELINK,),
        set_by="service",
    ),
)


def site_model(
    images: Iterable[tuple[str, str]],
    templates: Iterable[Template],
    saved: Iterable[tuple[str, str]] = (),
) -> Model:
    """The model of a site: an os_tpl for each image, a resource_tpl for each size.

    `images` and `saved` (by the user) are tags with their titles; an empty title is the
    tag. The tag or the template's name is the mixin's `value`.
    """
    terms: set[str] = set()
    mixins = [_os_tpl(tag, title, terms, saved=False) for tag, title in images]
    mixins += [_os_tpl(tag, title, terms, saved=True) for tag, title in saved]
    mixins += [_resource_tpl(template) for template in templates]
    return Model(KINDS, (*MIXINS, *mixins), ACTIONS)


def _os_tpl(tag: str, title: str, taken: set[str], *, saved: bool) -> Mixin:
    term = tag.lower().replace(".", "-")
    if not term[:1].isalpha():
        term = f"image-{term}"
    if term in taken:  # two tags that differ only in what a term can't have
        term += f"-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
    taken.add(term)
    return Mixin(
        term,
        f"{OWN}os_tpl#",
        title or tag,
        parent=OS_TPL,
        location=f"/os_tpl/{term}/",
        applies=(COMPUTE,),
        set_by="creator",
        value=tag,
        saved=saved,
    )


def _resource_tpl(template: Template) -> Mixin:
    cores = "core" if template.cores == 1 else "cores"
    disk = f", a disk of {template.disk} GiB" if template.disk else ""
    rate = f", cards of {template.throughput} Mbit/s" if template.throughput else ""
    return Mixin(
        template.name,
        f"{OWN}resource_tpl#",
        template.title or f"{template.cores} {cores} and {template.memory} MiB{disk}{rate}",
        parent=RESOURCE_TPL,
        location=f"/resource_tpl/{template.name}/",
        applies=(COMPUTE,),
        value=template.name,
        sets={CORES: template.cores, MEMORY: template.memory / 1024}
        | ({DISK_SIZE: template.disk} if template.disk else {}),
    )
