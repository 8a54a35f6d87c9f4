"""`wnodes-bridge --check`: looks at all that the bridge needs on this host, and changes nothing."""

import asyncio
import ipaddress
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
from sqlalchemy import inspect, select
from sqlalchemy.exc import SQLAlchemyError

from occi_bridge import permissions, processes
from occi_bridge.driver import bait_names
from occi_bridge.driver.bait_connection import certificate_of, client_context
from occi_bridge.identity import gridfiles, jwks, signing_policy
from occi_bridge.identity.issuer_client import IssuerClient
from occi_bridge.store import networks, tables
from occi_bridge.store.database import engine, sqlite_file
from wnodes_lrms.config.load import Bridge, Issuer
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.tls import check as hostcheck

_STATE = 65536  # bytes of a bait's answer
_PATIENCE = 30.0  # seconds that each bait gets
_SHOWN = 10  # addresses


def report(bridge: Bridge) -> None:
    """Print every check as a list of JSON objects."""
    print(json.dumps([asdict(check) for check in checks(bridge)], indent=2))


def checks(bridge: Bridge) -> Iterator[Check]:
    """Every check of this host."""
    now = hostcheck.today()
    yield hostcheck.certificate("bridge", bridge.certificate, bridge.key, bridge.ca_dir, now)
    yield hostcheck.lists_of_the_revoked("bridge", bridge.ca_dir, now)
    if (page := bridge.page) and page.certificate:
        yield hostcheck.certificate(
            "bridge.page", *processes.page_files(bridge, page), bridge.ca_dir, now
        )
    try:
        processes.order_key(bridge)
        known = hostcheck.secret("order key", bridge.order_key)
        yield known or ok("order key", bridge.order_key)
    except WnodesError as error:
        yield fault(
            "order key", str(error), "openssl genpkey -algorithm ed25519: see docs/install-cloud.md"
        )
    yield from permissions.checks(bridge)
    yield _database(bridge.database)
    yield from _addresses(bridge)
    yield from _maps(bridge)
    yield from _lines(bridge)
    yield _voms(bridge)
    yield from (_issuer(issuer) for issuer in bridge.issuer)
    yield from (_bait(bridge, url) for url in bridge.baits)


def _database(url: str) -> Check:
    file = sqlite_file(url)
    if file and not file.exists():  # to ask would make it, as root's, and the bridge is not root
        return ok("database", f"{file} is not there yet: the bridge's first start makes it")
    try:
        made = inspect(engine(url)).has_table("alembic_version")
    except SQLAlchemyError as error:
        said = str(error.__cause__ or error).splitlines()[0]
        return fault("database", said, "see database in [bridge]")
    return ok("database", "answers" if made else "answers; the bridge's first start makes tables")


def _addresses(bridge: Bridge) -> Iterator[Check]:
    """What cards have of the site's networks though these do not give it any more: it stays theirs,
    and whoever it is for now has it too."""
    file, of = sqlite_file(bridge.database), tables.interface.c
    if file and not file.exists():
        return
    given = select(of.network, of.assigned).where(of.owned.is_(None), of.assigned.is_not(None))
    try:
        with engine(bridge.database).connect() as link:
            found = [(row.network, row.assigned) for row in link.execute(given)]
    except SQLAlchemyError:  # as was said, or its tables are still to be made
        return
    for each in bridge.network:
        net = networks.of_site(each)
        cards = [ipaddress.IPv4Interface(own).ip for name, own in found if name == each.name]
        if kept := [str(address) for address in sorted(cards) if not net.gives(address)]:
            said = f"{len(kept)} cards of VMs have addresses that it does not give: "
            remedy = "have their links deleted before others get these, batch VMs or hosts"
            yield warning(f"network {each.name}", said + ", ".join(kept[:_SHOWN]), remedy)


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


