"""Cloud users: OCCI over TLS with a certificate of their own, each request timed."""

import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from contrib.scale.plan import BRIDGE_PORTS, BRIDGES, IMAGE
from wnodes_lrms.tls.client import trusting

_INFRA = "http://schemas.ogf.org/occi/infrastructure"
_OWN = "http://wnodes-lrms.invalid/occi/"
_NEW = json.dumps(
    {"kind": f"{_INFRA}#compute", "mixins": [f"{_OWN}os_tpl#{IMAGE}", f"{_OWN}resource_tpl#small"]}
)
_JSON = "application/occi+json"
_TIMEOUT = 30.0  # seconds
_IDLE = 2.0  # seconds after which a connection may have been closed by the bridge


@dataclass
class Times:
    """Seconds that requests took, by what they were for; and how many had no good answer."""

    taken: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, seconds: float) -> None:
        """One that was answered well."""
        with self.lock:
            self.taken.setdefault(what, []).append(seconds)

    def fail(self) -> None:
        """One that was not."""
        with self.lock:
            self.failed += 1


class NoAnswerError(Exception):
    """The bridge did not answer, or not as it should."""


class Client:
    """One user, over one connection to one bridge; when that does not answer, to the next.

    Not safe to use from many threads.
    """

    def __init__(self, site: Path, name: str, times: Times, bridge: str = BRIDGES[0]) -> None:
        """`site` is the site's folder; `bridge` is asked first."""
        context = trusting(str(site / "etc" / "grid-security" / "certificates"))
        context.load_cert_chain(str(site / "users" / f"{name}.pem"))
        self._context: ssl.SSLContext = context
        self._port = BRIDGE_PORTS[bridge]
        self._link: http.client.HTTPSConnection | None = None
        self._times = times
        self._used = 0.0  # when it was last, monotonic

    def create(self) -> str:
        """POST a VM; its path. Raises NoAnswerError."""
        status, said, location = self._ask("POST", "/compute/", "post", _NEW)
        if status != 201 or not location:
            raise NoAnswerError(f"POST: {status} {said[:200]!r}")
        return location.partition(f":{self._port}")[2]

    def state(self, path: str) -> str:
        """OCCI's word for the state of a VM; `gone` if there is none. Raises NoAnswerError."""
        status, said, _ = self._ask("GET", path, "get one")
        if status == 404:
            return "gone"
        if status != 200:
            raise NoAnswerError(f"GET {path}: {status}")
        state: str = json.loads(said)["attributes"]["occi.compute.state"]
        return state

    def list(self, what: str) -> list[str]:
        """The paths of all VMs; `what` is what the time is for. Raises NoAnswerError."""
        status, said, _ = self._ask("GET", "/compute/", what, accept="text/uri-list")
        if status != 200:
            raise NoAnswerError(f"GET /compute/: {status}")
        return [line.partition(f":{self._port}")[2] for line in said.decode().split()]

    def delete(self, path: str) -> None:
        """DELETE a VM. Raises NoAnswerError."""
        status, said, _ = self._ask("DELETE", path, "delete")
        if status not in (200, 404):
            raise NoAnswerError(f"DELETE {path}: {status} {said[:200]!r}")

    def close(self) -> None:
        """Let the connection go."""
        if self._link:
            self._link.close()
            self._link = None

    def _ask(
        self, verb: str, path: str, what: str, body: str | None = None, accept: str = _JSON
    ) -> tuple[int, bytes, str | None]:
        headers = {"Accept": accept} | ({"Content-Type": _JSON} if body else {})
        if time.monotonic() > self._used + _IDLE:
            self.close()
        if self._link is None:
            # Its handshake is no part of the request's time.
            self._link = http.client.HTTPSConnection(
                "localhost", self._port, timeout=_TIMEOUT, context=self._context
            )
            try:
                self._link.connect()
            except OSError as error:
                self._lost(error)
        begun = time.monotonic()
        try:
            self._link.request(verb, path, body, headers)
            answer = self._link.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._lost(error)
        self._used = time.monotonic()
        if answer.status >= 500:
            self._times.fail()
        else:
            self._times.add(what, time.monotonic() - begun)
        return answer.status, said, answer.headers["Location"]

    def _lost(self, error: Exception) -> NoReturn:
        self.close()
        ports = list(BRIDGE_PORTS.values())
        self._port = ports[(ports.index(self._port) + 1) % len(ports)]
        self._times.fail()
        raise NoAnswerError(f"the bridge has not answered: {error!r}") from error
