"""What of a user's files goes into a VM, and what never does."""

import base64
from pathlib import Path

import pytest

from wnodes_lrms.cli.cloud import keys
from wnodes_lrms.errors import RejectedError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkXr4dKQm8E me@here"


def test_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "id.pub"
    path.write_text(f"{KEY}\n")
    assert keys.public_key(path) == keys.public_key(Path("~/id.pub")) == KEY
    assert keys.private_half(path) is None
    (tmp_path / "id").touch()
    assert keys.private_half(Path("~/id.pub")) == tmp_path / "id"
    assert keys.private_half(tmp_path / "id") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
            "is a private key, which never leaves your host",
        ),
        ("-----BEGIN RSA PRIVATE KEY-----\nx", "is a private key, which never leaves your host"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nx", "is a private key"),
        ("", "is empty: a public SSH key is needed"),
        (f"{KEY}\n{KEY}", "is not one public SSH key"),
        ("word", "is not one public SSH key"),
        ("x" * 20_000, "is too long: the service takes 16384 bytes"),
    ],
)
def test_what_is_no_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "id"
    path.write_text(text)
    with pytest.raises(RejectedError) as caught:
        keys.public_key(path)
    assert str(caught.value).startswith(f"{path} ")
    assert said in str(caught.value)


def test_the_public_half_is_named(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(RejectedError, match=f"which ssh-keygen -y -f {path} prints"):
        keys.public_key(path)
    (tmp_path / "id.pub").write_text(KEY)
    with pytest.raises(RejectedError, match=f"its public half, {path}.pub$"):
        keys.public_key(path)


def test_the_usual_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.usual_key() is None
    (tmp_path / ".ssh").mkdir()
    for name in ("id_rsa.pub", "id_ed25519.pub"):
        (tmp_path / ".ssh" / name).touch()
        assert keys.usual_key() == tmp_path / ".ssh" / name


def test_user_data(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\x00#!/bin/sh\n")
    assert base64.b64decode(keys.user_data(path)) == b"\x00#!/bin/sh\n"
    path.write_bytes(b"x" * 36_865)
    with pytest.raises(RejectedError, match="is too long: the service takes 36864 bytes of it"):
        keys.user_data(path)
    with pytest.raises(RejectedError, match="can't be read: Is a directory"):
        keys.user_data(tmp_path)
