"""What `wnodes link` has `wnodes-bridge` do: list, make and remove links of tokens to DNs."""

import json
from dataclasses import asdict

from occi_bridge.identity import grants
from occi_bridge.store import links
from occi_bridge.store.database import Database, sqlite_file
from occi_bridge.store.links import Links
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.errors import RejectedError, WnodesError


def report(bridge: Bridge, make: tuple[str, str] | None, remove: str | None) -> None:
    """Do it, and print as JSON what links there are, or why it was refused.

    `make` is a subject and a DN. Raises WnodesError if the database can't be used.
    """
    file = sqlite_file(bridge.database)
    if file and not file.exists():  # to ask would make it, as root's, and the bridge is not root
        raise WnodesError(f"{file} is not there yet: the bridge's first start makes it")
    db = Database(bridge.database)
    known = Links(db)
    refused = None
    try:
        if make:
            known.make(*_names(*make))
        if remove is not None and not known.remove(_subject(remove)):
            raise RejectedError(f"{remove} is not linked")
    except RejectedError as error:
        refused = str(error)
    with db.reading() as link:
        rows = [asdict(made) for made in links.listed(link)]
    db.close()
    print(json.dumps({"links": rows, "refused": refused}))


def _names(subject: str, dn: str) -> tuple[str, str]:
    """Both as they are compared. Raises RejectedError if they are none."""
    try:
        if not grants.is_dn(dn):
            raise ValueError(f"«{ascii(dn)[1:-1]}» is not of the form /C=…/CN=…")
        return _subject(subject), grants.pattern(dn)
    except ValueError as error:
        raise RejectedError(str(error)) from error


def _subject(text: str) -> str:
    """A token's subject. Raises RejectedError if it is none."""
    try:
        if not text.startswith("https://"):
            raise ValueError(f"«{ascii(text)[1:-1]}» is not of the form https://issuer#subject")
        return grants.pattern(text)
    except ValueError as error:
        raise RejectedError(str(error)) from error