def _lines(bridge: Bridge) -> Iterator[Check]:
    """What can't be read in the files that have names of people."""
    remedy = "mend the line: names are written as /C=IT/O=INFN/CN=Someone"
    readers: list[tuple[Callable[[Path], tuple[object, list[str]]], str]] = [
        (gridfiles.bans, bridge.ban_file),
        (gridfiles.mappings, bridge.grid_mapfile),
        (gridfiles.mappings, bridge.voms_mapfile),
    ]
    for read, path in readers:
        try:
            yield from (fault("names", said, remedy) for said in read(Path(path))[1])
        except FileNotFoundError:
            continue
        except OSError as error:
            yield fault("names", f"{path}: {error.strerror}", "let the bridge's user read it")
    for policy in sorted(Path(bridge.ca_dir).glob("*.signing_policy")):
        try:
            signing_policy.read(policy)
        except (OSError, ValueError) as error:
            yield fault("names", f"{policy}: {error}", remedy)


def _voms(bridge: Bridge) -> Check:
    if not any(Path(bridge.voms_dir).glob("*/*.lsc")):
        return warning(
            "voms", f"{bridge.voms_dir} has no LSC file: no VO is known", "add those of your VOs"
        )
    return ok("voms", f"LSC files in {bridge.voms_dir}")


def _issuer(issuer: Issuer) -> Check:
    """Whether an issuer's keys can be had."""
    name = "issuer"
    try:
        known = issuer.client_secret and hostcheck.secret(name, issuer.client_secret)
        if known:
            return known
        count = asyncio.run(_keys(issuer))
    except (WnodesError, OSError) as error:
        said = str(error)
        return fault(name, said, "see [[bridge.issuer]] in docs/tokens.md: ca_dir, hosts, url")
    if not count:
        said = f"{issuer.url}: has no key that signs by {', '.join(issuer.algorithms)}"
        return fault(name, said, "see algorithms in [[bridge.issuer]]")
    if issuer.audiences == ("*",):
        remedy = "name audiences if its tokens have them"
        return warning(name, f"{issuer.url}: tokens for other services are taken too", remedy)
    return ok(name, f"{issuer.url}: {count} keys")


async def _keys(issuer: Issuer) -> int:
    """How many of an issuer's keys can be used. Raises RejectedError, UnknownError."""
    client = IssuerClient(issuer)
    try:
        metadata = await client.metadata()
        found = jwks.keys(await client.ask("GET", metadata.get("jwks_uri")))
    finally:
        await client.close()
    return sum(bool(key.algorithms & {*issuer.algorithms}) for key in found.values())


def _bait(bridge: Bridge, url: str) -> Check:
    remedy = "see that wnodes-bait runs there and that its [api] clients name this bridge"
    try:
        context = client_context(bridge.certificate, bridge.key, bridge.ca_dir)
        with httpx.stream("GET", f"{url}/state", verify=context, timeout=_PATIENCE) as reply:
            hosts = bait_names.of_hosts(certificate_of(reply) or {})
            said = next(reply.iter_raw(_STATE), b"")  # no more of it, however much comes
    except (httpx.HTTPError, WnodesError) as error:
        return fault("bait", f"{url}: {error or type(error).__name__}", remedy)
    if reply.status_code != httpx.codes.OK:
        text = said.decode(errors="replace")[:200]
        return fault("bait", f"{url}: {reply.status_code} {text}", remedy)
    try:
        state = json.loads(said)
        _ = state["node"], state["lrms"], state["libvirt"]
    except (ValueError, LookupError, TypeError):
        return fault("bait", f"{url}: the answer makes no sense", remedy)
    if not bait_names.fits(state["node"], hosts):
        return fault(
            "bait",
            f"{url}: it is node {state['node']}, its certificate is for {', '.join(hosts)}",
            "give that node a host certificate in its own name, as the batch system has it",
        )
    seen = f"{url}: node {state['node']}, batch system {state['lrms']}, libvirt {state['libvirt']}"
    well = (state["lrms"], state["libvirt"]) == ("ok", "ok")
    return ok("bait", seen) if well else warning("bait", seen, "run `wnodes doctor` on that node")
