"""Media types and versions, as clients ask for them."""

import pytest

from occi_bridge.occi import negotiate
from occi_bridge.occi.messages import OcciError
from occi_bridge.occi.negotiate import COLLECTION, INSTANCE, JSON, OCCI, PLAIN, URIS


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, PLAIN),
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/*", PLAIN),
        ("text/occi", OCCI),
        ("TEXT/OCCI", OCCI),
        ("application/occi+json", JSON),
        ("application/*", JSON),
        ("text/uri-list", URIS),
        ("text/plain;charset=utf-8", PLAIN),
        ("text/occi, text/plain", OCCI),
        ("text/occi;q=0.5, text/plain;q=0.9", PLAIN),
        ("application/occi+json, text/plain;q=0.8, text/occi;q=0.2", JSON),
        ("text/html, */*;q=0.1", PLAIN),
        ("*/*, application/occi+json", JSON),
        ("text/plain;q=0, */*", OCCI),
        ("text/*;q=0.3, text/uri-list;q=0.2", PLAIN),
        ("nonsense, text/occi", OCCI),
        ("text/plain;q=zero, text/occi;q=0.1", OCCI),
    ],
)
def test_the_best_offer_is_chosen(header: str | None, chosen: str) -> None:
    assert negotiate.accepted(header, COLLECTION) == chosen


@pytest.mark.parametrize(
    ("header", "offers"),
    [
        ("text/html", COLLECTION),
        ("text/uri-list", INSTANCE),
        ("*/*;q=0", COLLECTION),
        ("application/json", INSTANCE),
    ],
)
def test_what_nobody_offers_is_not_acceptable(header: str, offers: tuple[str, ...]) -> None:
    with pytest.raises(OcciError, match=r"there is only text/plain") as caught:
        negotiate.accepted(header, offers)
    assert caught.value.status == 406


@pytest.mark.parametrize(
    ("header", "media"),
    [
        ("text/plain", PLAIN),
        ("text/plain,text/occi", PLAIN),
        ("application/xml, text/occi", OCCI),
        ("Text/Plain; charset=UTF-8", PLAIN),
        ("application/occi+json;charset=utf-8", JSON),
        ("application/json", ""),
        ("", ""),
    ],
)
def test_content_type(header: str, media: str) -> None:
    assert negotiate.content_type(header) == media


def refusal(agent: str) -> OcciError | None:
    try:
        negotiate.check_agent(agent)
    except OcciError as error:
        return error
    return None


@pytest.mark.parametrize(
    "agent",
    [
        "curl/7.88.1",
        "OCCI/1.1",
        "rOCCI-client/4.3.10 OCCI/1.1 (linux)",
        "rOCCI/4.3",
        "x OCCI/1.1 OCCI/2.0",
        "x OCCI/1.2",
        "x OCCI/1",
    ],
)
def test_agents_that_can_be_served(agent: str) -> None:
    assert refusal(agent) is None


@pytest.mark.parametrize("agent", ["OCCI/2.0", "x/1 OCCI/1.3", "x OCCI/10.0 (y)"])
def test_agents_of_a_later_occi(agent: str) -> None:
    refused = refusal(agent)
    assert refused
    assert refused.status == 501
    assert "not spoken here, but OCCI/1.2" in str(refused)
