"""What the service is shown once a credential has ended: renewed elsewhere, or by oidc-agent."""

import os
import time
from pathlib import Path

import pytest

from contrib.site.box.ca import proxy
from tests.unit import ca
from tests.unit.ca import Grid
from tests.unit.wnodes_lrms.cli.cloud.test_standing import token
from wnodes_lrms.cli.cloud.connection import Connection
from wnodes_lrms.errors import RejectedError

pytestmark = pytest.mark.integration

common = ca.common
URL = "https://bridge.example.org:11443"


class Host:
    """A user's host, where `login` has remembered an account of oidc-agent's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.place = folder / f"bt_u{os.geteuid()}"
        self.asked = folder / "asked"
        environment = {
            **dict.fromkeys(("BEARER_TOKEN", "BEARER_TOKEN_FILE", "WNODES_URL"), ""),
            "PATH": f"{folder}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_RUNTIME_DIR": str(folder),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        self.remember(f'url = "{URL}"\noidc = "egi"\naudience = "{URL}"\n')

    def remember(self, text: str) -> None:
        """Have the user's file say this."""
        file = self.folder / "config" / "wnodes" / "cloud.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o600)

    def agent(self, gives: str) -> None:
        """Have oidc-agent, which gives this."""
        program = self.folder / "oidc-token"
        program.write_text(f'#!/bin/sh\necho "$*" >>{self.asked}\n{gives}\n')
        program.chmod(0o755)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def good(seconds: float = 3600) -> str:
    return token({"exp": time.time() + seconds})


def test_oidc_agent_gives_a_new_one(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = good()
    host.place.write_text(good(-5))
    host.agent(f"echo {fresh}")
    found = Connection().renewed()
    assert found
    assert found.token == host.place.read_text().strip() == fresh
    assert host.asked.read_text() == f"--time=300 --aud {URL} egi\n"
    said = f"the token had expired: a new one of «egi» is in {host.place}\n"
    assert capsys.readouterr().err == said


def test_a_new_one_for_a_service_alone_is_got_for_no_other(host: Host) -> None:
    host.place.write_text(good(-5))
    host.agent(f"echo {good()}")
    assert Connection("https://other.example.org:11443").renewed()
    assert host.asked.read_text() == "--time=300 egi\n"


@pytest.mark.parametrize("claim", [URL, [URL]])
def test_a_token_for_a_service_alone_is_shown_to_no_other(host: Host, claim: object) -> None:
    other = Connection("https://other.example.org:11443")
    host.place.write_text(token({"exp": time.time() + 3600, "aud": claim}))
    for ask in (other.service, lambda: other.hurried(1)):
        with pytest.raises(RejectedError, match=f"for {URL} alone, and this is {other.url}: get"):
            ask()
    Connection().service().close()
    Connection(f"{URL}/").service().close()
    host.place.write_text(token({"exp": time.time() + 3600, "aud": [URL, other.url]}))
    other.service().close()
    host.place.write_text("a.b.c")
    other.service().close()


def test_what_was_renewed_elsewhere_is_taken_as_it_is(host: Host) -> None:
    fresh = good()
    host.place.write_text(fresh)
    host.agent("exit 1")
    found = Connection().renewed()
    assert found
    assert found.token == fresh
    assert not host.asked.exists()


def test_what_nobody_can_renew(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.place.write_text(good(-5))
    host.agent(f"echo {good(-1)}")
    assert Connection().renewed() is None  # it is over as well
    host.asked.unlink()
    monkeypatch.setenv("BEARER_TOKEN", good(-5))  # another program's, which comes first
    assert Connection().renewed() is None
    monkeypatch.setenv("BEARER_TOKEN", "")
    host.remember(f'url = "{URL}"\nvoms = "testvo"\n')
    assert Connection().renewed() is None
    assert not host.asked.exists()


def test_why_there_is_none_is_told(host: Host) -> None:
    host.place.write_text(good(-5))
    host.agent("echo 'Error: did not receive any response' >&2; exit 1")
    with pytest.raises(RejectedError, match="oidc-agent is not running"):
        Connection().renewed()
    assert host.asked.read_text().count("\n") == 1


def test_a_proxy_that_was_renewed_is_taken(host: Host, common: Grid) -> None:
    old, fresh = host.folder / "old.pem", host.folder / "new.pem"
    proxy(common.alice, key=common.key, life=(-7200, -3600)).write_bundle(old)
    assert Connection(proxy=old).renewed() is None
    proxy(common.alice, key=common.key).write_bundle(fresh)
    old.write_bytes(fresh.read_bytes())
    found = Connection(proxy=old).renewed()
    assert found
    assert found.files == (old, old)
