"""A request's body, with a limit on its size and on the time that it may take."""

import asyncio

from starlette.types import Receive, Scope

from occi_bridge.occi.messages import OcciError

_BODY = 512 * 1024  # bytes
_DRAINED = 16  # times as much is read of one that is too long, or few clients read the answer
_BODY_TIME = 30.0  # seconds that a client has to send it


class Gone(Exception):  # noqa: N818 (not a fault of ours)
    """The client went away before it had sent its request."""


async def whole(scope: Scope, receive: Receive, most: int = _BODY) -> bytes:
    """The request's body, of `most` bytes. Raises OcciError 408, 413, and Gone."""
    headers = dict(scope["headers"])
    declared = int(headers.get(b"content-length", b"0"))
    drained = _DRAINED * most
    if declared > drained or (declared > most and b"expect" in headers):
        raise OcciError(413, f"the body has more than {most} bytes")
    content = bytearray()
    size = 0
    try:
        async with asyncio.timeout(_BODY_TIME):
            more = True
            while more and size <= drained:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                piece = message.get("body", b"")
                size += len(piece)
                if size <= most:
                    content += piece
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise OcciError(408, f"the body took longer than {_BODY_TIME:g} seconds") from error
    if size > most:
        raise OcciError(413, f"the body has more than {most} bytes")
    return bytes(content)
