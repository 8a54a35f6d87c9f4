"""VOMS attributes, made by the real voms-proxy-fake and judged in the verifier's own process."""

import asyncio
import functools
import os
import re
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from contrib.site.box.ca import Authority, Credential, proxy, voms_proxy, write_lsc
from contrib.site.box.certificates import der, der_oid, parse_name, pem
from occi_bridge.identity import voms_client, voms_process
from occi_bridge.identity.voms_client import Verifier
from tests.attributecertificates import (
    CERTIFICATES,
    MD5,
    NEVER_REVOKED,
    SHA1,
    SHA256,
    TARGETS,
    UNKNOWN,
    Algorithm,
    Made,
    again,
    bearing,
    extension,
    odd_proxy,
    patched,
    sequence,
    target,
)
from tests.unit import ca
from tests.unit.ca import BASE, VO, Grid, Service, read_bundle
from tests.unit.conftest import NOBODY, needs_root
from wnodes_lrms.errors import RejectedError, UnknownError

pytestmark = pytest.mark.integration

DAY = 86400.0
PILOT = (f"/{VO}/Role=pilot", f"/{VO}")
PILOT_BYTES = [fqan.encode() for fqan in PILOT]
ATTRIBUTES = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
Make = Callable[["Cases"], Credential]


def short_key() -> rsa.RSAPrivateKey:
    """One that is too short."""
    return rsa.generate_private_key(65537, 1024)  # noqa: S505


