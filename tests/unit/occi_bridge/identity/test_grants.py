"""Which pattern means which user."""

import pytest

from occi_bridge.identity import fqans
from occi_bridge.identity import grants as policy
from wnodes_lrms.config.load import Grant

ANN = "/C=IT/O=Box/CN=Ann"


@pytest.mark.parametrize(
    ("pattern", "fqans", "expected"),
    [
        ("*", (), True),
        (ANN, (), True),
        (f"{ANN}e", (), False),
        ("/C=IT/O=Box", (), False),
        ("/C=IT/O=Box/*", (), False),  # in grants DNs are whole
        ("/vo", ("/vo",), True),
        ("/vo", ("/vo/Role=pilot",), False),
        ("/vo", ("/vo/prod",), False),
        ("/vo/prod", ("/vo/production",), False),
        ("/vo/prod", ("/vo", "/vo/prod"), True),
        ("/vo/*", ("/vo",), True),
        ("/vo/*", ("/vo/prod/sub/Role=x",), True),
        ("/vo/*", ("/vo/Role=x",), True),
        ("/vo/*", ("/vo2",), False),
        ("/vo/prod/*", ("/vo/production",), False),
        ("/vo/prod/*", ("/vo",), False),
        ("/vo/Role=pilot/Capability=NULL", ("/vo/Role=pilot",), True),
        ("/vo/Role=NULL", ("/vo",), True),
        ("/vo/Role=NULL", ("/vo/Role=pilot",), False),
        ("/vo/*", (), False),
        ("/Vo", ("/vo",), False),
    ],
)
def test_fits(pattern: str, fqans: tuple[str, ...], expected: bool) -> None:
    assert policy.fits(policy.pattern(pattern), ANN, fqans) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "vo",
        "/",
        "/vo/",
        "//vo",
        "/vo*",
        "/vo/*/Role=x",
        "/*",
        "/vo/Role=",
        "/vo/Role=a/b",
        "/ü",
        "https://issuer.example#*",
        "https://issuer.example#eve*",
        "https://*#eve",
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="«"):
        policy.pattern(pattern)


def test_the_first_grant_holds() -> None:
    grants = [Grant(match="/vo/Role=pilot", cores=1), Grant(match=ANN, cores=2)]
    assert policy.granted(grants, [ANN], ("/vo", "/vo/Role=pilot")) == grants[0]
    assert policy.granted(grants, ["https://issuer.example#ann", ANN], ()) == grants[1]
    assert policy.granted(grants, ["/CN=x"], ("/vo",)) is None
    assert policy.granted([], [ANN], ()) is None


def test_fqans_of_a_vo() -> None:
    said = ["/vo/Role=a/Capability=NULL", "/vo/Role=NULL/Capability=NULL", "/vo", "/vo/g"]
    assert fqans.of_vo(fqans.vo("vo"), said) == ("/vo/Role=a", "/vo", "/vo/g")
    for other in ("/other", "/vo2", "/vo2/g", "/voRole=x"):
        with pytest.raises(ValueError, match=r"not of the (VO|form)"):
            fqans.of_vo(fqans.vo("vo"), ["/vo", other])
