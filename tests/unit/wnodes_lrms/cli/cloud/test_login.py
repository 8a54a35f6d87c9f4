"""Logging in and out: by voms-clients as they are, and by programs in the place of oidc-agent's.

A VOMS server needs a database of its own, so where one is asked, real voms-proxy-fake makes what it
would have answered.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit import ca
from tests.unit.ca import VO, Grid
from tests.unit.wnodes_lrms.cli.cloud.test_standing import token
from wnodes_lrms.cli import app
from wnodes_lrms.errors import WnodesError

pytestmark = pytest.mark.integration

common = ca.common
URL = "https://localhost:1"  # nobody is there
VOMS_SERVER = r"""#!/bin/sh
# In the place of voms-proxy-init, where a VOMS server answers.
set -- $(echo "$@" | sed 's/-voms \([^: ]*\):[^ ]*/-voms \1/')
exec voms-proxy-fake -quiet -hours 12 -hostcert {0}/server.pem -hostkey {0}/serverkey.pem \
    -uri voms.example:15000 -certdir {0} -fqan /testvo/Role=pilot -fqan /testvo "$@"
"""


class Host:
    """A user's host."""

    def __init__(self, folder: Path, grid: Grid) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        grid.alice.write(folder / "usercert.pem", folder / "userkey.pem")
        grid.server.write(folder / "server.pem", folder / "serverkey.pem")
        self.proxy, self.token = folder / "proxy.pem", folder / f"bt_u{os.getuid()}"
        self.environment = {
            **dict.fromkeys(("BEARER_TOKEN", "BEARER_TOKEN_FILE", "WNODES_URL"), ""),
            "HOME": str(folder),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "WNODES_CONFIG": str(folder / "none.toml"),
            "X509_CERT_DIR": str(grid.certificates),
            "X509_USER_CERT": str(folder / "usercert.pem"),
            "X509_USER_KEY": str(folder / "userkey.pem"),
            "X509_USER_PROXY": str(self.proxy),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_RUNTIME_DIR": str(folder),
        }

    def program(self, name: str, text: str) -> None:
        """Have a program."""
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def vo_answers(self) -> None:
        """Have a VOMS server that answers."""
        self.program("voms-proxy-init", VOMS_SERVER.format(self.folder))

    def __call__(self, *words: str, **environment: str) -> tuple[int, str]:
        """Type `wnodes cloud` and these words: its exit status, and all that it says."""
        given = {**self.environment, **environment}
        done = CliRunner().invoke(app, ["cloud", *words], env=given)
        said = done.output.replace(str(self.folder), "…")
        if isinstance(done.exception, WnodesError):
            return 1, said + str(done.exception).replace(str(self.folder), "…")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, said

    @property
    def remembered(self) -> str:
        """The user's file."""
        path = self.folder / "config" / "wnodes" / "cloud.toml"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path, common: Grid) -> Host:
    return Host(tmp_path, common)


def test_by_voms_and_once_more_and_out(host: Host) -> None:
    host.vo_answers()
    code, said = host("--url", URL, "login", "--voms", f"{VO}:/{VO}/Role=pilot")
    assert code == 0, said
    left = "(12 h|11 h 5[0-9] min)"  # it begins some minutes ago, or now
    assert re.fullmatch(rf"…/proxy\.pem: {left} left, for /{VO}/Role=pilot /{VO}\n", said), said
    assert host.remembered == f'url = "{URL}"\nvoms = "{VO}:/{VO}/Role=pilot"\n'
    assert host.proxy.stat().st_mode & 0o777 == 0o600
    first = host.proxy.read_bytes()
    assert host("login")[0] == 0
    assert host.proxy.read_bytes() != first
    assert host("logout") == (0, "…/proxy.pem is gone\n")
    assert not host.proxy.exists()
    assert host("logout") == (0, "")
    assert [path.name for path in host.folder.glob(".wnodes-*")] == []


def test_logout_overwrites_nothing_that_another_has_led_to(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 987_654_324
    monkeypatch.setattr("os.geteuid", lambda: number)
    precious, usual = host.folder / "precious", Path(f"/tmp/x509up_u{number}")
    precious.write_text("a thesis")
    host.token = host.folder / f"bt_u{number}"
    host.token.write_text("a.b.c")
    try:
        usual.symlink_to(precious)
        code, said = host("logout", X509_USER_PROXY="")
        assert (code, f"{usual}: the proxy is not used: " in said) == (1, True)
        assert not host.token.exists()
        assert precious.read_text() == "a thesis"
    finally:
        usual.unlink()


def test_what_voms_refuses_is_one_line_and_the_old_proxy_stays(host: Host) -> None:
    host.proxy.write_text("the old one")
    code, said = host("login", "--voms", "nosuch")
    assert (code, said) == (
        1,
        "no proxy of VO nosuch: no server of VO nosuch is known here: see /etc/vomses",
    )
    code, said = host("--cert", "none.pem", "login", "--voms", VO)
    assert (code, said) == (
        1,
        f"no proxy of VO {VO}: there is no certificate or key at none.pem",
    )
    assert host.proxy.read_text() == "the old one"
    assert host.remembered == ""
    assert "-out" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--voms", "-debug"), "«-debug» is not a VO, nor VO:/vo/group/Role=role"),
        (("--voms", "a b"), "«a b» is not a VO"),
        (("--voms", "vo:Role=x"), "«vo:Role=x» is not a VO"),
        (("--oidc", "--all"), "«--all» is not the name of an account"),
        (("--voms", VO, "--oidc", "egi"), "--voms or --oidc: one of them"),
        ((), "by what? Give --voms VO, or --oidc NAME; the next time it is known"),
        (("--oidc", "egi"), "no program here gets tokens: install oidc-agent (or htgettoken)"),
    ],
)
def test_what_goes_wrong_is_one_line(host: Host, words: tuple[str, ...], said: str) -> None:
    code, told = host("login", *words)
    assert (code, told.startswith(said), "\n" in told) == (1, True, False), told


