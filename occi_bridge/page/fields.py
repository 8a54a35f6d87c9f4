"""Which field of a form a fault of the service's is about, by how its sentence begins. Pure."""

from collections.abc import Collection

from occi_bridge.occi import schema

_FIELDS = {
    schema.PUBLIC_KEY: "key",
    schema.USERDATA: "data",
    "occi.core.title": "title",
    "occi.compute.hostname": "title",
    schema.MEMORY: "size",
    schema.CORES: "size",
    "occi.storage.size": "size",
    schema.NETWORK_ADDRESS: "address",
    schema.NETWORK_ADDRESS6: "address",
    "quota of": "size",
    "Link": "links",
    schema.TARGET: "links",
}


def about(fault: str, of: Collection[str]) -> str:
    """The name of the one, `of` a form's fields, that it is about; "" where it is about none."""
    found = (name for start, name in _FIELDS.items() if fault.startswith(start))
    return next((name for name in found if name in of), "")
