"""HTTPS to one issuer: only hosts that are configured, no redirects, bounded in size and time.

Any fault is UnknownError: nothing follows from that for anybody. No secret is in it, or in a log.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from occi_bridge.identity import jws
from wnodes_lrms.config.load import Issuer
from wnodes_lrms.errors import ConfigError, RejectedError, UnknownError

_LARGEST = 512 * 1024  # bytes of an answer
_PATIENCE = 5.0  # seconds for a whole answer
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}  # packed has any size
_DISCOVERY = "/.well-known/openid-configuration"


class IssuerClient:
    """What may be asked of an issuer. For one event loop."""

    def __init__(self, issuer: Issuer) -> None:
        """Raises ConfigError if `ca_dir` can't be read."""
        self._url = issuer.url
        self._hosts = {_place(httpx.URL(issuer.url)), *(_listed(host) for host in issuer.hosts)}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if issuer.ca_dir:
            context.load_verify_locations(capath=_readable(issuer.ca_dir))
        else:
            context.load_default_certs()
        self._client = httpx.AsyncClient(
            verify=context,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=1),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # or users would share one
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def metadata(self) -> dict[str, Any]:
        """The issuer's discovery document (OpenID Connect Discovery 1.0), its `issuer` checked."""
        found = await self.ask("GET", self._url.rstrip("/") + _DISCOVERY)
        if found.get("issuer") != self._url:
            raise UnknownError(f"issuer {self._url}: its metadata are another issuer's")
        return found

    async def ask(
        self,
        verb: str,
        url: object,
        *,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON object that is at a URL out of the metadata."""
        place = self.allowed(url)
        request = self._client.build_request(
            verb, place, headers={**_HEADERS, **(headers or {})}, data=data, timeout=None
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await self._client.send(
                    request, stream=True, auth=httpx.BasicAuth(*auth) if auth else None
                )
                try:
                    content = await self._content(answer)
                finally:
                    await answer.aclose()
        except TimeoutError as error:
            raise self._unknown(f"no answer within {_PATIENCE:g} s") from error
        except (httpx.HTTPError, OSError) as error:
            raise self._unknown(str(error) or type(error).__name__) from error
        try:
            return jws.once(content, "its answer")
        except RejectedError as error:
            raise self._unknown(str(error)) from error

    def allowed(self, url: object) -> httpx.URL:
        """A URL out of the metadata, on a host that may be. Raises UnknownError."""
        try:
            place = httpx.URL(url if isinstance(url, str) else "")
            known = place.scheme == "https" and not place.userinfo and not place.fragment
            if known and _place(place) in self._hosts:
                return place
        except (httpx.InvalidURL, ValueError):
            pass
        said = ascii(url)[:200]
        raise self._unknown(f"its metadata name {said}, which is not https on a host allowed here")

    async def _content(self, answer: httpx.Response) -> bytes:
        if answer.status_code != httpx.codes.OK:
            raise self._unknown(f"HTTP status {answer.status_code} from {answer.url.host}")
        content = bytearray()
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > _LARGEST:
                raise self._unknown(f"an answer of more than {_LARGEST} bytes")
        return bytes(content)

    def _unknown(self, said: str) -> UnknownError:
        return UnknownError(f"issuer {self._url}: {said}")


def _readable(folder: str) -> str:
    try:
        os.listdir(folder)  # noqa: PTH208 (OpenSSL itself says nothing of a folder that it can't read)
    except OSError as error:
        raise ConfigError(folder, [f"can't be read: {error.strerror}"]) from error
    return folder


def _place(url: httpx.URL) -> tuple[str, int]:
    return url.host.lower(), url.port or 443


def _listed(host: str) -> tuple[str, int]:
    return _place(httpx.URL(f"https://{host}"))