class Cases:
    """A grid with servers of VOs as they should be and as they should not."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        issue = functools.partial(grid.authority.issue, key=ca.key("another"))
        self.bob = issue(f"{BASE}/CN=Bob")
        self.unknown = issue(f"{BASE}/CN=evil.example", hosts=("evil.example",))
        self.revoked = issue(f"{BASE}/CN=revoked.example", hosts=("revoked.example",))
        self.expired = issue(f"{BASE}/CN=old.example", hosts=("x",), life=(-2 * DAY, -DAY))
        for server, host in ((self.revoked, "revoked.example"), (self.expired, "old.example")):
            write_lsc(grid.vomsdir, VO, host, server)
        self.other = issue(f"{BASE}/CN=other.example", hosts=("other.example",))
        write_lsc(grid.vomsdir, "othervo", "other.example", self.other)
        # libvomsapi takes certificates for those of any VO's servers.
        (grid.vomsdir / "other.pem").write_bytes(pem(self.other.certificate))
        self.second = self.server("second.example")
        self.servers = functools.lru_cache(self._bad_server)
        grid.authority.revoke(self.revoked)
        grid.authority.install(grid.certificates)
        grid.map(f'"{BASE}/CN=Alice" alice', f'"{BASE}/CN=Bob" bob')
        (grid.folder / "voms-mapfile").write_text(f'"{PILOT[0]}" .pil\n"/{VO}/*" member\n')
        for number in range(3):
            (grid.folder / "gridmapdir" / f"pil00{number}").touch()

    def server(
        self, host: str, by: Authority | None = None, key: rsa.RSAPrivateKey | None = None
    ) -> Credential:
        """Another server that the VO trusts."""
        issue = (by or self.grid.authority).issue
        made = issue(f"{BASE}/CN={host}", hosts=(host,), key=key or ca.key("another"))
        write_lsc(self.grid.vomsdir, VO, host, made)
        return made

    def sub(self, name: str, kind: Algorithm = SHA256, **options: Any) -> Authority:
        """An intermediate CA, signed with this digest."""
        root = self.grid.authority
        made = root.sub(f"{BASE}/CN=CA of {name}", **options)
        own = again(made.own, root.own, kind)
        made.own = Credential(own.certificate, own.key, (own.certificate,))
        made.install(self.grid.certificates, subjects=[f"{BASE}/CN=*{name}"])
        return made

    def _bad_server(self, what: str) -> Credential:
        """A server that is what its VO's LSC file says, and has this fault."""
        root, host = self.grid.authority, f"{what}.example"
        if what in ("md5", "sha1"):
            return again(self.server(host), root.own, {"md5": MD5, "sha1": SHA1}[what])
        if what == "short":
            return self.server(host, key=short_key())
        if what == "shortca":
            return self.server(host, self.sub(host, key=short_key()))
        if what == "sub":
            return self.server(host, self.sub(host, key=ca.key("another")))
        if what == "sha1ca":
            return self.server(host, self.sub(host, SHA1, key=ca.key("another")))
        if what == "policy":
            return self.server(host, self.sub("elsewhere", key=ca.key("another")))
        if what == "ca":
            made = root.sub(f"{BASE}/CN={host}", ca.key("another")).own
            write_lsc(self.grid.vomsdir, VO, host, made)
            return Credential(made.certificate, made.key)
        if what == "proxy":
            made = proxy(self.server(host), key=ca.key("another"))
            write_lsc(self.grid.vomsdir, VO, host, made)
            return made
        if what == "usage":
            good = self.server(host)
            signs, encrypts = (der(0x04, bytes.fromhex(bits)) for bits in ("030205a0", "03020520"))
            return patched(good, root.own, signs, encrypts)
        if what == "twin":  # its CA is called as one that is trusted, and its LSC file names both
            twin = Authority.make(f"{BASE}/CN=Box CA", ca.key("another"))
            made = self.server(host, twin)
            with (self.grid.vomsdir / VO / f"{host}.lsc").open("a") as file:
                file.write(f"{BASE}/CN=Box CA\n" * 2)
            return Credential(made.certificate, made.key, (twin.own.certificate,))
        raise KeyError(what)

    def made(self, **changes: Any) -> Made:
        """An attribute certificate of Alice's, written by hand."""
        return Made(self.grid.alice, self.grid.server).but(**changes)

    def changed(self, **changes: Any) -> Credential:
        """A proxy with such a one."""
        return bearing(self.made(**changes))

    def by(self, what: str) -> Credential:
        """A proxy with one that such a server has signed."""
        uri = f"{VO}://{what}.example:15000"
        return bearing(self.made(server=self.servers(what), uri=uri))

    def speaking(self, uri: str) -> Credential:
        """A proxy with the VO's attributes, signed by the server of another VO."""
        vo = uri.partition("://")[0]
        fqans = [f"/{vo}".encode()] if "/" in vo else PILOT_BYTES
        return bearing(self.made(server=self.other, uri=uri, fqans=fqans))

    def elliptic(self) -> Credential:
        """One that a server with such a key has signed."""
        key: Any = ec.generate_private_key(ec.SECP256R1())
        kind = ("1.2.840.10045.4.3.2", hashes.SHA256())
        server = self.server("ec.example", key=key)
        return bearing(self.made(server=server, uri=f"{VO}://ec.example:1", kind=kind))

    def looks_like(self) -> Credential:
        """One of a server whose name in one line is that of the VO's."""
        parts = ((NameOID.COUNTRY_NAME, "IT"), (NameOID.ORGANIZATION_NAME, "Box/CN=voms.example"))
        name = x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])
        server = self.grid.authority.issue(name, key=ca.key("another"))
        return bearing(self.made(server=server))

    def twice(self) -> Credential:
        """A proxy with two extensions of attribute certificates."""
        data = sequence(sequence(self.made().data))
        other = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.6")
        pair = [x509.UnrecognizedExtension(kind, data) for kind in (ATTRIBUTES, other)]
        first, second = (der_oid(kind.dotted_string) for kind in (other, ATTRIBUTES))
        alice = self.grid.alice
        return patched(odd_proxy(alice, more=pair), alice, first, second)

    @functools.lru_cache  # noqa: B019 (lives as long as the tests)
    def voms(
        self,
        *options: str,
        user: Credential | None = None,
        server: Credential | None = None,
        vo: str = VO,
        fqans: tuple[str, ...] = PILOT,
    ) -> Credential:
        path = self.grid.folder / "voms.pem"
        user, server = user or self.grid.alice, server or self.grid.server
        voms_proxy(user, server, vo, fqans, path, *options)
        return read_bundle(path)

    def with_attributes(self, user: Credential, changed: Callable[[bytes], bytes]) -> Credential:
        """A proxy of this user's with the attributes that Alice got, changed."""
        of = self.voms().certificate.extensions.get_extension_for_oid(ATTRIBUTES).value
        assert isinstance(of, x509.UnrecognizedExtension)
        more = x509.UnrecognizedExtension(ATTRIBUTES, changed(of.value))
        return odd_proxy(user, more=[more], key=self.grid.key)

    def tampered(self, old: bytes, new: bytes) -> Credential:
        def change(data: bytes) -> bytes:
            assert old in data
            return data.replace(old, new)

        return self.with_attributes(self.grid.alice, change)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Cases, Service]]:
    with ca.shared_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(voms_client, "_PATIENCE", 60.0)  # a busy machine starts the verifier slowly
        cases = Cases(Grid(folder))
        with ca.service(cases.grid) as service:
            yield cases, service


