"""source.py against a real web server, and against none."""

import gzip
import hashlib
import socket
from pathlib import Path

import pytest

from tests.unit.conftest import Web
from wnodes_lrms import source
from wnodes_lrms.errors import WnodesError

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
