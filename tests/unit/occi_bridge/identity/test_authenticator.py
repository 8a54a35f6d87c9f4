"""Decisions, for how long they hold, and what the log has of them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from contrib.site.box.ca import proxy, voms_proxy, write_lsc
from occi_bridge import checks
from occi_bridge.identity import authenticator as identity
from occi_bridge.identity import signing_policy
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.identity.authorization import Authorization
from occi_bridge.identity.user import DeniedError, Identity, Kind
from tests.unit import ca
from tests.unit.ca import BASE, VO, Grid, read_bundle
from wnodes_lrms.config.load import Grant
from wnodes_lrms.errors import ConfigError, RejectedError

pytestmark = pytest.mark.integration

common, grid = ca.common, ca.grid
ADDRESS = "192.0.2.7"
Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(identity, "_LOOK", 0.0)
    caplog.set_level(logging.INFO)


def within(grid: Grid, scene: Callable[[Authenticator], Awaitable[Result]]) -> Result:
    """The scene with an authenticator in an event loop of its own."""

    async def whole() -> Result:
        authenticator = Authenticator(grid.bridge)
        try:
            return await scene(authenticator)
        finally:
            await authenticator.close()

    return asyncio.run(whole())


async def refusal(authenticator: Authenticator, chain: tuple[bytes, ...]) -> str:
    with pytest.raises(DeniedError) as caught:
        await authenticator.user(chain, ADDRESS)
    return caught.value.reason


def test_a_user(grid: Grid) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice')
    user = within(grid, lambda a: a.user(grid.chain(grid.alice), ADDRESS))
    assert (user.key, user.group, user.account) == (f"{BASE}/CN=Alice", "", "alice")
    assert user.grant == grid.bridge.grant[1]


def test_statuses(grid: Grid) -> None:
    async def scene(authenticator: Authenticator) -> list[int]:
        found = []
        for chain in ((), grid.chain(grid.alice), (b"nonsense",)):
            with pytest.raises(DeniedError) as caught:
                await authenticator.user(chain, ADDRESS)
            found.append(caught.value.status)
        return found

    assert within(grid, scene) == [401, 403, 403]


def test_each_decision_is_one_line_and_once_for_an_address(
    grid: Grid, caplog: pytest.LogCaptureFixture
) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice')
    (grid.folder / "ban_users.db").write_text(f"{BASE}/CN=Bob\n")
    bob = grid.chain(grid.user("Bob"))

    async def scene(authenticator: Authenticator) -> None:
        for address in (ADDRESS, ADDRESS, "192.0.2.8"):
            await authenticator.user(grid.chain(grid.alice), address)
        for _ in range(2):
            await refusal(authenticator, bob)

    within(grid, scene)
    told = [record.getMessage() for record in caplog.records if "address=" in record.getMessage()]
    allowed = f'allowed: dn="{BASE}/CN=Alice" fqans="" address={{}} account=alice grant="*"'
    assert told[:2] == [allowed.format(ADDRESS), allowed.format("192.0.2.8")]
    assert told[2].startswith(
        f'refused: dn="{BASE}/CN=Bob" fqans="" address={ADDRESS} status=403 reason="banned'
    )
    assert len(told) == 3


def test_files_are_read_again_when_they_change(grid: Grid) -> None:
    alice = grid.chain(grid.alice)

    async def scene(authenticator: Authenticator) -> None:
        assert "no local account" in await refusal(authenticator, alice)
        grid.map(f'"{BASE}/CN=Alice" first')
        assert (await authenticator.user(alice, ADDRESS)).account == "first"
        grid.map(f'"{BASE}/CN=Alice" second')
        assert (await authenticator.user(alice, ADDRESS)).account == "second"
        (grid.folder / "ban_users.db").write_text(f'"{BASE}/CN=Alice"\n')
        assert "banned" in await refusal(authenticator, alice)
        (grid.folder / "ban_users.db").write_text("")
        assert (await authenticator.user(alice, ADDRESS)).account == "second"
        grid.authority.install(grid.certificates, subjects=["/C=DE/*"])
        assert "signing policy" in await refusal(authenticator, alice)

    within(grid, scene)


def test_a_server_that_is_no_longer_trusted(grid: Grid) -> None:
    voms_proxy(grid.alice, grid.server, VO, [f"/{VO}"], grid.folder / "voms.pem")
    chain = grid.chain(read_bundle(grid.folder / "voms.pem"))
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')

    async def scene(authenticator: Authenticator) -> None:
        assert (await authenticator.user(chain, ADDRESS)).groups == (f"/{VO}",)
        write_lsc(grid.vomsdir, VO, "voms.example", grid.host)
        assert "by its LSC file" in await refusal(authenticator, chain)
        write_lsc(grid.vomsdir, VO, "voms.example", grid.server)
        assert (await authenticator.user(chain, ADDRESS)).account == "member"

    within(grid, scene)


def test_a_verdict_needs_no_verifier_again(grid: Grid) -> None:
    voms_proxy(grid.alice, grid.server, VO, [f"/{VO}"], grid.folder / "voms.pem")
    chain = grid.chain(read_bundle(grid.folder / "voms.pem"))
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')

    async def scene(authenticator: Authenticator) -> None:
        await authenticator.user(chain, ADDRESS)
        await authenticator.close()
        for _ in range(100):
            await authenticator.user(chain, ADDRESS)
        assert authenticator._verifier._process is None
        authenticator._verifier._argv[0] = "/bin/false"
        (grid.folder / "ban_users.db").touch()
        with pytest.raises(DeniedError) as caught:
            await authenticator.user(chain, ADDRESS)
        assert caught.value.status == 503
        assert caught.value.identity
        assert caught.value.identity.subject == f"{BASE}/CN=Alice"

    within(grid, scene)


def test_a_connection_may_outlive_its_proxy(grid: Grid) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice')

    async def scene(authenticator: Authenticator) -> None:
        short = proxy(grid.alice, key=grid.key, life=(-60, 1))
        end = short.certificate.not_valid_after_utc.timestamp()
        assert (await authenticator.user(grid.chain(short), ADDRESS)).account == "alice"
        await asyncio.sleep(end - time.time() + 0.01)
        assert "expired" in await refusal(authenticator, grid.chain(short))

    within(grid, scene)


def test_a_grant_that_means_nobody(grid: Grid) -> None:
    for match in ("vo", "/vo/*/x", ""):
        bridge = grid.bridge.model_copy(update={"grant": (Grant(match=match),)})
        with pytest.raises(ConfigError, match=r"bridge\.grant: match"):
            Authenticator(bridge)


SPELLINGS = {
    "lower": "/C=IT/O=Box/CN=Ren\\xc3\\xa9",
    "upper": "/C=IT/O=Box/CN=Ren\\xC3\\xA9",
    "mixed": "/C=IT/O=Box/CN=Ren\\xC3\\xa9",
    "raw": "/C=IT/O=Box/CN=René",
    "escaped for nothing": "/C=IT/O=Box/CN=\\x52en\\xc3\\xa9",
    "RFC 2253": "CN=Ren\\C3\\A9,O=Box,C=IT",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_a_name_is_the_same_in_every_file(grid: Grid, spelling: str, begin: str) -> None:
    name = SPELLINGS[spelling]
    rene = grid.chain(grid.user("René"))
    grid.authority.install(grid.certificates, subjects=[name])
    policy = grid.certificates / f"{grid.authority.hash()}.signing_policy"
    policy.write_text(begin + policy.read_text())

    async def scene(authenticator: Authenticator) -> None:
        assert "no local account" in await refusal(authenticator, rene)
        grid.map(f'{begin}"{name}" rene')
        assert (await authenticator.user(rene, ADDRESS)).account == "rene"
        (grid.folder / "ban_users.db").write_text(f'{begin}"{name}"\n')
        assert "banned" in await refusal(authenticator, rene)
        (grid.folder / "ban_users.db").write_text(f"{begin}{name}\n")
        assert "banned" in await refusal(authenticator, rene)

    within(grid, scene)
    bridge = grid.bridge.model_copy(update={"grant": (Grant(match=name),)})
    (grid.folder / "ban_users.db").write_text("")
    known = Identity(Kind.CERTIFICATE, f"{BASE}/CN=Ren\\xC3\\xA9")
    assert Authorization(bridge).user(known, {}).account == "rene"


def test_what_can_not_be_read_is_told_at_the_start(
    grid: Grid, caplog: pytest.LogCaptureFixture
) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice', f'"{BASE}/CN=\\xC3" x')
    (grid.folder / "ban_users.db").write_text(f'# all\n"{BASE}/CN=Ren\\xE9"\n')
    grid.authority.install(grid.certificates, subjects=[f"{BASE}/CN=\\xC3"])
    policy = grid.certificates / f"{grid.authority.hash()}.signing_policy"

    async def scene(authenticator: Authenticator) -> None:
        for place in (f"{grid.folder}/grid-mapfile:2: ", f"{grid.folder}/ban_users.db:2: "):
            assert place in caplog.text
        assert f"{policy}: line 3: a name with bytes that are no UTF-8" in caplog.text
        found = " ".join(check.seen for check in checks._lines(grid.bridge))
        assert [found.count(name) for name in ("mapfile:2", "users.db:2", "line 3")] == [1, 1, 1]
        assert "signing policy" in await refusal(authenticator, grid.chain(grid.alice))
        grid.authority.install(grid.certificates, subjects=[f"{BASE}/*"])
        assert "nobody may enter" in await refusal(authenticator, grid.chain(grid.alice))

    within(grid, scene)


POLICY = """# of the site
access_id_CA   X509    '/C=IT/O=Box/Email=ca@box/CN=Box CA'
pos_rights     globus  CA:sign
cond_subjects  globus  '"/C=IT/O=Box/*" "/C=IT/O=B?x+x"'