GOOD: dict[str, tuple[Make, tuple[str, ...], str]] = {
    "a role and a group": (lambda c: c.voms(), PILOT, "pil"),
    "a group only": (lambda c: c.voms(fqans=(f"/{VO}",)), (f"/{VO}",), "member"),
    "the group first": (lambda c: c.voms(fqans=PILOT[::-1]), PILOT[::-1], "member"),
    "without what says nothing": (
        lambda c: c.voms(fqans=(f"/{VO}/prod/Role=NULL/Capability=NULL",)),
        (f"/{VO}/prod",),
        "member",
    ),
    "a proxy of a VOMS proxy": (lambda c: proxy(c.voms(), key=c.grid.key), PILOT, "pil"),
    "made again from its parts": (
        lambda c: c.with_attributes(c.grid.alice, lambda data: data),
        PILOT,
        "pil",
    ),
    "written by hand": (lambda c: bearing(c.made()), PILOT, "pil"),
    "of another server of the VO": (
        lambda c: bearing(c.made(server=c.second, uri=f"{VO}://second.example:1")),
        PILOT,
        "pil",
    ),
    "of a server below an intermediate CA": (lambda c: c.by("sub"), PILOT, "pil"),
    "of a server with an elliptic key": (lambda c: c.elliptic(), PILOT, "pil"),
    "of two VOs": (
        lambda c: bearing(
            c.made(),
            c.made(server=c.other, uri="othervo://other.example:1", fqans=[b"/othervo"]),
        ),
        (*PILOT, "/othervo"),
        "pil",
    ),
    "for this host": (
        lambda c: bearing(
            c.made(more=[extension(TARGETS, target("x", socket.gethostname()), critical=True)])
        ),
        PILOT,
        "pil",
    ),
    "with an unknown extension that is not critical": (
        lambda c: bearing(c.made(more=[extension("1.2.3.4", b"x")])),
        PILOT,
        "pil",
    ),
    "in two proxies: the nearer to the leaf": (
        lambda c: bearing(c.made(fqans=[b"/testvo"]), user=bearing(c.made())),
        (f"/{VO}",),
        "member",
    ),
    "none: their own account": (lambda c: proxy(c.grid.alice, key=c.grid.key), (), "alice"),
}

BAD: dict[str, tuple[Make, str]] = {
    "an FQAN changed": (
        lambda c: c.tampered(b"/testvo/Role=pilot", b"/testvo/Role=admin"),
        "signature",
    ),
    "made for another": (
        lambda c: c.with_attributes(c.bob, lambda data: data),
        "a different certificate",
    ),
    "cut off": (
        lambda c: c.with_attributes(c.grid.alice, lambda data: data[:-40]),
        "can't be read",
    ),
    "no structure at all": (
        lambda c: c.with_attributes(c.grid.alice, lambda _: b"\0\xff"),
        "can't be read",
    ),
    "expired": (lambda c: c.voms("-pastac", "20:00", "-vomslife", "1"), "has expired"),
    "of an unknown server": (lambda c: c.voms(server=c.unknown), "by its LSC file"),
    "of a revoked server": (lambda c: c.voms(server=c.revoked), "certificate revoked"),
    "of an expired server": (lambda c: c.voms(server=c.expired), "has expired"),
    "of a server that speaks for another VO": (lambda c: c.voms(server=c.other), "by its LSC file"),
    "signed by the user": (lambda c: c.voms(server=c.grid.alice), "by its LSC file"),
    "an FQAN of another VO": (lambda c: c.voms(fqans=(*PILOT, "/othervo/Role=x")), "not of the VO"),
    "an FQAN of a longer VO": (lambda c: c.voms(fqans=("/testvoice",)), "not of the VO"),
    "an FQAN that is a pattern": (lambda c: c.voms(fqans=(f"/{VO}/*",)), "not of the form"),
    "an attribute certificate that another, good one hides": (
        lambda c: bearing(c.made(), c.made(kind=UNKNOWN)),
        "not known here",
    ),
    "of two VOs, one with the other's FQAN": (
        lambda c: bearing(
            c.made(server=c.other, uri="othervo://other.example:1", fqans=[b"/testvo"]), c.made()
        ),
        "not of the VO",
    ),
    "no attribute certificate where there should be one": (
        lambda c: bearing(user=c.grid.alice),
        "there is none",
    ),
    "two extensions in one proxy": (lambda c: c.twice(), "can't be read"),
    "a server whose name looks like the VO's": (lambda c: c.looks_like(), "another part"),
    "for no host at all": (  # this voms-proxy-fake loses the name
        lambda c: c.voms("-target", "x.example"),
        "other hosts",
    ),
    "a limited proxy": (lambda c: c.voms("-limited"), "limited"),
    "below a limited proxy": (
        lambda c: proxy(c.voms("-limited"), key=c.grid.key),
        "limited",
    ),
}

