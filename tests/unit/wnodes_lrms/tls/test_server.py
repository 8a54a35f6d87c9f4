"""Over real connections: what a client can hold, and files that change."""

import contextlib
import http.client
import json
import logging
import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from contrib.site.box.ca import Authority, Credential, proxy
from tests.attributecertificates import fat_proxy
from tests.unit import ca
from tests.unit.ca import BASE, Grid, Service
from tests.unit.conftest import eventually
from wnodes_lrms.errors import ConfigError, WnodesError
from wnodes_lrms.tls import ca_names, http_protocol, names, server
from wnodes_lrms.tls import context as tls

DAY = 86400.0
common, grid = ca.common, ca.grid


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tells who asks; /large has an answer that nobody can have at once."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        return
    chain = scope["extensions"][http_protocol.CHAIN]
    told = {"names": [names.dn_of(each) for each in chain], "address": scope["client"][0]}
    body = json.dumps(told).encode() if scope["path"] != "/large" else bytes(64 << 20)
    length = str(len(body)).encode()
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    await send(head)
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(grid: Grid, **options: Any) -> Iterator[Service]:
    service = Service(app, grid, **options)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def service(common: Grid) -> Iterator[Service]:
    with serving(common) as service:
        yield service


def raw(service: Service, credential: Credential | None = None) -> ssl.SSLSocket:
    """A connection after its handshake."""
    plain = socket.create_connection(("127.0.0.1", service.port), timeout=5)
    return service.context(credential).wrap_socket(plain, server_hostname="localhost")


def ends(connection: socket.socket) -> bool:
    """Whether the other end closes; waits for that."""
    try:
        while connection.recv(65536):
            pass
    except (ConnectionResetError, ssl.SSLEOFError):
        pass
    return True


def test_the_chain_is_the_verified_one(service: Service) -> None:
    alice = service.grid.alice
    mine = proxy(alice, key=service.grid.key)
    told = service.ask(mine)["names"]
    assert told == [mine.dn, f"{BASE}/CN=Alice", f"{BASE}/CN=Box CA"]
    padded = Credential(mine.certificate, mine.key, (*mine.issuers, service.grid.host.certificate))
    assert service.ask(padded)["names"] == told
    assert service.ask(None)["names"] == []


def test_an_answer_has_the_date_of_now(service: Service) -> None:
    """Though the server does nothing by itself from one second to the next."""
    for _ in range(2):
        asked = int(time.time())
        with contextlib.closing(service.connect(None)) as connection:
            connection.request("GET", "/whoami")
            date = connection.getresponse().headers["Date"]
        assert asked <= parsedate_to_datetime(date).timestamp() <= time.time()
        time.sleep(1.1)


def test_curl_with_a_proxy(service: Service, tmp_path: Path) -> None:
    proxy(service.grid.alice, key=service.grid.key).write_bundle(tmp_path / "proxy.pem")
    url = f"https://localhost:{service.port}/"
    trust = ["--capath", str(service.grid.certificates), "--cert", str(tmp_path / "proxy.pem")]
    for version in ("1.2", "1.3"):
        argv = ["curl", "--silent", "--show-error", "--tls-max", version, *trust, url, url]
        done = subprocess.run(argv, capture_output=True, check=True, text=True)
        assert done.stdout.count(f"{BASE}/CN=Alice/CN=") == 2


def test_a_resumed_session_has_its_chain(service: Service) -> None:
    context = service.context(service.grid.alice)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session, told = None, []
    for _ in range(2):
        plain = socket.create_connection(("127.0.0.1", service.port), timeout=5)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as link:
            resumed, session = link.session_reused, link.session
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            told.append(link.makefile().read().splitlines()[-1])
    assert resumed
    assert told[0] == told[1]
    assert f"{BASE}/CN=Alice" in told[1]


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sizes", [(60_000,), (70_000,), (98_000,), (32_000,) * 3])
def test_certificates_up_to_the_limit_are_taken(
    service: Service, version: ssl.TLSVersion, sizes: tuple[int, ...]
) -> None:
    credential = service.grid.alice
    for size in sizes:
        credential = fat_proxy(credential, size, service.grid.key)
    context = service.context(credential)
    context.maximum_version = version
    with contextlib.closing(
        http.client.HTTPSConnection("localhost", service.port, timeout=10, context=context)
    ) as connection:
        connection.request("GET", "/")
        assert json.load(connection.getresponse())["names"][0] == credential.dn
    eventually(lambda: not service.server.server_state.connections)


