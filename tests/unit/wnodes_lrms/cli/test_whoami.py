"""`wnodes whoami` against a service on TLS."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from contrib.site.box.ca import proxy
from occi_bridge.service.quota import Amount
from occi_bridge.store.links import Made
from tests.unit import ca, issuers
from tests.unit.ca import BASE, VO, Grid, Service
from tests.unit.issuers import LocalIssuer
from tests.unit.wnodes_lrms.cli.cloud.test_standing import token
from wnodes_lrms.cli import app
from wnodes_lrms.cli.credentials import certificate
from wnodes_lrms.errors import RejectedError, WnodesError

grid, issuer = ca.grid, issuers.issuer


class Links(dict[str, str]):
    """Links in memory."""

    def __call__(self) -> dict[str, str]:
        return dict(self)

    def make(self, subject: str, dn: str) -> None:
        self[subject] = dn

    def remove(self, subject: str) -> bool:
        return self.pop(subject, None) is not None

    def of(self, owner: str) -> list[Made]:
        return [Made(subject, dn, 1e9) for subject, dn in self.items() if dn == owner]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with ca.shared_folder() as folder:
        grid = Grid(folder)
        grid.map(f'"{BASE}/CN=Alice" alice')
        grid.alice.write(folder / "usercert.pem", folder / "userkey.pem")
        proxy(grid.alice, key=grid.key).write_bundle(folder / "proxy.pem")
        proxy(grid.user("Bob"), key=grid.key).write_bundle(folder / "bob.pem")
        old = proxy(grid.alice, key=grid.key, life=(-7200, -3600))
        old.write_bundle(folder / "old.pem")
        with ca.service(grid, Amount(machines=1, memory=512)) as service:
            yield service


def whoami(service: Service, *options: str, **environment: str) -> tuple[int, str]:
    folder = service.grid.folder
    usual = {"WNODES_URL": f"https://localhost:{service.port}", "X509_USER_PROXY": ""}
    usual |= {"X509_CERT_DIR": str(service.grid.certificates)}
    usual |= dict.fromkeys(("BEARER_TOKEN", "BEARER_TOKEN_FILE", "XDG_RUNTIME_DIR"), "")
    words = [str(folder / word) if word.endswith(".pem") else word for word in options]
    done = CliRunner().invoke(app, ["whoami", *words], env={**usual, **environment})
    if isinstance(done.exception, WnodesError):
        return 1, str(done.exception).replace(str(folder), "…")
    return done.exit_code, done.output


def test_a_user(service: Service) -> None:
    code, said = whoami(service, "--proxy", "proxy.pem")
    rows = dict(line.split(maxsplit=1) for line in said.splitlines() if len(line.split()) > 1)
    assert code == 0
    assert (rows["name"].strip(), rows["account"].strip()) == (f"{BASE}/CN=Alice", "alice")
    assert rows["memory"].strip() == "512 of 40960 MiB"


def test_as_json_by_certificate(service: Service) -> None:
    code, said = whoami(service, "--json", "--cert", "usercert.pem", "--key", "userkey.pem")
    seen = json.loads(said)
    assert (code, seen["dn"], seen["fqans"], seen["refused"]) == (0, f"{BASE}/CN=Alice", [], None)
    assert seen["quota"]["cores"] == {"allowed": 20, "used": 0}


def test_who_is_refused_hears_why(service: Service) -> None:
    code, said = whoami(service, "--json", "--proxy", "bob.pem")
    seen = json.loads(said[: said.rindex("}") + 1])
    assert (code, seen["dn"], seen["account"]) == (1, f"{BASE}/CN=Bob", None)
    assert "no local account" in seen["refused"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--proxy", "old.pem"], "alert certificate expired"),
        (["--proxy", "none.pem"], "…/none.pem can't be used: No such file or directory"),
        (["--cert", "usercert.pem", "--key", "proxy.pem"], "can't be used: [X509: KEY_VALUES"),
        (["--proxy", "proxy.pem", "--url", "https://localhost:1"], "Connection refused"),
        (["--proxy", "proxy.pem", "--url", "nowhere"], "«nowhere» is not a service's URL"),
        (["--proxy", "proxy.pem", "--url", "http://localhost:1"], "is not a service's URL"),
    ],
)
def test_what_goes_wrong_is_one_line(service: Service, options: list[str], reason: str) -> None:
    code, said = whoami(service, *options)
    assert code == 1
    assert reason in said
    assert "\n" not in said


@pytest.mark.parametrize("options", [(), ("--unlink",), ("--link", "--yes")])
def test_a_token_for_another_service_alone_is_not_shown(
    service: Service, tmp_path: Path, options: tuple[str, ...]
) -> None:
    other, file = "https://other.example.org", tmp_path / "wnodes" / "cloud.toml"
    file.parent.mkdir()
    file.write_text(f'url = "{other}"\noidc = "egi"\naudience = "{other}"\n')
    given = {"BEARER_TOKEN": token({"aud": other}), "XDG_CONFIG_HOME": str(tmp_path)}
    code, said = whoami(service, *options, **given)
    assert (code, said.startswith(f"the token is for {other} alone, and this is")) == (1, True)


def rows(said: str) -> dict[str, str]:
    return {
        line[: said.index("VALUE")].strip(): line[said.index("VALUE") :].strip()
        for line in said.splitlines()
    }


def test_a_token_and_then_a_link(grid: Grid, issuer: LocalIssuer) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice')
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')
    grid.alice.write(grid.folder / "usercert.pem", grid.folder / "userkey.pem")
    token = grid.folder / "token"
    token.write_bytes(issuer.token() + b"\n")
    links = Links()
    with ca.service(grid, bridge=issuer.bridge(), links=links) as service:
        code, said = whoami(service, BEARER_TOKEN_FILE=str(token))
        seen = rows(said)
        assert (code, seen["name"], seen["known by"]) == (0, issuer.subject, "token")
        assert (seen["attributes"], seen["account"]) == (f"/{VO}", "member")
        assert whoami(service, "--link", "--cert", "usercert.pem")[1].startswith("--link needs")
        both = (
            "--link",
            "--yes",
            "--cert",
            "usercert.pem",
            "--key",
            "userkey.pem",
            "--token",
            str(token),
        )
        code, said = whoami(service, *both)
        seen = rows(said)
        assert (code, seen["linked to"]) == (0, f"{BASE}/CN=Alice")
        assert seen["linked"].startswith(f"{issuer.subject} to {BASE}/CN=Alice, 2001-09-09T")
        assert seen["not counted"] == f"the certificate of {BASE}/CN=Alice"
        token.write_bytes(issuer.token(scope="compute.read"))
        code, said = whoami(service, BEARER_TOKEN_FILE=str(token))
        assert rows(said)["limited to"] == "compute.read"
        token.write_bytes(issuer.token(exp=1))
        code, said = whoami(service, "--json", BEARER_TOKEN_FILE=str(token))
        assert (code, "the token expired at" in said) == (1, True)
    assert links == {issuer.subject: f"{BASE}/CN=Alice"}


def test_a_link_is_undone_by_the_token_alone(grid: Grid, issuer: LocalIssuer) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice')
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')
    token = grid.folder / "token"
    token.write_bytes(issuer.token())
    links = Links({issuer.subject: f"{BASE}/CN=Alice"})
    with ca.service(grid, bridge=issuer.bridge(), links=links) as service:
        for options in (["--proxy", "proxy.pem", "--token", str(token)], []):
            code, said = whoami(service, "--unlink", *options)
            assert (code, said.startswith("--unlink needs the token alone")) == (1, True)
        code, said = whoami(service, "--unlink", "--link", "--token", str(token))
        assert (code, said) == (1, "--link and --unlink can't be had together")
        assert len(links) == 1
        code, said = whoami(service, "--unlink", "--token", str(token))
        seen = rows(said)
        assert (code, seen["name"], seen["account"]) == (0, issuer.subject, "member")
        assert "linked to" not in seen
        code, said = whoami(service, "--unlink", "--token", str(token))
        assert (code, said.splitlines()[-1].endswith("is not linked")) == (1, True)
    assert links == {}


def test_a_link_is_asked_for_and_never_by_a_proxy(grid: Grid, issuer: LocalIssuer) -> None:
    grid.map(f'"{BASE}/CN=Alice" alice\n"{BASE}/CN=Mallory" mallory')
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')
    grid.alice.write(grid.folder / "usercert.pem", grid.folder / "userkey.pem")
    planted = grid.folder / "planted.pem"
    grid.user("Mallory").write_bundle(planted)
    token = grid.folder / "token"
    token.write_bytes(issuer.token())
    environment = {
        "X509_USER_PROXY": str(planted),
        "X509_USER_CERT": str(grid.folder / "usercert.pem"),
        "X509_USER_KEY": str(grid.folder / "userkey.pem"),
        "BEARER_TOKEN_FILE": str(token),
    }
    links = Links()
    with ca.service(grid, bridge=issuer.bridge(), links=links) as service:
        environment["WNODES_URL"] = f"https://localhost:{service.port}"
        environment["X509_CERT_DIR"] = str(grid.certificates)
        environment["HOME"] = str(grid.folder)
        program = Path(sys.executable).with_name("wnodes")

        def typed(word: str) -> str:
            asked = subprocess.run(
                ["script", "-qec", f"{program} whoami --link", "/dev/null"],
                input=f"{word}\n",
                env={"PATH": os.environ["PATH"], **environment},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            return asked.stdout

        said = typed("n")
        assert f"certificate: {BASE}/CN=Alice" in said
        assert f"token: {issuer.subject}" in said
        assert "nothing was linked" in said
        asked = whoami(service, "--link", **environment)
        assert (asked[0], "in a script: --yes" in asked[1]) == (1, True)
        named = whoami(service, "--link", "--yes", "--proxy", str(planted), **environment)
        assert (named[0], "and no proxy" in named[1]) == (1, True)
        assert links == {}
        assert "linked to" in typed("y")
    assert links == {issuer.subject: f"{BASE}/CN=Alice"}


def test_something_else_answers(service: Service) -> None:
    other = Service(Starlette(), service.grid)
    code, said = whoami(other, "--proxy", "proxy.pem")
    other.stop()
    assert (code, said) == (
        *(1, f"https://localhost:{other.port} is not a wnodes-bridge: it answers 404"),
    )


def test_which_credential_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    a, b, c = Path("/a"), Path("/b"), Path("/c")
    both = {"X509_USER_PROXY": "/p", "X509_USER_CERT": "/c", "X509_USER_KEY": "/k"}
    assert certificate(a, b, c, both) == (c, c)
    assert certificate(a, b, None, both) == (a, b)
    assert certificate(a, None, None, both) == (a, a)
    assert certificate(None, None, None, both) == (Path("/p"), Path("/p"))
    del both["X509_USER_PROXY"]
    assert certificate(None, None, None, both) == (Path("/c"), Path("/k"))
    monkeypatch.setattr("os.geteuid", lambda: 987654)
    globus = tmp_path / ".globus"
    expected = (globus / "usercert.pem", globus / "userkey.pem")
    assert certificate(None, None, None, {}) == expected


def test_a_proxy_that_another_has_left_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    number = 987_654_322
    monkeypatch.setattr("os.geteuid", lambda: number)
    usual = Path(f"/tmp/x509up_u{number}")
    try:
        usual.write_text("planted")
        usual.chmod(0o600)
        for environment in ({}, {"X509_USER_PROXY": str(usual)}):
            with pytest.raises(RejectedError, match="proxy is not used: it is no file of this"):
                certificate(None, None, None, environment)
        both = {"X509_USER_CERT": "/c", "X509_USER_KEY": "/k"}
        assert certificate(None, None, None, both) == (Path("/c"), Path("/k"))
    finally:
        usual.unlink()


def test_the_service_that_is_remembered(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "wnodes" / "cloud.toml"
    file.parent.mkdir()
    file.write_text(f'url = "https://localhost:{service.port}"\n')
    usual = {"WNODES_URL": "", "XDG_CONFIG_HOME": str(tmp_path)}
    code, said = whoami(service, "--json", "--proxy", "proxy.pem", **usual)
    assert (code, json.loads(said)["account"]) == (0, "alice")
    file.unlink()
    usual["WNODES_CONFIG"] = str(tmp_path / "none.toml")
    code, said = whoami(service, "--proxy", "proxy.pem", **usual)
    assert (code, said.startswith("which cloud service?")) == (1, True)