URIS = {
    f"{VO}://../othervo/other.example:1": "not of the form",
    f"{VO}/../othervo://other.example:1": "not of the form",
    f"{VO}://other.example:1": "no LSC file",
    "..://other.example:1": "not the name of a VO",
    "://other.example:1": "not of the form",
    f"{VO}://..:1": "not the name of a host",
    f"{VO}://other.example": "not of the form",
    f"{VO}://other.example:1:2": "not of the form",
    f"{VO}://other.example:1/x": "not of the form",
    f"{VO}\0://other.example:1": "not the name of a VO",
    f"{VO}s://other.example:1": "not of the VO",
}

FQANS = {
    b"/testvo/Role=pilot\0x": "not of the form",
    b"/testvo\0": "not of the form",
    b"/testvo/../othervo": "not of the form",
    b"/testvo/.": "not of the form",
    b"/testvo/Role=pilot/x": "not of the form",
    b"/testvo\n": "not of the form",
    b"/testvo/\xff": "can't be read",
    b"/" + 255 * b"x": "not of the form",
    b"testvo": "not of the form",
    b"": "not of the form",
}

SERVERS = {
    "md5": "weak digest",
    "sha1": "weak digest",
    "short": "too weak",
    "sha1ca": "weak digest",
    "shortca": "too weak",
    "policy": "signing policy",
    "ca": "may not sign attribute certificates",
    "usage": "may not sign attribute certificates",
    "proxy": "proxy certificates not allowed",
    "twin": "the VOMS server's certificate: ",
}

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "no FQAN": ({"fqans": ()}, "no FQAN"),
    "an MD5 signature": ({"kind": MD5}, "weak"),
    "a SHA-1 signature": ({"kind": SHA1}, "weak"),
    "an unknown kind of signature": ({"kind": UNKNOWN}, "not known here"),
    "another kind of signature within": ({"inner": SHA1[0]}, "two algorithms"),
    "another signature": ({"signature": bytes(256)}, "signature is wrong"),
    "half a byte of signature": ({"unused": 4}, "whole bytes"),
    "version 1": ({"version": 0}, "version 2"),
    "a lifetime just over": ({"life": (-3600, -60)}, "has expired"),
    "a lifetime of tomorrow": ({"life": (DAY, 2 * DAY)}, "not yet valid"),
    "a lifetime that ends before it begins": ({"life": (120, 60)}, "not yet valid"),
    "another number of the certificate": ({"serial": 5}, "a different certificate"),
    "another CA of the holder": (
        {"holder_name": parse_name("/C=IT/O=Elsewhere/CN=CA")},
        "a different certificate",
    ),
    "another signer's name": (
        {"issuer_name": parse_name(f"{BASE}/CN=another.example")},
        "who should have signed",
    ),
    "two attributes of VOMS's": ({"attributes": 2}, "just one"),
    "no attribute": ({"attributes": 0}, "just one"),
    "no word on revocation": ({"without": [NEVER_REVOKED]}, "never revoked"),
    "no certificate of its server": ({"without": [CERTIFICATES]}, "its server"),
    "an unknown critical extension": (
        {"more": [extension("1.2.3.4", b"x", critical=True)]},
        "1.2.3.4 is critical",
    ),
    "one extension twice": (
        {"more": [extension(NEVER_REVOKED, b"\5\0")]},
        "twice",
    ),
    "another host as target": (
        {"more": [extension(TARGETS, target("x.example"), critical=True)]},
        "for other hosts",
    ),
    "a target that could be overlooked": (
        {"more": [extension(TARGETS, target("x.example"))]},
        "not critical",
    ),
    "more FQANs than fit": (
        {"fqans": [f"/{VO}/{number}".encode() for number in range(201)]},
        "more than 200",
    ),
}

# Written by hand, and signed by a server that some VO trusts.
BAD |= {
    **{f"the URI {uri}": (partial(Cases.speaking, uri=uri), URIS[uri]) for uri in URIS},
    **{
        f"the FQAN {fqan!r}": (partial(Cases.changed, fqans=(fqan,)), FQANS[fqan]) for fqan in FQANS
    },
    **{f"a server: {what}": (partial(Cases.by, what=what), SERVERS[what]) for what in SERVERS},
    **{
        f"with {what}": (partial(Cases.changed, **changes), reason)
        for what, (changes, reason) in CHANGES.items()
    },
}


