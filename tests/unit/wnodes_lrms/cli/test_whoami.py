"""`wnodes whoami` against a service on TLS."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contrib.site.box.ca import proxy
from occi_bridge.service.quota import Amount
from tests.unit import ca
from tests.unit.ca import BASE, Grid, Service
from wnodes_lrms.cli import app
from wnodes_lrms.cli.credentials import certificate
from wnodes_lrms.errors import WnodesError


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
        (["--proxy", "proxy.pem", "--url", "nowhere"], "nowhere: "),
    ],
)
def test_what_goes_wrong_is_one_line(service: Service, options: list[str], reason: str) -> None:
    code, said = whoami(service, *options)
    assert code == 1
    assert reason in said
    assert "\n" not in said


def test_something_else_answers(service: Service) -> None:
    url = f"https://localhost:{service.port}/elsewhere"
    assert whoami(service, "--proxy", "proxy.pem", "--url", url) == (
        1,
        f"{url} is not a wnodes-bridge: it answers 404",
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
    monkeypatch.setattr("os.getuid", lambda: 987654)
    globus = tmp_path / ".globus"
    expected = (globus / "usercert.pem", globus / "userkey.pem")
    assert certificate(None, None, None, {}) == expected
