"""HTTPS for our services: uvicorn, on sockets and TLS contexts of ours.

Certificates and CRLs are those of now. What slow or silent clients can hold is bounded.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from wnodes_lrms.descriptors import allow_many
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.tls.context import Trust, opening, server_context
from wnodes_lrms.tls.http_protocol import Protocol

_HANDSHAKE = 10.0  # seconds for a client to complete TLS
_UNREAD = 30.0  # seconds that a client may leave an answer untaken
_IDLE = 60  # seconds between two requests
_PARTING = 5  # seconds for the requests at hand when the service stops
_BACKLOG = 2048
_LETTING_GO = 5.0  # seconds for a service that was killed to let go of its port
_AGAIN = 0.1  # seconds between two attempts to have it
_LOOK = 5.0  # seconds between two looks at certificates and CRLs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Door:
    """A listening socket: what answers there, and with which TLS."""

    config: uvicorn.Config
    sock: socket.socket
    trust: Trust


class _State(ServerState):
    """What the connections of a server share. The headers that all answers have are made where
    there is an answer, and not each second."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._headers: tuple[int, list[tuple[bytes, bytes]]] = (0, [])  # of which second
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The date, and what is configured."""
        now = int(time.time())
        if now != self._headers[0]:
            date = formatdate(now, usegmt=True).encode()
            self._headers = now, [(b"date", date), *self._config.encoded_headers]
        return self._headers[1]

    @default_headers.setter
    def default_headers(self, _none: list[tuple[bytes, bytes]]) -> None:
        """Its parent begins with none."""


class Server(uvicorn.Server):
    """uvicorn's server on our TLS. `run()` serves until `should_exit` is set or SIGTERM comes."""

    def __init__(self, *doors: Door) -> None:
        """Of several doors the application of the first has its lifespan."""
        self._leave = False  # before its parent's, who sets should_exit
        self._left: Callable[[], None] = lambda: None
        super().__init__(doors[0].config)
        self.server_state = _State(doors[0].config)
        self._doors = doors
        self._most = allow_many() // 2  # connections; files are opened beside them
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def should_exit(self) -> bool:
        """Whether it is to end. May be set from any thread."""
        return self._leave

    @should_exit.setter
    def should_exit(self, wanted: bool) -> None:
        if wanted:
            self._leave = True
            self._left()

    async def main_loop(self) -> None:
        """Until it is to end. Its parent looks ten times a second whether it is."""
        loop, left = asyncio.get_running_loop(), asyncio.Event()
        self._left = functools.partial(_tell, loop, left.set)
        if not self._leave:
            await left.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Start the application, then take connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise WnodesError("the application could not start; see the log above")
        self.servers = []
        for door in self._doors:
            if not door.config.loaded:
                door.config.load()
            self._start(self._accept(door))
        self._start(self._watch())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Take no more connections, complete the requests at hand, end the application."""
        for task in list(self._tasks):
            task.cancel()
        await super().shutdown([door.sock for door in self._doors])

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, door: Door) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(door.sock)
            except OSError as error:  # most likely: no descriptor is left
                log.error("can't take a connection: %s", error.strerror)
                await asyncio.sleep(1)
                continue
            if len(self._tasks) + len(self.server_state.connections) < self._most:
                self._start(self._open(door, connection, peer[0]))
            else:
                connection.close()

    async def _open(self, door: Door, connection: socket.socket, address: str) -> None:
        """TLS with the context of now, in a task of its own: whoever is slow delays nobody."""
        opening.set(connection)
        make = functools.partial(Protocol, door.config, self.server_state, self.lifespan.state)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make,
                connection,
                ssl=door.trust.fresh(),
                ssl_handshake_timeout=_HANDSHAKE,
                ssl_shutdown_timeout=_UNREAD,
            )
        except ssl.SSLCertVerificationError as error:
            log.info("refused at TLS: address=%s reason=%s", address, error.verify_message)
        except ssl.SSLError as error:
            if error.reason == "EXCESSIVE_MESSAGE_SIZE":
                log.info("refused at TLS: address=%s reason=certificates of over 100 KiB", address)
            else:
                log.debug("no TLS with %s: %s", address, error)
        except OSError as error:
            log.debug("no TLS with %s: %s", address, error)
        except Exception:
            log.exception("a connection from %s ended in a fault of the service", address)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # the transport sees the end, and goes

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                renewed = [await asyncio.to_thread(door.trust.renew) for door in self._doors]
            except Exception:  # revoked certificates would be taken from here on
                log.exception("certificates and CRLs could not be looked at; trying again")
                continue
            if any(renewed):
                # Who is connected was trusted by the old files: all come again.
                for connection in list(self.server_state.connections):
                    connection.shutdown()


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(call)


def serve(
    app: Any,
    listen: str,
    certificate: str,
    key: str,
    ca_dir: str,
    *,
    proxies: bool,
    require: bool,
    messages: int | None = None,
    sock: socket.socket | None = None,
    more: Sequence[Door] = (),
) -> Server:
    """A server for the ASGI application `app`, ready to `run()`, in any thread.

    The arguments are those of door(); `more` are other doors of the same server.
    """
    options = {"proxies": proxies, "require": require}
    first = door(app, listen, certificate, key, ca_dir, **options, messages=messages, sock=sock)
    return Server(first, *more)


def door(
    app: Any,
    listen: str,
    certificate: str,
    key: str,
    ca_dir: str,
    *,
    proxies: bool = False,
    require: bool = False,
    ask: bool = True,
    messages: int | None = None,
    sock: socket.socket | None = None,
) -> Door:
    """A door to the ASGI application `app`.

    listen: address:port; or `sock`, a listening socket that several processes may share. messages:
    WebSockets are taken, too, with messages of so many bytes at most; None: they are not. The
    files and flags are those of tls.server_context; they are looked at every few seconds, and what
    has changed holds for connections from then on. Raises ConfigError, also where the address can't
    be had.
    """
    make = functools.partial(
        server_context, certificate, key, ca_dir, proxies=proxies, require=require, ask=ask
    )
    trust = Trust(certificate, key, ca_dir, make)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none" if messages is None else cast(type[asyncio.Protocol], _websocket),
        ws_max_size=messages or 0,
        ws_per_message_deflate=False,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address in the log is the peer's, whatever it says
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_PARTING,
    )
    return Door(config, _limited(sock or listener(listen)), trust)


def _websocket(**given: Any) -> asyncio.Protocol:
    """The protocol of one WebSocket. Few nodes have one, ever: its library is not there before."""
    from wnodes_lrms.tls.websocket_protocol import WebSocketProtocol

    return WebSocketProtocol(**given)


def listener(listen: str) -> socket.socket:
    """A listening socket on address:port; an IPv6 address is in brackets.

    A service that was killed may hold its port for a moment more: that is waited for. Raises
    WnodesError where it can't be had.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = time.monotonic() + _LETTING_GO
    while True:
        try:
            return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            held = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not held or time.monotonic() > until:
                said = error.strerror if isinstance(error, OSError) else error
                raise WnodesError(f"can't listen on {listen}: {said}") from error
        time.sleep(_AGAIN)


def _limited(sock: socket.socket) -> socket.socket:
    """A connection inherits these: one whose peer is gone or does not read ends by itself."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNREAD * 1000))
    return sock
