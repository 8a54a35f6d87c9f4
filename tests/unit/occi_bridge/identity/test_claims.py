"""Groups and capabilities of each profile; whose groups an issuer may tell."""

from typing import Any

import pytest
from pydantic import ValidationError

from occi_bridge.identity.claims import Claims, Groups, groups, identity
from occi_bridge.identity.user import ALL, Capability
from wnodes_lrms.config.load import Bridge, Issuer

URL = "https://issuer.example"
WLCG: dict[str, Any] = {"url": URL, "audiences": ["x"], "profile": "wlcg", "vos": ["vo"]}
AARC = WLCG | {"profile": "aarc", "namespace": "urn:mace:egi.eu", "vos": ["ops", "vo.access.eu"]}
SCITOKENS = WLCG | {"profile": "scitokens"}


def issuer(tables: dict[str, Any], **changes: Any) -> Issuer:
    return Issuer.model_validate(tables | changes)


def claims(**more: Any) -> Claims:
    usual = {"iss": URL, "sub": "grace", "exp": 2.0, "iat": 1.0}
    return Claims.model_validate(usual | more)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["/vo/g", "/vo"], ("/vo/g", "/vo")),
        (["/vo", "/vo"], ("/vo",)),
        (["/other", "/vo2", "/vo2/vo", "vo", "", "/", "//vo", "/vo/"], ()),
        (["/vo/Role=pilot", "/vo/Capability=x"], ()),
        (["/vo/a b", "/vo/é", "/vo/..", "/vo/*"], ()),
        (["/VO"], ()),
    ],
)
def test_wlcg_groups(told: list[str], expected: tuple[str, ...]) -> None:
    assert groups(issuer(WLCG), Groups.model_validate({"wlcg.groups": told})) == expected


