"""HTTPS to one bait: mutual TLS with host certificates, JSON, deadlines and a largest answer.

Any fault is one of wnodes_lrms.errors. No answer, one that makes no sense, a fault of the bait's,
and a bait that does not know this bridge (403) are UnknownError: nothing follows from that for
anybody's VM.
"""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from wnodes_lrms.errors import (
    AbsentError,
    ConfigError,
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.validation import first_fault

Reply = TypeVar("Reply")

_LARGEST = 4 << 20  # bytes of an answer: many thousands of VMs or leases have less
_SENTENCE = 1000  # characters of an error
_PLAIN = {"Accept-Encoding": "identity"}  # a packed answer could be any size
_FAULTS: Mapping[int, type[WnodesError]] = {
    400: RejectedError,
    404: AbsentError,
    409: ConflictError,
    422: RejectedError,
}


class FailedError(UnknownError):
    """A bait has met a fault while it did something (500): how far it has come it does not say.

    `told` is the fault, for users.
    """


def client_context(certificate: str, key: str, ca_dir: str) -> ssl.SSLContext:
    """How the bridge shows who it is to baits, and knows them by their host names.

    CRLs count as in tls.server_context: all of a chain, where the folder has any. Raises
    ConfigError if a file can't be read or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(capath=ca_dir)
        if any(Path(ca_dir).glob("*.r[0-9]")):
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:  # ssl.SSLError too
        said = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(certificate, [f"can't be used with the key {key}: {said}"]) from error
    return context


class BaitConnection:
    """Connections to one bait, kept alive between requests."""

    def __init__(self, url: str, context: ssl.SSLContext | bool) -> None:
        """`context` is as client_context() makes it; nothing is connected yet."""
        self.url = url
        self._client = httpx.AsyncClient(
            base_url=url,
            verify=context,
            trust_env=False,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=4),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self,
        verb: str,
        path: str,
        patience: float,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> httpx.Response:
        """The reply to a request, within `patience` seconds. Raises as above."""
        try:
            async with asyncio.timeout(patience):
                async with self._client.stream(
                    verb, path, json=body, params=query, timeout=None, headers=_PLAIN
                ) as coming:
                    reply = await _whole(coming)
        except TimeoutError as error:
            raise UnknownError(f"bait {self.url}: no answer within {patience:g} s") from error
        except (httpx.HTTPError, OSError) as error:
            raise UnknownError(f"bait {self.url}: {error}") from error
        if reply.is_success:
            return reply
        raise fault(self.url, reply)


async def _whole(coming: httpx.Response) -> httpx.Response:
    """The reply with its body, as it came. Raises UnknownError for a body that is too large."""
    content = bytearray()
    async for piece in coming.aiter_raw():
        content += piece
        if len(content) > _LARGEST:
            raise UnknownError(f"bait {coming.url}: the answer has more than {_LARGEST} bytes")
    return httpx.Response(coming.status_code, content=bytes(content), request=coming.request)


def certificate_of(reply: httpx.Response) -> Any:
    """The certificate of who has answered, as ssl tells it; None where there is no TLS."""
    stream = reply.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream else None
    return tls.getpeercert() if tls else None


def fault(url: str, reply: httpx.Response) -> WnodesError:
    """What follows from an answer of a bait that is no success."""
    said = _sentence(reply)
    if reply.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
        return FailedError(f"bait {url}: {said}", told=said)
    kind = _FAULTS.get(reply.status_code, UnknownError)
    return kind(f"bait {url}: {said}" if reply.status_code >= 500 else said)


def _sentence(reply: httpx.Response) -> str:
    try:
        said = reply.json()["error"]
    except (ValueError, LookupError, TypeError):
        said = f"HTTP status {reply.status_code}"
    return str(said)[:_SENTENCE]


def read(form: TypeAdapter[Reply], reply: httpx.Response) -> Reply:
    """A reply as a value of this form. Raises UnknownError if it is none."""
    try:
        return form.validate_json(reply.content)
    except ValidationError as error:
        said = first_fault(error)
        raise UnknownError(f"bait {reply.url}: the answer makes no sense: {said}") from error