def test_certificates_beyond_the_limit_are_refused_and_told(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(OSError, match=r"alert|reset|pipe|EOF"):
        service.ask(fat_proxy(service.grid.alice, 103_000, service.grid.key))
    eventually(lambda: "reason=certificates of over 100 KiB" in caplog.text)
    assert not service.server.server_state.connections


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(("version", "most"), [*zip(VERSIONS, (30 << 20, 6 << 20), strict=True)])
def test_of_a_connection_that_has_ended_nothing_is_kept(
    common: Grid, version: ssl.TLSVersion, most: int
) -> None:
    """By certificates of 90 kB each: 100 connections leave no more than these bytes of memory."""
    credential = fat_proxy(fat_proxy(common.alice, 45_000, common.key), 45_000, common.key)
    with serving(common) as service:
        contexts = {False: service.context(credential), True: service.context(credential)}

        def come(times: int) -> int:
            for number in range(times):
                context = contexts[number % 2 == 0]
                context.maximum_version = version
                plain = socket.create_connection(("127.0.0.1", service.port), timeout=5)
                with context.wrap_socket(plain, server_hostname="localhost") as link:
                    link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    assert link.makefile().read()
            return resident()

        before = come(50)
        assert come(100) - before < most


CALLBACKS = (
    "connection_made",
    "data_received",
    "on_message_begin",
    "on_url",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "eof_received",
)


@pytest.mark.parametrize("name", [*CALLBACKS, "chain"])
def test_no_fault_leaves_a_connection_half_alive(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[http_protocol.Protocol] = []
    where = tls.Context if name == "chain" else http_protocol.Protocol
    whole = getattr(where, name)
    begun = http_protocol.Protocol.__init__

    def begin(self: http_protocol.Protocol, *args: Any) -> None:
        begun(self, *args)
        made.append(self)

    def broken(self: Any, *args: Any) -> None:
        whole(self, *args)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(http_protocol.Protocol, "__init__", begin)
    monkeypatch.setattr(where, name, broken)
    with raw(service, service.grid.alice) as link, contextlib.suppress(OSError):
        link.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        if name == "eof_received":
            link.unwrap()
        assert ends(link)
    eventually(lambda: made)
    eventually(lambda: not service.server.server_state.connections)
    eventually(lambda: caplog.text)
    for each in made:
        assert each.transport.is_closing()
        assert (each._deadline, each.timeout_keep_alive_task) == (None, None)


def test_no_session_of_tls_13_is_resumed(service: Service) -> None:
    with raw(service, service.grid.alice) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(1000)
        assert link.session is None or not link.session.has_ticket


def test_connections_are_kept(service: Service) -> None:
    with contextlib.closing(service.connect(service.grid.alice)) as connection:
        for _ in range(3):
            connection.request("GET", "/")
            assert connection.getresponse().read()
            port = connection.sock.getsockname()[1]
        assert port == connection.sock.getsockname()[1]
        assert len(service.server.server_state.connections) == 1


def test_the_address_is_the_peers(service: Service) -> None:
    with contextlib.closing(service.connect(None)) as connection:
        connection.request("GET", "/", headers={"X-Forwarded-For": "9.9.9.9"})
        assert json.load(connection.getresponse())["address"] == "127.0.0.1"


@contextlib.contextmanager
def silent_clients(service: Service) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        silent = [socket.create_connection(("127.0.0.1", service.port), 60) for _ in range(100)]
        for number, each in enumerate(silent):
            stack.enter_context(each)
            each.sendall(b"\x16\x03\x01" if number % 2 else b"")  # how a handshake begins
        yield silent


def test_silent_clients_hold_nobody_up(common: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_HANDSHAKE", 600)
    with serving(common) as service, silent_clients(service) as silent:
        assert service.ask(common.alice)["names"]
        for each in silent:
            each.setblocking(False)
            with pytest.raises(BlockingIOError):  # it is waited for still
                each.recv(1)


def test_silent_clients_are_dropped(common: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_HANDSHAKE", 0.3)
    with serving(common) as service, silent_clients(service) as silent:
        assert all(ends(each) for each in silent)


def test_more_connections_than_it_has_room_for_are_closed_at_once(common: Grid) -> None:
    with serving(common) as service, contextlib.ExitStack() as stack:
        service.server._most = len(service.server._tasks) + 3
        links = [socket.create_connection(("127.0.0.1", service.port), 5) for _ in range(5)]
        for each in links:
            stack.enter_context(each)
        assert all(ends(each) for each in links[3:])
        links[0].close()
        eventually(lambda: len(service.server._tasks) < service.server._most)
        assert service.ask(common.alice)["names"]


def test_a_request_that_does_not_come_is_not_waited_for(
    common: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "_REQUEST", 0.2)
    begun = (b"", b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
    with serving(common) as service:
        links = [raw(service) for _ in begun]
        for link, said in zip(links, begun, strict=True):
            link.sendall(said)
        for link in links:
            with link:
                assert ends(link)
        eventually(lambda: not service.server.server_state.connections)


def test_an_answer_that_is_not_taken_is_dropped(
    common: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_UNREAD", 0.3)
    with serving(common) as service, raw(service) as link:
        link.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: service.server.server_state.connections)
        eventually(lambda: not service.server.server_state.connections)


def test_heads_that_are_too_large(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_HEAD", 5000)
    for head in (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 6000 + b"\r\n\r\n", b"G" * 6000):
        with raw(service) as link:
            link.sendall(head)
            assert link.recv(100).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
            assert ends(link)
    with raw(service) as link, contextlib.suppress(ConnectionError):
        link.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(100):
            link.sendall(b"x" * 100)
            time.sleep(0.001)
        assert link.recv(100).startswith(b"HTTP/1.1 431 ")
    with contextlib.closing(service.connect(None)) as connection:
        connection.request("POST", "/", b"x" * 100_000, {"X": "x" * 4000})
        assert connection.getresponse().status == 200


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xff" + b"x" * 300])
def test_what_is_no_tls(service: Service, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as plain:
        plain.sendall(said)
        assert ends(plain)
    assert service.ask(None) == {"names": [], "address": "127.0.0.1"}


def test_only_certificates_and_no_proxies(common: Grid) -> None:
    with serving(common, proxies=False, require=True) as service:
        assert service.ask(common.alice)["names"][0] == f"{BASE}/CN=Alice"
        for refused in (None, proxy(common.alice, key=common.key)):
            with pytest.raises(OSError, match=r"alert|reset|required"):
                service.ask(refused)


def test_it_ends_at_once_whoever_is_connected(common: Grid) -> None:
    with serving(common, require=True) as service, raw(service, common.alice) as idle:
        with contextlib.closing(service.connect(common.alice)) as kept:
            kept.request("GET", "/")
            assert kept.getresponse().read()
            begin = time.monotonic()
            service.stop()
            assert time.monotonic() - begin < 4
        assert ends(idle)


def test_several_servers_share_a_socket(common: Grid) -> None:
    with serving(common) as first:
        shared = first.server._doors[0].sock.dup()
        second = server.serve(
            app, "", *_own(common), common.bridge.ca_dir, proxies=True, require=False, sock=shared
        )
        sockets = [each._doors[0].sock.getsockname() for each in (first.server, second)]
        assert sockets[0] == sockets[1]


def test_a_second_door_asks_nobody_for_a_certificate(common: Grid) -> None:
    """A browser that has some would open a list of them."""
    sock = server.listener("127.0.0.1:0")
    port = sock.getsockname()[1]
    other = server.door(app, "", *_own(common), common.bridge.ca_dir, ask=False, sock=sock)
    with serving(common, more=(other,)) as service:
        assert service.ask(common.alice)["names"]
        context = service.context(common.alice)
        with contextlib.closing(
            http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
        ) as connection:
            connection.request("GET", "/")
            assert json.load(connection.getresponse())["names"] == []
        argv = ["openssl", "s_client", "-connect", f"localhost:{port}"]
        said = subprocess.run(
            argv, input="", capture_output=True, text=True, timeout=30, check=False
        )
        assert "No client certificate CA names sent" in said.stdout
        assert "Requested Signature Algorithms" not in said.stdout


def _own(grid: Grid) -> tuple[str, str]:
    return grid.bridge.certificate, grid.bridge.key


def refused(service: Service, credential: Credential) -> bool:
    try:
        service.ask(credential)
    except OSError:
        return True
    return False


def test_a_new_crl_holds_at_once_also_for_who_is_connected(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    with serving(grid) as service, contextlib.closing(service.connect(grid.alice)) as kept:
        kept.request("GET", "/")
        assert kept.getresponse().read()
        assert not refused(service, grid.alice)
        grid.authority.revoke(grid.alice)
        grid.authority.install(grid.certificates)
        eventually(lambda: refused(service, grid.alice))
        assert ends(kept.sock)
        assert service.ask(grid.user("Bob"))["names"][0] == f"{BASE}/CN=Bob"


def named(service: Service, version: str) -> set[str]:
    """The CAs that a client is told."""
    argv = ["openssl", "s_client", version, "-nameopt", "RFC2253"]
    argv += ["-connect", f"127.0.0.1:{service.port}"]
    done = subprocess.run(argv, input="", capture_output=True, check=False, text=True, timeout=20)
    _, told, rest = done.stdout.partition("Acceptable client certificate CA names\n")
    lines = takewhile(lambda line: not line.startswith(("Client", "Requested")), rest.splitlines())
    return set(lines) if told else set()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_clients_are_told_whose_certificates_serve(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    first = {"CN=Box CA,O=Box,C=IT"}
    with serving(grid) as service:
        assert named(service, version) == first
        another = Authority.make(f"{BASE}/CN=Another", grid.key)
        another.install(grid.certificates)
        eventually(lambda: named(service, version) == first | {"CN=Another,O=Box,C=IT"})
        assert service.ask(grid.alice)["names"][0] == f"{BASE}/CN=Alice"
    with serving(grid, proxies=False, require=True) as service:
        assert named(service, version) == set()


def test_as_many_names_of_cas_as_all_clients_take(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [own] = ca_names.names(str(grid.certificates))
    (grid.certificates / "00000000.0").write_text("nonsense")
    (grid.certificates / "00000001.0").symlink_to("nowhere")
    assert ca_names.names(str(grid.certificates)) == [own]
    monkeypatch.setattr(ca_names, "_MOST", len(own))
    assert ca_names.names(str(grid.certificates)) == []
    assert "clients are not told them" in caplog.text


def test_a_new_host_certificate_is_taken_and_a_broken_one_is_not(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)

    def serial(service: Service) -> int:
        with raw(service) as link:
            return int(link.getpeercert()["serialNumber"], 16)  # type: ignore[index,arg-type]

    with serving(grid) as service:
        assert serial(service) == grid.host.certificate.serial_number
        fresh = grid.authority.issue(f"{BASE}/CN=localhost", hosts=("localhost",), key=grid.key)
        fresh.write(Path(grid.bridge.certificate), Path(grid.bridge.key))
        eventually(lambda: serial(service) == fresh.certificate.serial_number)
        Path(grid.bridge.certificate).write_text("nonsense")
        eventually(lambda: "going on with what was there" in caplog.text)
        assert serial(service) == fresh.certificate.serial_number


def test_a_folder_without_any_crl(grid: Grid, caplog: pytest.LogCaptureFixture) -> None:
    for crl in grid.certificates.glob("*.r0"):
        crl.unlink()
    grid.authority.revoke(grid.alice)
    with serving(grid) as service:
        assert service.ask(grid.alice)["names"][0] == f"{BASE}/CN=Alice"
    assert "has no CRL at all" in caplog.text


def fault(grid: Grid) -> str:
    with pytest.raises(ConfigError) as caught:
        tls.server_context(*_own(grid), grid.bridge.ca_dir, proxies=True, require=False)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(grid.folder), "…")


def test_own_files_that_can_not_be_used(grid: Grid) -> None:
    certificate, key = (Path(path) for path in _own(grid))
    good = certificate.read_bytes()
    certificate.unlink()
    assert fault(grid) == "…/hostcert.pem: can't be read: No such file or directory"
    certificate.write_text("-----BEGIN NONSENSE")
    assert fault(grid) == "…/hostcert.pem: is not a certificate in PEM form"
    grid.alice.write(certificate, grid.folder / "other.pem")
    assert fault(grid).endswith("can't be used with the key …/hostkey.pem: KEY_VALUES_MISMATCH")
    old = grid.authority.issue(
        f"{BASE}/CN=localhost", hosts=("x",), key=grid.key, life=(-2 * DAY, -DAY)
    )
    old.write(certificate, key)
    assert "…/hostcert.pem: expired at 2" in fault(grid)
    grid.host.write(certificate, key)
    assert certificate.read_bytes() == good
    argv = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", str(key)]
    subprocess.run([*argv, "-out", str(key)], check=True, capture_output=True)
    assert "the key is encrypted" in fault(grid)
    key.unlink()
    assert fault(grid) == "…/hostkey.pem: can't be read: No such file or directory"
    grid.host.write(certificate, key)
    for file in grid.certificates.iterdir():
        file.unlink()
    assert fault(grid).startswith("…/certificates: has no CA certificate")
    grid.certificates.rmdir()
    assert fault(grid) == "…/certificates: can't be read: No such file or directory"


def test_an_address_that_can_not_be_had(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LETTING_GO", 0.3)
    for listen, said in (
        (f"127.0.0.1:{service.port}", "Address already in use"),
        ("127.0.0.1:99999", "port must be 0-65535"),
        ("192.0.2.1:1", "Cannot assign requested address"),
    ):
        with pytest.raises(WnodesError, match=said) as caught:
            server.listener(listen)
        assert listen in str(caught.value)
    with contextlib.closing(server.listener("[::1]:0")) as sock:
        assert sock.family == socket.AF_INET6


def test_an_address_that_is_just_being_freed() -> None:
    old = server.listener("127.0.0.1:0")
    address = old.getsockname()
    threading.Timer(0.3, old.close).start()
    with server.listener(f"127.0.0.1:{address[1]}") as new:
        assert new.getsockname() == address
