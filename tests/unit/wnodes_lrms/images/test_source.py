"""images/source.py against a real web server, and against none."""

import gzip
import hashlib
import os
import socket
from pathlib import Path

import pytest

from bait.checks import files
from tests.unit.conftest import Web
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.images import source

DATA = bytes(range(256)) * 8192  # 2 MiB


def everything(where: str) -> bytes:
    return b"".join(source.read(where))


def test_a_file_and_a_url_give_the_same_bytes(tmp_path: Path, web: Web) -> None:
    file = tmp_path / "image"
    file.write_bytes(DATA)
    part = web.add("/image", DATA)
    assert everything(str(file)) == everything(part.source) == DATA
    assert source.sha256(str(file)) == source.sha256(part.source)
    assert source.sha256(str(file)) == hashlib.sha256(DATA).hexdigest()


def test_a_compressed_file_is_not_unpacked_on_the_way(web: Web) -> None:
    packed = gzip.compress(DATA)
    assert everything(web.add("/image.gz", packed).source) == packed


def test_an_empty_file_is_empty(tmp_path: Path, web: Web) -> None:
    (tmp_path / "empty").touch()
    assert everything(str(tmp_path / "empty")) == everything(web.add("/empty", b"").source) == b""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_what_can_not_be_reached_says_what_and_why(tmp_path: Path, web: Web) -> None:
    web.add("/broken", DATA)
    web.broken["/broken"] = 1000000
    for where, why in (
        (f"{tmp_path}/none", "No such file"),
        (str(tmp_path), "directory"),
        (f"{web.url}/none", "HTTP 404"),
        (f"{web.url}/broken", "peer closed"),
        (f"http://127.0.0.1:{free_port()}/image", "refused"),
        ("http://127.0.0.1:port/image", "port"),
        ("http://[::1/image", "URL|port|IPv6"),
        ("http://no-such-host.invalid/image", ""),
    ):
        with pytest.raises(WnodesError, match=f"image source .*({why})") as caught:
            everything(where)
        assert where in str(caught.value)
        assert caught.value.retry


def test_the_size_is_told_before_the_first_byte(tmp_path: Path, web: Web) -> None:
    (tmp_path / "image").write_bytes(DATA)
    for where in (str(tmp_path / "image"), web.add("/image", DATA).source):
        told: list[int] = []
        pieces = source.read(where, told.append)
        assert next(pieces)
        assert told == [len(DATA)]

        def no(size: int) -> None:
            raise WnodesError(f"no room for {size}")

        with pytest.raises(WnodesError, match=f"no room for {len(DATA)}"):
            list(source.read_watched(where, lambda: None, no))


def test_a_file_that_has_no_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for where in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(WnodesError, match="is no regular file"):
            everything(where)
    growing = tmp_path / "growing"
    growing.write_bytes(DATA)
    pieces = source.read(str(growing))
    next(pieces)
    with growing.open("ab") as file:
        file.write(b"x")
    with pytest.raises(WnodesError, match="grew"):
        list(pieces)


@pytest.mark.parametrize("proxy", ["socks9://site:hunter2@proxy.invalid:1", "http://u:hunter2@h:x"])
def test_a_proxy_that_is_none_is_said_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(WnodesError, match=r"image source http://images.invalid/disk: ") as caught:
        source.sha256("http://images.invalid/disk")
    assert "hunter2" not in str(caught.value)
    said = files.unreachable("http://images.invalid/disk")
    assert said
    assert "hunter2" not in said
