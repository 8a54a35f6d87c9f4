"""`wnodes image add`: what it takes, and what it says to whom."""

import http.server
import struct
import threading
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bait.checks import files
from wnodes_lrms.cli import app
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.images import catalogue, source, web

TAG = "small_linux_x86_64"
# The header of a qcow2 of 1 MiB.
DATA = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, 1 << 20, 0, 1, 4096, 8192, 1, 0, 0)
LOGIN = "Basic " + b64encode(b"site:hunter2").decode()


class Closed:
    """A web server that lets only `site` in, and remembers who was named to it."""

    def __init__(self) -> None:
        self.named: list[str | None] = []
        self.elsewhere = ""  # where /moved is
        closed = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                closed.named.append(self.headers["Authorization"])
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", closed.elsewhere)
                    self.end_headers()
                    return
                if closed.named[-1] != LOGIN:
                    self.send_error(401)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(DATA)))
                self.end_headers()
                self.wfile.write(DATA)

            do_HEAD = do_GET  # noqa: N815 (the parent's name)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def closed() -> Iterator[Closed]:
    server = Closed()
    yield server
    server.close()


@pytest.fixture
def logins(tmp_path: Path) -> Path:
    file = tmp_path / "logins"
    file.touch(mode=0o600)
    file.write_text("machine 127.0.0.1 login site password hunter2\n")
    return file


@pytest.fixture
def config(tmp_path: Path, logins: Path) -> Path:
    file = tmp_path / "wnodes.toml"
    file.write_text(
        f"""
cluster = "box"
lrms = "slurm"
[hooks]
folder = "{tmp_path}/hooks"
[images]
catalogue = "{tmp_path}/images"
credentials = "{logins}"
"""
    )
    return file


def add(config: Path, where: str, *more: str, tag: str = TAG) -> Result:
    words = [tag, "--source", where, "--context", "script", "--config", str(config), *more]
    return CliRunner().invoke(app, ["image", "add", *words])


def refusal(done: Result) -> str:
    assert done.exit_code
    return done.output + str(done.exception)


def test_a_url_with_a_password_is_refused_before_it_is_asked(
    tmp_path: Path, config: Path, closed: Closed
) -> None:
    done = add(config, f"http://site:hunter2@127.0.0.1:{closed.port}/image")
    assert done.exit_code
    assert not closed.named
    assert not list((tmp_path / "images").glob("*"))
    assert "hunter2" not in done.output + str(done.exception)
    assert "[images]" in done.output + str(done.exception)


def test_the_logins_are_in_a_file_of_roots(tmp_path: Path, config: Path, closed: Closed) -> None:
    where = f"http://127.0.0.1:{closed.port}/image"
    done = add(config, where)
    assert done.exit_code == 0, done.output
    image = catalogue.read(tmp_path / "images", TAG)
    assert image.disk.sha256 == sha256(DATA).hexdigest()
    assert "hunter2" not in done.output + (tmp_path / "images" / f"{TAG}.toml").read_text()


def test_every_reader_of_a_source_is_let_in(logins: Path, closed: Closed) -> None:
    where = f"http://127.0.0.1:{closed.port}/image"
    watched = source.read_watched(where, lambda: None, credentials=str(logins))
    assert b"".join(watched) == DATA
    assert files.unreachable(where, str(logins)) is None
    assert files.unreachable(where) == "HTTP 401"
    with pytest.raises(WnodesError, match="HTTP 401"):
        list(source.read(where))


def test_who_we_are_is_not_told_to_whom_we_are_sent_on(logins: Path, closed: Closed) -> None:
    other = Closed()
    closed.elsewhere = f"http://127.0.0.1:{other.port}/image"
    with pytest.raises(WnodesError, match="HTTP 401"):
        list(source.read(f"http://127.0.0.1:{closed.port}/moved", credentials=str(logins)))
    other.close()
    assert (closed.named, other.named) == ([LOGIN], [None])


def test_a_file_that_others_may_read_is_not_used(logins: Path, closed: Closed) -> None:
    where = f"http://127.0.0.1:{closed.port}/image"
    logins.chmod(0o640)
    with pytest.raises(WnodesError, match="must be root's, with mode 0600"):
        list(source.read(where, credentials=str(logins)))
    assert "0600" in (files.unreachable(where, str(logins)) or "")
    assert not closed.named


@pytest.mark.parametrize("text", ["machine host hunter2", "hunter2 x", "\xff"])
def test_a_file_that_can_not_be_understood_is_not_repeated(logins: Path, text: str) -> None:
    logins.write_text(text, encoding="latin-1")
    with pytest.raises(WnodesError, match="is not as netrc") as caught:
        web.login(str(logins))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    logins.unlink()
    with pytest.raises(WnodesError, match="No such file"):
        web.login(str(logins))


def test_a_wrong_word_is_refused_before_anything_is_read(
    tmp_path: Path, config: Path, closed: Closed
) -> None:
    where = f"http://127.0.0.1:{closed.port}/image"
    assert "tag" in refusal(add(config, where, tag="Small Linux"))
    assert "context" in refusal(add(config, where, "--context", "vagrant"))
    assert "format" in refusal(add(config, where, "--format", "vmdk"))
    assert not closed.named
    assert not list((tmp_path / "images").glob("*"))


def test_a_kernel_is_no_disk(tmp_path: Path, config: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(bytes(0x202) + b"HdrS" + bytes(9000))
    for more in ((), ("--format", "raw"), ("--sha256", "a" * 64)):
        assert f"{kernel}: it is a Linux kernel, not a disk" in refusal(
            add(config, str(kernel), *more)
        )
    assert not list((tmp_path / "images").glob("*"))


def test_a_web_servers_answer_is_looked_at_too(
    tmp_path: Path, config: Path, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "DATA", b"<html>Please log in</html>")
    said = refusal(add(config, f"http://127.0.0.1:{closed.port}/image"))
    assert "it is a web page, not a disk" in said
    assert not list((tmp_path / "images").glob("*"))


def test_a_raw_disk_of_holes_is_taken_with_a_word_about_its_size(
    tmp_path: Path, config: Path
) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.write(b"\xeb\x63" + bytes(508) + b"\x55\xaa")
        file.truncate(64 << 20)
    done = add(config, str(disk), "--format", "raw")
    assert done.exit_code == 0, done.output
    assert "every node copies 64 MiB, of which 1 are in use" in done.output
    assert catalogue.read(tmp_path / "images", TAG).format == "raw"
