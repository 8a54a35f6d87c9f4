"""A load generator for HTTP/1.1 over kept-alive connections, with a client certificate.

The usual ones (ab, wrk, h2load) can't do both. One request is on the way per connection; processes
share the work, for one interpreter would measure itself.
"""

import multiprocessing
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from wnodes_lrms.tls.client import trusting


@dataclass(frozen=True)
class Credential:
    """Of the client: a file with certificate chain and key, or a token; and the CAs' folder."""

    proxy: str
    ca_dir: str
    token: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # more, of each request


@dataclass(frozen=True)
class Run:
    """What a run has shown: every request's time in seconds, and the whole run's."""

    times: Sequence[float]
    elapsed: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.times) / self.elapsed

    def percentile(self, part: float) -> float:
        """Seconds that this part of the requests did not take longer than."""
        ordered = sorted(self.times)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def get(
    url: str, seconds: float, connections: int, who: Credential | None, accept: str = "text/plain"
) -> Run:
    """GET the URL again and again for so long. RuntimeError unless it is 200 or 304."""
    with multiprocessing.Pool(connections) as pool:
        found = pool.starmap(_one, [(url, seconds, who, accept)] * connections)
    slowest = max(elapsed for _, elapsed in found)
    return Run([t for times, _ in found for t in times], slowest)


def _one(
    url: str, seconds: float, who: Credential | None, accept: str
) -> tuple[list[float], float]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    more = {"Authorization": f"Bearer {who.token}"} if who and who.token else {}
    more |= who.headers if who else {}
    named = "".join(f"{name}: {value}\r\n" for name, value in more.items())
    request = (
        f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: {accept}\r\n"
        f"{named}\r\n"
    ).encode()
    link = socket.create_connection((host, port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if who:
        context = trusting(who.ca_dir)
        if who.proxy:
            context.load_cert_chain(who.proxy)
        link = context.wrap_socket(link, server_hostname=host)
    times = []
    begun = now = time.monotonic()
    while now - begun < seconds:
        link.sendall(request)
        _read(link)
        before, now = now, time.monotonic()
        times.append(now - before)
    link.close()
    return times, now - begun


def _read(link: socket.socket) -> None:
    data = link.recv(65536)
    while b"\r\n\r\n" not in data:
        data += _more(link)
    head, _, body = data.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 304"):
        return
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answer: {head.splitlines()[0].decode()}")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length")
    )
    left = length - len(body)
    while left > 0:
        left -= len(_more(link))


def _more(link: socket.socket) -> bytes:
    data = link.recv(262144)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data
