"""TLS contexts of our services: who is trusted is what lies in the folder of CA certificates.

The folder is in OpenSSL's layout (`<hash>.0`, CRLs `<hash>.r0`). Where it has any CRL, every CA in
a client's chain needs a valid one: OpenSSL's check is for the whole chain or none, and checking the
leaf only would take a revoked user's proxy. In a folder without any, nothing is checked.
"""

import contextlib
import contextvars
import datetime
import functools
import logging
import os
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509

from wnodes_lrms.errors import ConfigError, WnodesError
from wnodes_lrms.tls import ca_names

_CA_FILE = re.compile(r"([0-9a-f]{8})\.[0-9]+")
_CRL_FILE = re.compile(r"([0-9a-f]{8})\.r[0-9]+")
_SESSIONS = 64  # of TLS 1.2 that one context may have

# The connection that is being opened in this task, for the alert of a handshake that fails.
opening: contextvars.ContextVar[socket.socket] = contextvars.ContextVar("opening")

log = logging.getLogger(__name__)


class _Handshake(ssl.SSLObject):
    """The TLS side of a connection that tells the client why it is refused.

    Neither asyncio nor uvloop sends what OpenSSL has to say in the end, so that a revoked user
    would see a connection that just closes.
    """

    outgoing: ssl.MemoryBIO
    connection: socket.socket | None

    def do_handshake(self) -> None:
        """As its parent does, with the alert sent where it fails."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    self.connection.send(self.outgoing.read())
            raise


class Context(ssl.SSLContext):
    """A server's context that knows the verified chain of every client."""

    sslobject_class = _Handshake

    def __init__(self, protocol: int) -> None:  # noqa: ARG002 (its parent's __new__ takes it)
        self._chains: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any
    ) -> Any:
        """As its parent does; the connection is the one in `opening`."""
        made: Any = super().wrap_bio(incoming, outgoing, *args, **options)
        made.outgoing, made.connection = outgoing, opening.get(None)
        return made

    def chain(self, connection: ssl.SSLObject) -> tuple[bytes, ...]:
        """The chain as it was verified (DER, leaf first, the root last); () without certificate.

        A client of TLS 1.2 may resume a session by its id, which Python can't turn off; then
        there is only its own certificate, and the chain is the one that was verified for that in a
        whole handshake, under this same context. (Python's `session` would tell them apart, but it
        fails for certificates beyond 64 KiB, and never frees what it has copied.)
        """
        if connection.session_reused:
            return self._chains.get(connection.getpeercert(binary_form=True) or b"", ())
        chain = _verified_chain(connection)
        if chain and connection.version() == "TLSv1.2":
            self._chains[chain[0]] = chain
            self._chains.move_to_end(chain[0])
            if len(self._chains) > _SESSIONS:
                self._chains.popitem(last=False)
        return chain


def _verified_chain(connection: Any) -> tuple[bytes, ...]:
    if hasattr(connection, "get_verified_chain"):  # Python 3.13
        return tuple(connection.get_verified_chain())
    certificates = connection._sslobj.get_verified_chain() or ()
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in certificates)


def server_context(
    certificate: str, key: str, ca_dir: str, *, proxies: bool, require: bool, ask: bool = True
) -> Context:
    """A context for a service with this host certificate, whose clients the CAs here vouch for.

    proxies: clients may come with proxy certificates (RFC 3820). require: a client without a
    certificate is refused. ask: clients are asked for one at all; where they are not, no browser
    opens a list of certificates. Raises ConfigError in one line if a file can't be read or used, or
    if the certificate has expired.
    """
    _check(certificate, key)
    listed = has_crls(ca_dir)
    bare = functools.partial(Context, ssl.PROTOCOL_TLS_SERVER)
    # Browsers come to the services that do not require a certificate.
    named = ask and not require
    context = ca_names.naming(bare, ca_names.names(ca_dir)) if named else bare()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # a resumed session would come without its chain
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        said = error.reason if isinstance(error, ssl.SSLError) else str(error)
        raise ConfigError(certificate, [f"can't be used with the key {key}: {said}"]) from error
    context.load_verify_locations(capath=ca_dir)
    wanted = ssl.CERT_REQUIRED if require else ssl.CERT_OPTIONAL
    context.verify_mode = wanted if ask else ssl.CERT_NONE
    if proxies:
        context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
    if listed:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


class Trust:
    """The context as of now: made anew when the host certificate, a CA or a CRL has changed."""

    def __init__(self, certificate: str, key: str, ca_dir: str, make: Callable[[], Context]):
        """`make` makes a context of these files. Raises ConfigError as it does."""
        self._files = (certificate, key)
        self._ca_dir = ca_dir
        self._make = make
        self._stamp = self._look()
        self.context = make()

    def fresh(self) -> Context:
        """The context for a new connection: another one where this has many sessions.

        OpenSSL keeps each of TLS 1.2, with its certificates, for minutes and up to 20,480 of them.
        """
        if self.context.session_stats()["number"] >= _SESSIONS:
            try:
                self.context = self._make()
            except (WnodesError, OSError) as error:
                log.error("%s; going on with what was there before", error)
        return self.context

    def renew(self) -> bool:
        """Look at the files; whether there is a new context. Blocks for milliseconds.

        With files that can't be used the context stays, and that is logged once.
        """
        try:
            now = self._look()
            if now == self._stamp:
                return False
            self._stamp = now
            self.context = self._make()
        except (WnodesError, OSError) as error:
            log.error("%s; going on with what was there before", error)
            return False
        log.info("certificates: read anew from %s", self._ca_dir)
        return True

    def _look(self) -> object:
        return [stamp(file) for file in self._files], stamp_of(self._ca_dir)


def stamp_of(folder: str) -> object:
    """What changes whenever a file in the folder does."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, str(stamp(entry.path))) for entry in entries)
    except OSError as error:
        return error.strerror


def stamp(file: str | Path) -> object:
    """What changes whenever the file does."""
    try:
        status = os.stat(file)  # noqa: PTH116 (hundreds of them every second)
    except OSError as error:
        return error.strerror
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


def _check(certificate: str, key: str) -> None:
    try:
        own = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        Path(key).read_bytes()
    except OSError as error:
        raise ConfigError(str(error.filename), [f"can't be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError(certificate, ["is not a certificate in PEM form"]) from error
    end = own.not_valid_after_utc
    if end < datetime.datetime.now(datetime.UTC):
        raise ConfigError(certificate, [f"expired at {end:%Y-%m-%dT%H:%M:%SZ}: renew it"])


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def has_crls(ca_dir: str) -> bool:
    """Whether the folder has any CRL. Raises ConfigError if it can't be read or has no CA."""
    try:
        names = os.listdir(ca_dir)  # noqa: PTH208 (names only)
    except OSError as error:
        raise ConfigError(ca_dir, [f"can't be read: {error.strerror}"]) from error
    stems = {match[1] for name in names if (match := _CA_FILE.fullmatch(name))}
    listed = {match[1] for name in names if (match := _CRL_FILE.fullmatch(name))}
    if not stems:
        raise ConfigError(ca_dir, ["has no CA certificate under its hash (<hash>.0)"])
    if not listed:
        log.warning("%s: has no CRL at all: revoked certificates are taken", ca_dir)
    elif stems - listed:
        lacking = ", ".join(sorted(stems - listed))
        log.warning("%s: no CRL of %s: whom these CAs vouch for is refused", ca_dir, lacking)
    return bool(listed)