@pytest.mark.parametrize(
    ("entitlement", "expected"),
    [
        ("urn:mace:egi.eu:group:ops#aai.egi.eu", "/ops"),
        ("urn:mace:egi.eu:group:ops", "/ops"),
        ("urn:mace:egi.eu:group:ops:a:b#x", "/ops/a/b"),
        ("urn:mace:egi.eu:group:ops:role=vm_operator#aai.egi.eu", "/ops/Role=vm_operator"),
        ("urn:mace:egi.eu:group:ops:team:role=member#x", "/ops/team/Role=member"),
        ("URN:Mace:EGI.eu:group:vo.access.eu#x", "/vo.access.eu"),
        ("urn:mace:egi.eu:group:%6Fps#x", "/ops"),
        ("urn:mace:egi.eu:group:other#x", None),
        ("urn:mace:egi.eu:group:ops%2FRole=vm_operator#x", None),
        ("urn:mace:egi.eu:group:ops:a%2Fb#x", None),
        ("urn:mace:egi.eu:group:ops:role=a/b#x", None),
        ("urn:mace:egi.eu:group:ops:role=#x", None),
        ("urn:mace:egi.eu:group:role=ops#x", None),
        ("urn:mace:egi.eu:group:", None),
        ("urn:mace:egi.eu:res:ops#x", None),
        ("urn:mace:egi.eu.evil:group:ops#x", None),
        ("urn:mace:other:group:ops#x", None),
        ("urn:mace:egi.eu:group:ops:role=x:more#x", None),
        ("#urn:mace:egi.eu:group:ops", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("claim", ["entitlements", "eduperson_entitlement"])
def test_entitlements(claim: str, entitlement: str, expected: str | None) -> None:
    told = Groups.model_validate({claim: [entitlement]})
    assert groups(issuer(AARC), told) == ((expected,) if expected else ())
    one = Groups.model_validate({claim: entitlement})
    assert groups(issuer(AARC), one) == groups(issuer(AARC), told)


def test_groups_are_of_the_profile_alone() -> None:
    told = Groups.model_validate(
        {"wlcg.groups": ["/ops"], "entitlements": ["urn:mace:egi.eu:group:ops"]}
    )
    assert groups(issuer(SCITOKENS, vos=["ops"]), told) == ()
    assert groups(issuer(AARC), Groups.model_validate({"wlcg.groups": ["/ops"]})) == ()
    bare = Groups.model_validate({"entitlements": ["urn:mace:egi.eu:group:vo"]})
    assert groups(issuer(WLCG), bare) == ()


@pytest.mark.parametrize(
    ("tables", "scope", "may", "member"),
    [
        (WLCG, "", ALL, ("/vo/g",)),
        (WLCG, "openid offline_access wlcg.groups", ALL, ("/vo/g",)),
        (WLCG, "compute.read", {Capability.READ}, ("/vo",)),
        (WLCG, "compute.create compute.cancel x", {"compute.create", "compute.cancel"}, ("/vo",)),
        (WLCG, "storage.read:/", set(), ("/vo",)),
        (WLCG, "compute.read:/x", set(), ("/vo",)),
        (WLCG, "compute.other", set(), ("/vo",)),
        (WLCG, "openid compute.Create", set(), ("/vo",)),
        (WLCG, "COMPUTE.CREATE", set(), ("/vo",)),
        (WLCG, "compute.create2", set(), ("/vo",)),
        (WLCG, "compute", set(), ("/vo",)),
        (WLCG, "compute: compute.read", {Capability.READ}, ("/vo",)),
        (WLCG, "storage.", set(), ("/vo",)),
        (WLCG, "computer", ALL, ("/vo/g",)),
        (AARC, "compute.Read", set(), ()),
        (WLCG, "host.auth", set(), ("/vo",)),
        (WLCG, " ".join(sorted(ALL)), ALL, ("/vo",)),
        (AARC, "openid email", ALL, ()),
        (AARC, "compute.read", {Capability.READ}, ()),
        (SCITOKENS, "compute.create", {Capability.CREATE}, ("/vo",)),
        (SCITOKENS, "read:/", set(), ("/vo",)),
        (SCITOKENS, "", set(), ("/vo",)),
    ],
)
def test_capabilities(
    tables: dict[str, Any], scope: str, may: set[Capability], member: tuple[str, ...]
) -> None:
    told = claims(scope=scope, **{"wlcg.groups": ["/vo/g"]})
    found = identity(issuer(tables), told, told)
    assert (found.subject, found.groups) == (f"{URL}#grace", member)
    assert found.may == may


@pytest.mark.parametrize("vos", [["ops"], ["ops", "vo.access.eu"]])
@pytest.mark.parametrize("scope", ["openid", "compute.read", " ".join(sorted(ALL))])
def test_scopes_make_nobody_a_member_where_an_issuer_knows_others(
    vos: list[str], scope: str
) -> None:
    configured = issuer(AARC, vos=vos)
    assert identity(configured, claims(scope=scope), Groups()).groups == ()
    told = Groups(entitlements=("urn:mace:egi.eu:group:ops:role=admin#x",))
    assert identity(configured, claims(scope=scope), told).groups == ("/ops/Role=admin",)


def test_groups_that_scopes_pass_over_are_still_known() -> None:
    told = claims(scope="compute.read", **{"wlcg.groups": ["/vo", "/vo/bad"]})
    found = identity(issuer(WLCG), told, told)
    assert (found.groups, found.passed_over) == (("/vo",), ("/vo", "/vo/bad"))


@pytest.mark.parametrize(
    ("tables", "changes", "said"),
    [
        (WLCG, {"url": "http://issuer.example"}, "url"),
        (WLCG, {"url": "https://issuer.example/#x"}, "url"),
        (WLCG, {"url": "https://u@issuer.example"}, "url"),
        (WLCG, {"url": "https://issuer.example/a/../b"}, "url"),
        (WLCG, {"audiences": []}, "audiences"),
        (WLCG, {"audiences": ["*"]}, "is for the profile aarc"),
        (AARC, {"audiences": ["*", "x"]}, "is for the profile aarc"),
        (WLCG, {"vos": ["a", "b"]}, "is one VO's"),
        (WLCG, {"vos": []}, "vos"),
        (WLCG, {"vos": ["a/b"]}, "vos"),
        (WLCG, {"namespace": "urn:x"}, "namespace"),
        (AARC, {"namespace": ""}, "namespace"),
        (AARC, {"namespace": "urn:x:group:y"}, "before :group:"),
        (WLCG, {"algorithms": ["none"]}, "algorithms"),
        (WLCG, {"algorithms": ["HS256"]}, "algorithms"),
        (WLCG, {"algorithms": []}, "algorithms"),
        (WLCG, {"hosts": ["https://x"]}, "hosts"),
        (WLCG, {"groups_from": "introspection"}, "client_id, client_secret"),
        (WLCG, {"client_id": "x", "client_secret": "/x"}, "client_id, client_secret"),
    ],
)
def test_issuers_that_are_not_configured_right(
    tables: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        issuer(tables, **changes)


def test_an_issuer_is_there_once() -> None:
    with pytest.raises(ValidationError, match="more than once"):
        Bridge.model_validate({"baits": ["https://x"], "issuer": [WLCG, AARC]})
