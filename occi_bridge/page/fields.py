"""Which field of a form a fault of the service's is about, by how its sentence begins. Pure."""

from occi_bridge.occi import schema

_FIELDS = {
    schema.PUBLIC_KEY: "key",
    schema.USERDATA: "data",
    "occi.core.title": "title",
    "occi.compute.hostname": "title",
    schema.MEMORY: "size",
    schema.CORES: "size",
    "occi.storage.size": "size",
    "occi.network.address": "address",
    "quota of": "size",
    "Link": "links",
    schema.TARGET: "links",
}


def about(fault: str) -> str:
    """The field's name; "" where it is about none."""
    return next((name for start, name in _FIELDS.items() if fault.startswith(start)), "")
