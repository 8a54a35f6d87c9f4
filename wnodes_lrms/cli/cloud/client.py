"""The service as this command speaks to it: OCCI 1.2 in JSON (GFD.226), over HTTPS.

The service's refusals become ServiceError, with its own sentence; no answer becomes AwayError.
"""

import json
import os
import ssl
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from wnodes_lrms.cli.cloud import standing
from wnodes_lrms.cli.cloud.faults import AwayError, ServiceError
from wnodes_lrms.cli.credentials import Credentials
from wnodes_lrms.errors import WnodesError

if TYPE_CHECKING:
    import httpx

INFRA = "http://schemas.ogf.org/occi/infrastructure"
PATIENCE = 30.0  # seconds
_JSON = "application/occi+json"
_LONGEST = 16 << 20  # bytes of an answer

Document = Mapping[str, Any]


class Service:
    """One service, as one user sees it."""

    def __init__(self, url: str, shown: Credentials, patience: float = PATIENCE) -> None:
        """`url` has no slash at its end. Raises RejectedError if the credentials can't be used."""
        import httpx  # takes longer to import than all else of this command

        self._url = url
        self._shown = shown
        self._http = httpx.Client(
            verify=shown.context(os.environ),
            headers={**shown.headers, "Accept": _JSON},
            timeout=patience,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str) -> Any:
        """What is there: an entity, or the model."""
        return self._ask("GET", path)

    def members(self, kind: str) -> list[dict[str, Any]]:
        """All entities of a kind, as "compute"."""
        found = self._ask("GET", f"/{kind}/")
        return [*found.get("resources", []), *found.get("links", [])]

    def create(self, kind: str, document: Document) -> dict[str, Any]:
        """Make an entity of a kind; as it is then."""
        made: dict[str, Any] = self._ask(
            "POST", f"/{kind}/", {"kind": f"{INFRA}#{kind}", **document}
        )
        return made

    def act(self, path: str, action: str) -> None:
        """Carry out an action, by its first method."""
        kind = path.split("/")[1]
        self._ask("POST", f"{path}?action={action}", {"action": f"{INFRA}/{kind}/action#{action}"})

    def delete(self, path: str) -> None:
        """Delete what is there."""
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, document: Document | None = None) -> Any:
        import httpx

        body = None if document is None else json.dumps(document).encode()
        headers = {} if document is None else {"Content-Type": _JSON}
        request = self._http.build_request(method, self._url + path, content=body, headers=headers)
        try:
            with closing(self._http.send(request, stream=True)) as answer:
                content = _limited(answer)
        except httpx.TransportError as fault:
            raise self._away(fault, made=method == "POST") from fault
        return self._read(answer.status_code, answer.headers, content)

    def _away(self, fault: Exception, *, made: bool) -> WnodesError:
        """Why there is no answer."""
        import httpx

        said = str(fault) or type(fault).__name__
        if isinstance(fault, httpx.ConnectError):
            if isinstance(_cause(fault), ssl.SSLCertVerificationError):
                folder = os.environ.get("X509_CERT_DIR", "the usual places")
                return AwayError(
                    f"{self._url} is not trusted: {said}; the CAs that are trusted are in {folder}"
                    " (X509_CERT_DIR)"
                )
            made = False
        why = standing.fault(self._shown)
        if why:  # TLS says no more than that it failed
            return ServiceError(401, why)
        maybe = "; whether it was done is not known: look before you try again" if made else ""
        return AwayError(f"{self._url} does not answer: {said}{maybe}")

    def _read(self, status: int, headers: Mapping[str, str], content: bytes) -> Any:
        try:
            found = json.loads(content)
            if not isinstance(found, dict):
                raise TypeError
            if status in (200, 201):
                return found
            sentence = str(found["message"])
        except (ValueError, KeyError, TypeError) as fault:
            said = f"{self._url} is not a wnodes-bridge: it answers {status}"
            raise WnodesError(said) from fault
        if status == 401:
            why = standing.fault(self._shown)
            sentence += f"; {why}" if why else ""
        if status == 503 and headers.get("Retry-After", "").isdecimal():
            sentence += f"; try again in {headers['Retry-After']} s"
        raise ServiceError(status, sentence)


def _limited(answer: "httpx.Response") -> bytes:
    """The body, and no more than is sensible, however much comes."""
    content = b""
    for part in answer.iter_bytes():
        content += part
        if len(content) > _LONGEST:
            break
    return content


def _cause(fault: BaseException) -> BaseException:
    """What an exception of httpx came from."""
    while inner := fault.__cause__ or fault.__context__:
        fault = inner
    return fault
