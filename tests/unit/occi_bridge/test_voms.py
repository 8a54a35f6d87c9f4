"""VOMS attributes, made by the real voms-proxy-fake and judged in the verifier's own process."""

import asyncio
import functools
import os
import re
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ObjectIdentifier

from contrib.site.box.ca import Credential, proxy, voms_proxy, write_lsc
from occi_bridge import attributes, verifier
from occi_bridge.attributes import Attributes, Verifier
from tests.unit import ca
from tests.unit.ca import BASE, VO, Grid, Service, read_bundle
from tests.unit.conftest import NOBODY, needs_root
from wnodes_lrms.errors import RejectedError, UnknownError

pytestmark = pytest.mark.integration

DAY = 86400.0
PILOT = (f"/{VO}/Role=pilot", f"/{VO}")
ATTRIBUTES = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
Make = Callable[["Cases"], Credential]


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
        grid.authority.revoke(self.revoked)
        grid.authority.install(grid.certificates)
        grid.map(f'"{BASE}/CN=Alice" alice', f'"{BASE}/CN=Bob" bob')
        (grid.folder / "voms-mapfile").write_text(f'"{PILOT[0]}" .pil\n"/{VO}/*" member\n')
        for number in range(3):
            (grid.folder / "gridmapdir" / f"pil00{number}").touch()

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
        plain = proxy(user, key=self.grid.key)
        own = plain.certificate
        builder = x509.CertificateBuilder(
            own.issuer,
            own.subject,
            own.public_key(),
            9,
            own.not_valid_before_utc,
            own.not_valid_after_utc,
        )
        for extension in own.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        data = x509.UnrecognizedExtension(ATTRIBUTES, changed(of.value))
        signed = builder.add_extension(data, False).sign(user.key, hashes.SHA256())
        return Credential(signed, plain.key, plain.issuers)

    def tampered(self, old: bytes, new: bytes) -> Credential:
        def change(data: bytes) -> bytes:
            assert old in data
            return data.replace(old, new)

        return self.with_attributes(self.grid.alice, change)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Cases, Service]]:
    with ca.shared_folder() as folder:
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
    "none: his own account": (lambda c: proxy(c.grid.alice, key=c.grid.key), (), "alice"),
}

BAD: dict[str, tuple[Make, str]] = {
    "an FQAN changed": (
        lambda c: c.tampered(b"/testvo/Role=pilot", b"/testvo/Role=admin"),
        "signature",
    ),
    "made for another": (
        lambda c: c.with_attributes(c.bob, lambda data: data),
        "different certificate",
    ),
    "cut off": (lambda c: c.with_attributes(c.grid.alice, lambda data: data[:-40]), "not present"),
    "no structure at all": (
        lambda c: c.with_attributes(c.grid.alice, lambda _: b"\0\xff"),
        "not present",
    ),
    "expired": (lambda c: c.voms("-pastac", "20:00", "-vomslife", "1"), "not valid anymore"),
    "of an unknown server": (lambda c: c.voms(server=c.unknown), "signature"),
    "of a revoked server": (lambda c: c.voms(server=c.revoked), "signature"),
    "of an expired server": (lambda c: c.voms(server=c.expired), "signature"),
    "of a server that speaks for another VO": (lambda c: c.voms(server=c.other), "signature"),
    "signed by the user himself": (lambda c: c.voms(server=c.grid.alice), "signature"),
    "an FQAN of another VO": (lambda c: c.voms(fqans=(*PILOT, "/othervo/Role=x")), "malformed"),
    "an FQAN of a longer VO": (lambda c: c.voms(fqans=("/testvoice",)), "malformed"),
    "an FQAN that is a pattern": (lambda c: c.voms(fqans=(f"/{VO}/*",)), "not of the form"),
    "a limited proxy": (lambda c: c.voms("-limited"), "limited"),
    "below a limited proxy": (
        lambda c: proxy(c.voms("-limited"), key=c.grid.key),
        "limited",
    ),
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
        monkeypatch.setattr(attributes, "_PATIENCE", 0.2)
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
        plain = await asked.verifier.ask(asked.chain[1:])
        assert plain == Attributes((), float("inf"))

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
            await asked.verifier.ask([bytes(verifier.LONGEST)])

    run(asked, scene())
