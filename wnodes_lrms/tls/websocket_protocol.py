"""One WebSocket on TLS (RFC 6455): it knows its client's chain, as requests do.

uvicorn pauses whom the application does not keep up with, and what the application sends waits for
a client that does not read.
"""

import asyncio
import logging
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from wnodes_lrms.tls.context import Context
from wnodes_lrms.tls.http_protocol import CHAIN

log = logging.getLogger(__name__)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A request for a WebSocket, and what comes after it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the client's chain of certificates."""
        super().connection_made(transport)
        self._chain: tuple[bytes, ...] = ()
        context: Context = transport.get_extra_info("sslcontext")
        try:
            self._chain = context.chain(transport.get_extra_info("ssl_object"))
        except Exception:
            log.exception("a WebSocket from %s: its certificates can't be had", self.client)
            cast(asyncio.Transport, transport).abort()

    def data_received(self, data: bytes) -> None:
        """The first data are the whole request: what is none for a WebSocket ends here."""
        try:
            super().data_received(data)
        except UnicodeError:  # in its path
            self.transport.abort()
        if not self.handshake_initiated:
            self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        """Tell the application, whose task begins after this, of the chain."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), CHAIN: self._chain}  # type: ignore[dict-item]

    async def send(self, message: Any) -> None:
        """As its parent does. A refusal is an answer, too, and no fault of the application's."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def shutdown(self) -> None:
        """End it. For one that is closing already its parent would raise an error."""
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.transport.close()
        else:
            super().shutdown()
