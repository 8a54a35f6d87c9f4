"""The service as this command speaks to it: OCCI 1.2 in JSON (GFD.226), over HTTPS.

The service's refusals become ServiceError, with its own sentence; no answer becomes AwayError.
"""

import json
import os
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from wnodes_lrms.cli.cloud import standing
from wnodes_lrms.cli.cloud.faults import AwayError, ServiceError
from wnodes_lrms.cli.credentials import Credentials
from wnodes_lrms.cli.out import progress
from wnodes_lrms.errors import RejectedError, WnodesError

if TYPE_CHECKING:
    import httpx

INFRA = "http://schemas.ogf.org/occi/infrastructure"
PATIENCE = 30.0  # seconds
_JSON = "application/occi+json"
_LONGEST = 16 << 20  # bytes of an answer
_SOON = 30  # seconds
SKEW = 60.0  # seconds that the service's clock may be ahead

Document = Mapping[str, Any]
# What the user is known by now, after it was renewed; None where it could not be.
Renew = Callable[[], Credentials | None]


class Service:
    """One service, as one user sees it."""

    def __init__(
        self,
        url: str,
        known: Credentials,
        patience: float = PATIENCE,
        tries: int = 3,
        renew: Renew | None = None,
    ) -> None:
        """`url` has no slash at its end, `patience` is in seconds.

        Where the service says to come again soon, it is asked as often as `tries`. Where it does
        not take what has ended by now, it is asked once more with what `renew` gives. Raises
        RejectedError if the credentials can't be used.
        """
        self._url = url
        self._patience = patience
        self._tries = tries
        self._renew = renew
        self._begin(known)

    def _begin(self, known: Credentials) -> None:
        """Be known by this from now on."""
        import httpx  # takes longer to import than all else of this command

        self._http = httpx.Client(
            verify=known.context(os.environ),
            headers={**known.headers, "Accept": _JSON},
            timeout=self._patience,
        )
        self._known = known
        self._end = standing.end(known) if self._renew else None

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
        """Make an entity of a kind; as it is then. Raises WnodesError if that may not be read."""
        made: dict[str, Any] = self._ask(
            "POST", f"/{kind}/", {"kind": f"{INFRA}#{kind}", **document}
        )
        if "id" not in made:
            raise WnodesError(f"the {kind} is made, but your token may not read it (compute.read)")
        return made

    def act(self, path: str, action: str, **attributes: object) -> dict[str, Any]:
        """Carry out an action, by its first method; what it has made, if it makes anything."""
        kind = path.split("/")[1]
        body = {"action": f"{INFRA}/{kind}/action#{action}", "attributes": attributes}
        made: dict[str, Any] = self._ask("POST", f"{path}?action={action}", body)
        return made

    def delete(self, path: str) -> None:
        """Delete what is there."""
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, document: Document | None = None) -> Any:
        try:
            return self._ask_patiently(method, path, document)
        except ServiceError as fault:
            if not (fault.unknown_user and self._renewed()):  # what is refused has not been done
                raise
        return self._ask_patiently(method, path, document)

    def _renewed(self) -> bool:
        """Whether what the user was known by has ended, and something else has taken its place."""
        if not self._renew or self._end is None or time.time() < self._end - SKEW:
            return False
        try:
            known, before = self._renew(), self._http
            if known is None:
                return False
            self._begin(known)
            before.close()
        except RejectedError as fault:
            progress(str(fault))
            return False
        return True

    def _ask_patiently(self, method: str, path: str, document: Document | None) -> Any:
        for _ in range(self._tries - 1):
            try:
                return self._ask_once(method, path, document)
            except ServiceError as fault:
                if not 0 < fault.again <= _SOON:  # what is refused so has not been done
                    raise
                progress(f"{fault}; waiting")
                time.sleep(fault.again)
        return self._ask_once(method, path, document)

    def _ask_once(self, method: str, path: str, document: Document | None) -> Any:
        import httpx

        body = None if document is None else json.dumps(document).encode()
        headers = {} if document is None else {"Content-Type": _JSON}
        request = self._http.build_request(method, self._url + path, content=body, headers=headers)
        try:
            with closing(self._http.send(request, stream=True)) as answer:
                content = _limited(answer)
        except httpx.RequestError as fault:
            raise self._away(fault, made=method == "POST") from fault
        return self._read(answer.status_code, answer.headers, content)

    def _away(self, fault: Exception, *, made: bool) -> WnodesError:
        """Why there is no answer."""
        import httpx

        said, cause = str(fault) or type(fault).__name__, _cause(fault)
        if isinstance(cause, ssl.SSLCertVerificationError):
            folder = os.environ.get("X509_CERT_DIR", "the usual places")
            return AwayError(
                f"{self._url} is not trusted: {said}; the CAs that are trusted are in {folder}"
                " (X509_CERT_DIR)"
            )
        unheard = isinstance(fault, httpx.ConnectError | httpx.TimeoutException)
        # TLS says little of what it refuses: but it never saw a token.
        if isinstance(cause, ssl.SSLError) or not (unheard or self._known.token):
            why = standing.fault(self._known) or _alert(cause)
            if why:
                return ServiceError(401, why)
        maybe = "; whether it was done is not known: look before you try again"
        lost = made and not isinstance(fault, httpx.ConnectError)
        return AwayError(f"{self._url} does not answer: {said}{maybe if lost else ''}")

    def _read(self, status: int, headers: Mapping[str, str], content: bytes) -> Any:
        try:
            found = json.loads(content)
            if not isinstance(found, dict):
                raise TypeError
            if status in (200, 201):
                return found
            sentence = str(found["message"])
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            said = f"{self._url} is not a wnodes-bridge: it answers {status}"
            raise WnodesError(said) from fault
        if status == 401:
            why = standing.fault(self._known)
            sentence += f"; {why}" if why else ""
        again = headers.get("Retry-After", "") if status == 503 else ""
        seconds = int(again) if again.isdecimal() and len(again) < 6 else 0
        raise ServiceError(status, sentence, seconds)


def _limited(answer: "httpx.Response") -> bytes:
    """The body, and no more than is sensible, however much comes."""
    content = bytearray()
    for part in answer.iter_bytes():
        content += part
        if len(content) > _LONGEST:
            break
    return bytes(content)


def _cause(fault: BaseException) -> BaseException:
    """What an exception of httpx came from."""
    while inner := fault.__cause__ or fault.__context__:
        fault = inner
    return fault


def _alert(cause: BaseException) -> str:
    """What TLS has said of the user's certificate, as "certificate revoked"; "" for all else."""
    reason = (isinstance(cause, ssl.SSLError) and cause.reason) or ""
    what = reason.partition("ALERT_")[2].replace("_", " ").lower()
    return f"it refuses your certificate: {what}" if what else ""
