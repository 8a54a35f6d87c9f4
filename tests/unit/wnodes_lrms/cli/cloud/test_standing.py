"""Until when what a user shows is good, as far as it says so itself."""

import base64
import json
import time
from pathlib import Path

import pytest

from contrib.site.box.ca import proxy
from tests.unit import ca
from tests.unit.ca import Grid
from wnodes_lrms.cli.cloud import standing
from wnodes_lrms.cli.credentials import Credentials

common = ca.common


def token(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59, "59 s"), (7199, "1 h 59 min"), (3601, "1 h 1 s"), (90_061, "1 d 1 h")],
)
def test_times_in_words(seconds: float, told: str) -> None:
    assert standing.ago(seconds) == told


def test_a_time_in_the_readers_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Rome")
    time.tzset()
    try:
        now = 1_795_871_400.0  # 2026-11-28T13:10:00Z
        assert standing.when("2026-11-28T13:20:00Z", now) == "14:20 CET"
        assert standing.when("2026-11-28T23:20:00Z", now) == "2026-11-29 00:20 CET"
        assert [standing.when(odd, now) for odd in ("", "soon")] == ["", ""]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_token_says_when_it_ends() -> None:
    assert standing.token_end(token({"exp": 12})) == 12
    for odd in ("x", "a.b.c", token({}), token([]), token({"exp": "soon"}), token({"exp": None})):
        assert standing.token_end(odd) is None
    assert standing.fault(Credentials(token=token({"exp": time.time() + 99}))) is None
    told = standing.fault(Credentials(token=token({"exp": time.time() - 7260})))
    assert told == "the token has expired 2 h 1 min ago; wnodes cloud login renews it"


def test_a_proxy_is_no_better_than_its_certificate(common: Grid, tmp_path: Path) -> None:
    good, old = tmp_path / "good.pem", tmp_path / "old.pem"
    proxy(common.alice, key=common.key).write_bundle(good)
    gone = common.user("Old", life=(-7200, -3600))
    proxy(gone, key=common.key).write_bundle(old)
    assert standing.fault(Credentials(files=(good, good))) is None
    told = standing.fault(Credentials(files=(old, old)))
    assert told
    assert told.startswith(f"{old} has expired 1 h ")
    assert standing.fault(Credentials(files=(tmp_path, tmp_path))) is None
