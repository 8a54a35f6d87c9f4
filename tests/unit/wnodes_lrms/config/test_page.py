"""`[bridge.page]`, and what issuers need for it."""

from typing import Any

import pytest
from pydantic import ValidationError

from wnodes_lrms.config.load import Issuer, Page

URL = "https://vms.example.org:11444"
ISSUER = {
    "url": "https://issuer.example.org/",
    "audiences": ("https://bridge.example.org:11443",),
    "profile": "wlcg",
    "vos": ("atlas",),
}
CLIENT = {"client_id": "bridge", "client_secret": "/etc/wnodes/secret"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"url": "https://vms.example.org"},
        {"certificate_login": "https://vms.example.org:11443"},
        {"certificate": "/etc/a.pem", "key": "/etc/a.key"},
    ],
)
def test_a_page(changes: dict[str, str]) -> None:
    assert Page.model_validate({"url": URL, **changes}).listen == "0.0.0.0:11444"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "http://vms.example.org"}, "url"),
        ({"url": "https://vms.example.org/"}, "url"),
        ({"url": "https://VMS.example.org"}, "url"),
        ({"url": "https://user@vms.example.org"}, "url"),
        ({"url": "https://vms.example.org:0"}, "url"),
        ({"url": "https://vms.example.org\n"}, "url"),
        ({"certificate_login": "https://bridge.example.org/x"}, "certificate_login"),
        ({"certificate_login": URL}, "another port"),
        ({"certificate": "/etc/a.pem"}, "both are needed"),
        ({"key": "/etc/a.key"}, "both are needed"),
        ({"key": "a.key", "certificate": "/etc/a.pem"}, "key"),
    ],
)
def test_no_page(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Page.model_validate({"url": URL, **changes})


def test_an_issuer_at_which_users_log_in() -> None:
    issuer = Issuer.model_validate({**ISSUER, **CLIENT, "login": "ATLAS", "scopes": ("a", "b:c")})
    assert issuer.login == "ATLAS"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"login": "ATLAS"}, "client_id, client_secret"),
        ({"login": "ATLAS", "client_id": "bridge"}, "client_id, client_secret"),
        (CLIENT, "client_id, client_secret"),
        ({"scopes": ("a",)}, "are for `login`"),
        ({"login": "ATLAS", **CLIENT, "scopes": ("a b",)}, "scopes"),
        ({"login": "ATLAS", **CLIENT, "profile": "scitokens"}, "know no users"),
        ({"login": "x" * 41, **CLIENT}, "login"),
    ],
)
def test_no_login(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Issuer.model_validate({**ISSUER, **changes})
