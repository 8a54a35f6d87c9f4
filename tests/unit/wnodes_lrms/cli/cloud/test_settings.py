"""Which service a user means: option, variable, the user's file, or the bridge of this host."""

from pathlib import Path

import pytest

from wnodes_lrms.cli.cloud import settings
from wnodes_lrms.cli.cloud.settings import Settings
from wnodes_lrms.errors import ConfigError, RejectedError

URL = "https://bridge.example.org:11443"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("WNODES_CONFIG", str(tmp_path / "wnodes.toml"))
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_what_is_remembered(home: dict[str, str], tmp_path: Path) -> None:
    assert settings.read(home) == Settings()
    kept = Settings(url=URL, voms="testvo:/testvo/Role=pilot")
    settings.write(kept, home)
    assert settings.read(home) == kept
    settings.write(Settings(oidc="egi"), home)
    assert (tmp_path / "wnodes" / "cloud.toml").read_text() == 'oidc = "egi"\n'
    assert [path.name for path in (tmp_path / "wnodes").iterdir()] == ["cloud.toml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = ", "Invalid value"),
        ("urls = 'x'", "urls: unknown; there are audience, oidc, url, voms"),
        ("url = 1", "url: text is needed"),
        ("voms = 'a\\nb'\nurl = \"a\\nb\"", "url: text is needed"),
    ],
)
def test_a_file_that_is_wrong(home: dict[str, str], tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "wnodes" / "cloud.toml"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings.read(home)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_to(home: dict[str, str], tmp_path: Path, mode: int) -> None:
    settings.write(Settings(url=URL), home)
    file = tmp_path / "wnodes" / "cloud.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(mode)
    with pytest.raises(ConfigError, match="not used: others may write to it"):
        settings.read(home)
    file.chmod(0o644)
    assert settings.read(home).url == URL


@pytest.mark.parametrize(
    "url", ["https://b", f"{URL}/", "https://[::1]:11443", "https://192.0.2.1:11443"]
)
def test_a_url(home: dict[str, str], url: str) -> None:
    assert home
    assert settings.service_url(url, Settings(url="https://other")) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["http://b:11443", "bridge:11443", f"{URL}/compute", "https://me:word@b", "https://b:1#x", "x"],
)
def test_what_is_no_url(home: dict[str, str], url: str) -> None:
    assert home
    with pytest.raises(RejectedError, match="is not a service's URL"):
        settings.service_url(url, Settings())


@pytest.mark.parametrize(
    ("given", "kept", "audience"),
    [
        ("https://a.example:11443/", "https://b.example", "https://a.example:11443"),
        ("", "https://b.example:443", "https://b.example"),
        ("", "", ""),
        ("http://a.example", "", ""),
    ],
)
def test_what_tokens_are_to_be_for(given: str, kept: str, audience: str) -> None:
    assert settings.audience(given, Settings(kept)) == audience


def test_where_nothing_says_which(home: dict[str, str], tmp_path: Path) -> None:
    assert home
    assert settings.service_url("", Settings(url=URL)) == URL
    with pytest.raises(RejectedError, match="which cloud service"):
        settings.service_url("", Settings())
    key = tmp_path / "order.key"
    (tmp_path / "wnodes.toml").write_text(
        f'cluster = "box"\nlrms = "slurm"\n[bridge]\nlisten = "127.0.0.2:1234"\n'
        f'order_key = "{key}"\nbaits = ["https://hv1:8445"]\n'
    )
    with pytest.raises(RejectedError, match="which cloud service"):
        settings.service_url("", Settings())
    key.touch()  # this host has the bridge
    assert settings.service_url("", Settings()) == "https://127.0.0.2:1234"
