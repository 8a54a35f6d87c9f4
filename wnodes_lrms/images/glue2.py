"""The catalogue's images as GLUE 2.0 publishes software: an ApplicationEnvironment each.

GLUE Specification v. 2.0 (OGF GFD.147), 6.10, and its LDAP rendering (GFD.218): it tells the
readers of an information system that a computing element has these images. The names are those that
ARC gives to its runtime environments.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from wnodes_lrms.errors import RejectedError

PREFIX = "ENV/VM/"
VALIDITY = 3600  # seconds that what is published holds; a BDII asks every few minutes
_PARENT = re.compile(r"GLUE2ManagerID=([!-+\--~]+)(,[ -~]*[!-~])?")


def environments(tags: Iterable[str], manager: str, now: float) -> list[dict[str, object]]:
    """The attributes of each tag's entry, without GLUE2's prefixes.

    manager: the ID of the ComputingManager that the images belong to; now: seconds since the epoch.
    """
    created = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        {
            "CreationTime": created,
            "Validity": VALIDITY,
            "Name": tag,
            "ID": f"{manager}_{PREFIX}{tag}",
            "AppName": f"{PREFIX}{tag}",
            "State": "installednotverified",
            "Description": "The job runs in a virtual machine of its own, made from this image",
        }
        for tag in tags
    ]


def manager_of(parent: str) -> str:
    """The ManagerID in the DN of a ComputingManager, which it has to begin with.

    Raises RejectedError. What would have to be escaped in a DN or encoded in LDIF is refused.
    """
    found = _PARENT.fullmatch(parent)
    if not found or any(c in found[1] for c in '"\\+<>;='):
        raise RejectedError(
            f"«{parent}» is not the DN of a computing manager: it begins with"
            " GLUE2ManagerID=, as the CE itself publishes it"
        )
    return found[1]


def ldif(tags: Iterable[str], parent: str, now: float) -> str:
    """Entries for a BDII, below the DN of the computing manager. Raises RejectedError."""
    manager = manager_of(parent)
    return "\n".join(_entry(each, parent, manager) for each in environments(tags, manager, now))


def _entry(environment: dict[str, object], parent: str, manager: str) -> str:
    own = "GLUE2ApplicationEnvironment"
    entity = ("CreationTime", "Validity", "Name")
    lines = [
        f"dn: {own}ID={environment['ID']},{parent}",
        "objectClass: GLUE2Entity",
        f"objectClass: {own}",
        *(
            f"{'GLUE2Entity' if key in entity else own}{key}: {value}"
            for key, value in environment.items()
        ),
        f"{own}ComputingManagerForeignKey: {manager}",
    ]
    return "".join(f"{line}\n" for line in lines)


def document(tags: Iterable[str], parent: str, now: float) -> str:
    """The same as JSON: a list for each class, with references by ID. Raises RejectedError."""
    manager = manager_of(parent)
    associations = {"Associations": {"ComputingManagerID": manager}}
    found = [each | associations for each in environments(tags, manager, now)]
    return json.dumps({"ApplicationEnvironment": found}, indent=2)
