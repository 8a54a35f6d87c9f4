"""One HTTP/1.1 connection on TLS: it knows its client's chain, and ends slow or greedy requests.

An application finds the verified chain in scope["extensions"]["wnodes.chain"]: DER certificates,
leaf first, root last; () for a client without certificate.
"""

import asyncio
import logging
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wnodes_lrms.tls.context import Context

CHAIN = "wnodes.chain"

_REQUEST = 60.0  # seconds for a whole request to come; applications may want it sooner
_HEAD = 262144  # bytes of request line and headers; user data may come in one

log = logging.getLogger(__name__)


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 on one TLS connection, with deadlines and limits that uvicorn does not have."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._chain: tuple[bytes, ...] = ()
        self._head: int | None = 0  # bytes of a head that is coming in; None: its end was seen
        self._too_large = False
        self._deadline: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the client's chain of certificates."""
        super().connection_made(transport)
        self._expect()
        context: Context = transport.get_extra_info("sslcontext")
        try:
            self._chain = context.chain(transport.get_extra_info("ssl_object"))
        except Exception:
            log.exception("a connection from %s: its certificates can't be had", self.client)
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._expected()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A head that never ends is cut off here: the parser would keep all of it."""
        super().data_received(data)
        if self._head is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > _HEAD:
                self._too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins: it gets a deadline, and its client's chain."""
        super().on_message_begin()
        self.scope["extensions"] = {CHAIN: self._chain}  # type: ignore[dict-item]
        self._head = 0
        self._expect()

    def on_headers_complete(self) -> None:
        """The head is here, if it is not too large."""
        self._head = None
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > _HEAD:
            self._too_large = True
            raise ValueError  # the parser makes it a fault of the request
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._expected()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, or has too large a head, and close."""
        if self._too_large:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
        else:
            super().send_400_response(msg)

    def shutdown(self) -> None:
        """End the connection: now if it is idle, as its client need not answer a farewell."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().shutdown()

    def _expect(self) -> None:
        self._expected()
        self._deadline = self.loop.call_later(_REQUEST, self.transport.abort)

    def _expected(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
