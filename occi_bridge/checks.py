"""`wnodes-bridge --check`: looks at all that the bridge needs on this host, and changes nothing."""

import ctypes.util
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from occi_bridge import names, processes
from occi_bridge.baits import certificate_of, client_context
from occi_bridge.database import engine
from wnodes_lrms import hostcheck
from wnodes_lrms.config import Bridge
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError

_PATIENCE = 5.0  # seconds that each bait gets


def report(bridge: Bridge) -> None:
    """Print every check as a list of JSON objects."""
    print(json.dumps([asdict(check) for check in checks(bridge)], indent=2))


def checks(bridge: Bridge) -> Iterator[Check]:
    """Every check of this host."""
    now = hostcheck.today()
    yield hostcheck.certificate("bridge", bridge.certificate, bridge.key, bridge.ca_dir, now)
    yield hostcheck.lists_of_the_revoked("bridge", bridge.ca_dir, now)
    try:
        processes.order_key(bridge)
        yield ok("order key", bridge.order_key)
    except WnodesError as error:
        yield fault("order key", str(error), "openssl genpkey -algorithm ed25519; see the manual")
    yield _database(bridge.database)
    yield from _maps(bridge)
    yield _voms(bridge)
    yield from (_bait(bridge, url) for url in bridge.baits)


def _database(url: str) -> Check:
    try:
        made = inspect(engine(url)).has_table("alembic_version")
    except SQLAlchemyError as error:
        said = str(error.__cause__ or error).splitlines()[0]
        return fault("database", said, "see database in [bridge]")
    return ok("database", "answers" if made else "answers; the bridge's first start makes tables")


def _maps(bridge: Bridge) -> Iterator[Check]:
    there = [p for p in (bridge.grid_mapfile, bridge.voms_mapfile) if Path(p).is_file()]
    if there:
        yield ok("maps", ", ".join(there))
    else:
        yield fault(
            "maps",
            f"neither {bridge.grid_mapfile} nor {bridge.voms_mapfile}: nobody is let in",
            "write one of them",
        )
    if not bridge.grant:
        yield fault("grants", "none: nobody may have anything", "add a [[bridge.grant]]")


def _voms(bridge: Bridge) -> Check:
    if not any(Path(bridge.voms_dir).glob("*/*.lsc")):
        return warning(
            "voms", f"{bridge.voms_dir} has no LSC file: no VO is known", "add those of your VOs"
        )
    if ctypes.util.find_library("vomsapi") is None:
        return fault(
            "voms", "libvomsapi is not there", "install libvomsapi1v5 (Debian) or voms (EL)"
        )
    return ok("voms", f"LSC files in {bridge.voms_dir}")


def _bait(bridge: Bridge, url: str) -> Check:
    remedy = "see that wnodes-bait runs there and that its [api] clients name this bridge"
    try:
        context = client_context(bridge.certificate, bridge.key, bridge.ca_dir)
        with httpx.Client(verify=context, timeout=_PATIENCE) as client:
            reply = client.get(f"{url}/state")
            hosts = names.of_hosts(certificate_of(reply) or {})
    except (httpx.HTTPError, WnodesError) as error:
        return fault("bait", f"{url}: {error or type(error).__name__}", remedy)
    if reply.status_code != httpx.codes.OK:
        return fault("bait", f"{url}: {reply.status_code} {reply.text[:200]}", remedy)
    state = reply.json()
    if not names.fits(state["node"], hosts):
        return fault(
            "bait",
            f"{url}: it is node {state['node']}, its certificate is for {', '.join(hosts)}",
            "give that node a host certificate in its own name, as the batch system has it",
        )
    seen = f"{url}: node {state['node']}, batch system {state['lrms']}, libvirt {state['libvirt']}"
    well = (state["lrms"], state["libvirt"]) == ("ok", "ok")
    return ok("bait", seen) if well else warning("bait", seen, "run `wnodes doctor` on that node")