def test_without_voms_clients(host: Host) -> None:
    code, told = host("login", "--voms", VO, PATH=str(host.programs))
    assert (code, told) == (1, "voms-proxy-init is not on this host: install voms-clients")


def test_a_url_alone_is_remembered(host: Host) -> None:
    assert host("--url", f"{URL}/", "login") == (0, "")
    assert host.remembered == f'url = "{URL}"\n'
    code, said = host("--url", "http://x", "login")
    assert (code, "is not a service's URL" in said) == (1, True)
    assert host("login", WNODES_URL="https://other")[0] == 1  # a variable is not remembered
    assert host.remembered == f'url = "{URL}"\n'


def test_by_oidc_agent(host: Host) -> None:
    given = token({"exp": time.time() + 3605})
    host.program("oidc-token", f'#!/bin/sh\n[ "$*" = "--time=300 egi" ] && echo {given}\n')
    code, said = host("login", "--oidc", "egi")
    assert (code, said) == (0, f"…/{host.token.name}: 1 h {said.split('1 h ')[1]}")
    assert host.token.read_text() == f"{given}\n"
    assert host.token.stat().st_mode & 0o777 == 0o600
    assert host.remembered == 'oidc = "egi"\n'
    assert host("login")[0] == 0
    assert host("logout") == (0, f"…/{host.token.name} is gone\n")


def test_a_token_is_the_issuers_usual_one_where_the_service_is_away(host: Host) -> None:
    asked = host.folder / "asked"
    given = token({"exp": time.time() + 3605})
    host.program("oidc-token", f'#!/bin/sh\necho "$*" >>{asked}\necho {given}\n')
    assert host("--url", URL, "login", "--oidc", "egi")[0] == 0
    assert host("login")[0] == 0
    assert asked.read_text() == "--time=300 egi\n" * 2
    assert given not in asked.read_text()
    assert host.remembered == f'url = "{URL}"\noidc = "egi"\n'


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_token_for_a_service_alone_is_got_for_no_other(host: Host, by_variable: bool) -> None:
    asked, other = host.folder / "asked", "https://localhost:2"
    given = token({"exp": time.time() + 3605})
    host.program("oidc-token", f'#!/bin/sh\necho "$*" >>{asked}\necho {given}\n')
    file = host.folder / "config" / "wnodes" / "cloud.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'url = "{URL}"\noidc = "egi"\naudience = "{URL}"\n')
    assert host("login")[0] == 0
    typed = ("login",) if by_variable else ("--url", other, "login")
    assert host(*typed, WNODES_URL=other if by_variable else "")[0] == 0
    assert asked.read_text() == f"--time=300 --aud {URL} egi\n--time=300 egi\n"


@pytest.mark.parametrize(
    ("refusal", "meant"),
    [  # as version 4.2.6 has it
        (
            "Error: No account configured with that short name",
            "oidc-agent has no such account: oidc-gen egi makes it",
        ),
        (
            "Error: did not receive any response",
            'oidc-agent is not running: eval "$(oidc-agent)", then oidc-add egi',
        ),
        ("Error: something new", "something new"),
        ("", "it says nothing"),
    ],
)
def test_what_oidc_agent_refuses(host: Host, refusal: str, meant: str) -> None:
    host.program("oidc-token", f"#!/bin/sh\necho '{refusal}' >&2\nexit 1\n")
    host.token.write_text("old")
    assert host("login", "--oidc", "egi") == (1, f"no token of «egi»: {meant}")
    assert host.token.read_text() == "old"
    assert host.remembered == ""


def test_by_htgettoken(host: Host) -> None:
    given = token({"exp": time.time() + 3605})
    host.program("htgettoken", f'#!/bin/sh\n[ "$1 $2 $3" = "-i cms -o" ] && echo {given} >"$4"\n')
    bare = f"{host.programs}:/usr/bin:/bin"
    assert host("login", "--oidc", "cms", PATH=bare)[0] == 0
    assert host.token.read_text() == f"{given}\n"
    host.program("htgettoken", "#!/bin/sh\nexit 1\n")
    said = "no token of «cms»: htgettoken has said why"
    assert host("login", "--oidc", "cms", PATH=bare) == (1, said)


def test_what_comes_before_it_is_told(host: Host) -> None:
    host.vo_answers()
    code, said = host("login", "--voms", VO, BEARER_TOKEN="a.b.c")
    assert code == 0
    assert "but a token of yours comes before it: unset BEARER_TOKEN" in said
    code, said = host("logout", BEARER_TOKEN="a.b.c")
    assert "BEARER_TOKEN is set in this shell" in said


def test_the_pass_phrase_is_asked_for_at_the_terminal(host: Host) -> None:
    key = host.folder / "userkey.pem"
    locked = ["openssl", "rsa", "-aes128", "-passout", "pass:sesame", "-in", str(key)]
    done = subprocess.run(locked, capture_output=True, check=True)
    key.chmod(0o600)
    key.write_bytes(done.stdout)
    key.chmod(0o400)
    program = Path(sys.executable).with_name("wnodes")

    def typed(word: str) -> str:
        asked = subprocess.run(
            ["script", "-qec", f"{program} cloud login --voms nosuch", "/dev/null"],
            input=f"{word}\n",
            env=host.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return asked.stdout

    right = typed("sesame")
    assert "Enter GRID pass phrase" in right
    assert "no server of VO nosuch is known here" in right
    assert "the pass phrase is not the key's" in typed("wrong")