@pytest.mark.parametrize("what", GOOD)
def test_taken(place: tuple[Cases, Service], what: str) -> None:
    cases, service = place
    make, fqans, account = GOOD[what]
    seen = service.ask(make(cases))
    assert (seen["refused"], seen["dn"]) == (None, f"{BASE}/CN=Alice")
    assert tuple(seen["fqans"]) == fqans
    assert seen["account"] == account or (account == "pil" and seen["account"] == "pil000")
    assert seen["grant"]["match"] == (PILOT[0] if PILOT[0] in fqans else "*")


@pytest.mark.parametrize("what", BAD)
def test_refused(place: tuple[Cases, Service], what: str) -> None:
    cases, service = place
    make, reason = BAD[what]
    seen = service.ask(make(cases))
    assert reason in seen["refused"]
    assert (seen["fqans"], seen["account"]) == ([], None)


class Asked:
    """A verifier in an event loop of the test's own, and the chain of a good VOMS proxy."""

    def __init__(self, cases: Cases) -> None:
        self.chain = cases.grid.chain(cases.voms())
        self.verifier = Verifier(str(cases.grid.vomsdir), str(cases.grid.certificates))

    @property
    def pid(self) -> int:
        assert self.verifier._process
        return self.verifier._process.pid

    async def answer(self) -> tuple[str, ...]:
        return (await self.verifier.ask(self.chain)).fqans


@pytest.fixture
def asked(place: tuple[Cases, Service]) -> Asked:
    return Asked(place[0])


def run(asked: Asked, scene: Coroutine[None, None, None]) -> None:
    async def whole() -> None:
        await scene
        pid = asked.pid if asked.verifier._process else 0
        await asked.verifier.end()
        assert not pid or not Path(f"/proc/{pid}").exists()

    asyncio.run(whole())


@needs_root
def test_the_process_is_nobodys_and_may_little(asked: Asked) -> None:
    async def scene() -> None:
        await asked.answer()
        status = Path(f"/proc/{asked.pid}/status").read_text()
        assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}" in status
        assert f"Gid:\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}\t{NOBODY.pw_gid}" in status
        assert "Groups:\t \n" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        limits = Path(f"/proc/{asked.pid}/limits").read_text()
        assert re.search(r"Max processes +0 +0", limits)
        assert re.search(r"Max file size +0 +0", limits)

    run(asked, scene())


def test_killed_between_two_questions(asked: Asked) -> None:
    async def scene() -> None:
        assert await asked.answer() == PILOT
        before = asked.pid
        os.kill(before, signal.SIGKILL)
        assert await asked.answer() == PILOT
        assert asked.pid != before

    run(asked, scene())


def test_killed_while_it_is_asked(asked: Asked) -> None:
    async def scene() -> None:
        await asked.answer()
        os.kill(asked.pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(asked.answer())
        await asyncio.sleep(0.05)
        os.kill(asked.pid, signal.SIGKILL)
        assert await waiting == PILOT

    run(asked, scene())


def test_hanging(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        await asked.answer()
        hanging = asked.pid
        monkeypatch.setattr(voms_client, "_PATIENCE", 0.2)
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(UnknownError, match="try again later"):
            await asked.answer()
        assert not Path(f"/proc/{hanging}").exists()
        monkeypatch.undo()
        assert await asked.answer() == PILOT

    run(asked, scene())


def test_who_gives_up_leaves_no_answer_behind(asked: Asked) -> None:
    async def scene() -> None:
        await asked.answer()
        waiting = asyncio.ensure_future(asked.answer())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(RejectedError, match="no attribute certificate"):
            await asked.verifier.ask(asked.chain[1:])

    run(asked, scene())


def test_a_refusal_that_quotes_very_much(asked: Asked, place: tuple[Cases, Service]) -> None:
    """The one who asks would take the process for broken, and start another for everybody."""

    async def scene() -> None:
        await asked.answer()
        before = asked.pid
        chain = place[0].grid.chain(place[0].changed(uri=30_000 * "\1"))
        with pytest.raises(RejectedError, match="not of the form"):
            await asked.verifier.ask(chain)
        assert asked.pid == before

    run(asked, scene())


def test_the_library_is_away(asked: Asked) -> None:
    async def scene() -> None:
        asked.verifier._argv[0] = "/bin/false"
        with pytest.raises(UnknownError, match="try again later"):
            await asked.answer()

    run(asked, scene())


def test_too_much_to_ask(asked: Asked) -> None:
    async def scene() -> None:
        with pytest.raises(RejectedError, match="1048576"):
            await asked.verifier.ask([bytes(voms_process.LONGEST)])

    run(asked, scene())
