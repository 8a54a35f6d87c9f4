"""Where a user's token is found: WLCG Bearer Token Discovery 1.0."""

import os
from pathlib import Path

import pytest

from wnodes_lrms.cli.credentials import Credentials, chosen, discovered
from wnodes_lrms.errors import RejectedError


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """An environment in which each place has a token that bears its name."""
    (tmp_path / "file").write_text("in.file.x\n")
    (tmp_path / f"bt_u{os.geteuid()}").write_text(" in.runtime.x \n\n")
    return {
        "BEARER_TOKEN": "in.variable.x",
        "BEARER_TOKEN_FILE": str(tmp_path / "file"),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


def test_the_order_of_places(places: dict[str, str]) -> None:
    assert discovered(places) == "in.variable.x"
    places["BEARER_TOKEN"] = " "
    assert discovered(places) == "in.file.x"
    places["BEARER_TOKEN_FILE"] = ""
    assert discovered(places) == "in.runtime.x"


def test_in_tmp_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    number = 987_654_321
    monkeypatch.setattr("os.geteuid", lambda: number)
    path = Path(f"/tmp/bt_u{number}")
    assert discovered({}) is None
    try:
        path.write_text("planted.by.another")
        with pytest.raises(RejectedError, match="no file of this user's alone"):
            discovered({})
        with pytest.raises(RejectedError, match="no file of this user's alone"):
            discovered({"BEARER_TOKEN_FILE": str(path)})
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(RejectedError, match="no file of this user's alone"):
            discovered({})
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no token in it"),
        (b"two words", "has no token in it"),
        (b"a\nb", "has no token in it"),
        (b"\xff", "has no token in it"),
        (b"x" * 65537, "more than 65536 bytes"),
    ],
)
def test_files_without_a_token(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(RejectedError, match=said) as caught:
        discovered({"BEARER_TOKEN_FILE": str(path)})
    assert str(path) in str(caught.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="No such file"):
        discovered({"BEARER_TOKEN_FILE": str(tmp_path / "none")})


def test_what_is_shown(places: dict[str, str]) -> None:
    proxy, file = Path("/p"), Path(places["BEARER_TOKEN_FILE"])
    assert chosen(None, None, None, None, places) == Credentials(token="in.variable.x")
    assert chosen(None, None, proxy, None, places) == Credentials(files=(proxy, proxy))
    assert chosen(None, None, proxy, file, places) == Credentials(token="in.file.x")
    assert Credentials(token="a.b.c").headers == {"Authorization": "Bearer a.b.c"}
    assert Credentials(files=(proxy, proxy)).headers == {}
    assert "a.b.c" not in repr(Credentials(token="a.b.c"))