access_id_CA   X509    "/C=DE/CN=Other"
pos_rights     globus  CA:sign
cond_subjects  globus  '/C=DE/*'
access_id_CA   X509    /C=FR/CN=None
cond_subjects  globus  '"/*"'
"""


def test_a_signing_policy() -> None:
    policy = signing_policy.parse(POLICY)

    def may(ca_name: str, name: str) -> bool:
        return any(pattern.fullmatch(name) for pattern in policy[ca_name])

    box = "/C=IT/O=Box/emailAddress=ca@box/CN=Box CA"
    assert set(policy) == {box, "/C=DE/CN=Other", "/C=FR/CN=None"}
    assert [may(box, name) for name in ("/C=IT/O=Box/CN=x", "/C=IT/O=Box", "/C=IT/O=Bax+x")] == [
        True,
        False,
        True,
    ]
    assert may("/C=DE/CN=Other", "/C=DE/CN=x")
    assert not may("/C=FR/CN=None", "/C=FR/CN=x")  # it has no right to sign


@pytest.mark.parametrize(
    "text", ["access_id_CA", "pos_rights globus CA:sign", "access_id_CA X509 'x", "\0"]
)
def test_a_broken_signing_policy(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        signing_policy.parse(text)


def test_a_folder_of_policies_that_is_gone(tmp_path: Path) -> None:
    policies = signing_policy.SigningPolicies(str(tmp_path / "no"))
    policies.renew()
    try:
        policies.require(b"ca", "/CN=CA", "/CN=x")
    except RejectedError as error:
        pytest.fail(f"refused, but there is no policy: {error}")


def test_the_first_to_come_wait_for_the_files(grid: Grid) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice')
    grid.authority.install(grid.certificates, subjects=["/C=DE/*"])

    async def scene(authenticator: Authenticator) -> list[str]:
        chain = grid.chain(grid.alice)
        return await asyncio.gather(*(refusal(authenticator, chain) for _ in range(5)))

    assert all("signing policy" in reason for reason in within(grid, scene))
