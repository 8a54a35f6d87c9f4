"""Tells clients which CAs are accepted: browsers offer their users only certificates of these.

A server names its CAs in the request for a certificate (RFC 8446, 4.2.4; RFC 5246, 7.4.4). Python's
ssl has no way to set these names, and OpenSSL's configuration ignores ClientCAFile in the section
that holds for all programs. OpenSSL shows each SSL_CTX that is made to whoever keeps extra data
with it (CRYPTO_get_ex_new_index(3)): so the one behind a context of Python's becomes known here,
and SSL_CTX_set_client_CA_list(3) is given the names. All is OpenSSL's public interface.
"""

import _ssl
import contextlib
import ctypes
import functools
import logging
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509

from wnodes_lrms.errors import WnodesError

_CA_FILE = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_MOST = 30000  # bytes of names: Java takes no handshake message of over 32 KiB
_OF_CONTEXTS = 1  # CRYPTO_EX_INDEX_SSL_CTX
_MADE = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_long,
    ctypes.c_void_p,
)

Made = TypeVar("Made")

log = logging.getLogger(__name__)


def names(ca_dir: str) -> list[bytes]:
    """The names (DER) of the CAs in a folder of OpenSSL's layout; none where they are too many for
    all clients to take. Raises OSError; a file that is not a certificate is skipped."""
    found: set[bytes] = set()
    for file in sorted(Path(ca_dir).iterdir()):
        if _CA_FILE.fullmatch(file.name):
            with contextlib.suppress(OSError, ValueError):  # OpenSSL trusts such a file as little
                found.add(x509.load_pem_x509_certificate(file.read_bytes()).subject.public_bytes())
    size = sum(len(name) + 2 for name in found)  # each with its length
    if size > _MOST:
        log.warning("%s: the CAs' names have %d bytes: clients are not told them", ca_dir, size)
        return []
    return sorted(found)


def naming(make: Callable[[], Made], found: Iterable[bytes]) -> Made:
    """What `make` makes, an ssl.SSLContext, whose clients are told these names of CAs."""
    openssl = _openssl()
    if openssl is None:
        return make()
    behind: list[int] = []
    openssl.seen.contexts = behind
    try:
        context = make()
    finally:
        del openssl.seen.contexts
    for one in behind:
        openssl.tell(one, found)
    return context


class _OpenSSL:
    """The library that Python's ssl is linked with."""

    def __init__(self, path: str) -> None:
        """Raises AttributeError, OSError, MemoryError, WnodesError where that can't be had."""
        library = ctypes.CDLL(path)  # its symbols, and those of what it is linked with
        pointer, number, nothing = ctypes.c_void_p, ctypes.c_int, None

        def function(name: str, result: Any, *arguments: Any) -> Any:
            made = getattr(library, name)
            made.restype, made.argtypes = result, arguments
            return made

        self.seen = threading.local()
        self._new = function("OPENSSL_sk_new_null", pointer)
        self._push = function("OPENSSL_sk_push", number, pointer, pointer)
        self._read = function("d2i_X509_NAME", pointer, pointer, pointer, ctypes.c_long)
        self._set = function("SSL_CTX_set_client_CA_list", nothing, pointer, pointer)
        register = function(
            "CRYPTO_get_ex_new_index",
            number,
            number,
            ctypes.c_long,
            pointer,
            _MADE,
            pointer,
            pointer,
        )
        self._watch = _MADE(self._made)  # has to live as long as the library
        if register(_OF_CONTEXTS, 0, None, self._watch, None, None) < 0:
            raise WnodesError("OpenSSL keeps no more data")

    def _made(self, context: int, *_: object) -> None:
        """Called in the thread that makes a context."""
        if hasattr(self.seen, "contexts"):
            self.seen.contexts.append(context)

    def tell(self, context: int, found: Iterable[bytes]) -> None:
        """Have the clients of this SSL_CTX told these names; it owns the list from now on."""
        stack = self._new()
        for name in found:
            text = ctypes.c_char_p(name)
            read = self._read(None, ctypes.byref(text), len(name))
            if read:
                self._push(stack, read)
        self._set(context, stack)


@functools.cache
def _openssl() -> _OpenSSL | None:
    """None where Python's OpenSSL is within Python itself, or lets nobody look on."""
    try:
        return _OpenSSL(_ssl.__file__)
    except (AttributeError, OSError, MemoryError, WnodesError) as error:
        log.warning("clients are not told which CAs' certificates serve: %s", error)
        return None
