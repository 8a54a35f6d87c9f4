"""OpenSSL's verification of a chain that did not come by TLS, through ctypes.

Only the verifier process uses this: libcrypto shares its error queue with Python's TLS.
"""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_ulong, c_void_p
from typing import Any

from wnodes_lrms.errors import RejectedError

_CRLS = 0x4 | 0x8  # X509_V_FLAG_CRL_CHECK and _ALL: of the whole chain


class Anchors:
    """The CAs in a folder (`<hash>.0`, `<hash>.r0`), as they are when they are first needed."""

    def __init__(self, ca_dir: str, *, crls: bool) -> None:
        """crls: every CA of a chain needs a valid one. Raises OSError without OpenSSL 3."""
        self._openssl = ctypes.CDLL("libcrypto.so.3")
        for name, result, *arguments in (
            ("d2i_X509", c_void_p, c_void_p, POINTER(c_char_p), c_long),
            ("i2d_X509", c_int, c_void_p, POINTER(c_void_p)),
            ("X509_free", None, c_void_p),
            ("OPENSSL_sk_new_null", c_void_p),
            ("OPENSSL_sk_push", c_int, c_void_p, c_void_p),
            ("OPENSSL_sk_num", c_int, c_void_p),
            ("OPENSSL_sk_value", c_void_p, c_void_p, c_int),
            ("OPENSSL_sk_free", None, c_void_p),
            ("X509_STORE_new", c_void_p),
            ("X509_STORE_load_path", c_int, c_void_p, c_char_p),
            ("X509_STORE_set_flags", c_int, c_void_p, c_ulong),
            ("X509_STORE_CTX_new", c_void_p),
            ("X509_STORE_CTX_init", c_int, c_void_p, c_void_p, c_void_p, c_void_p),
            ("X509_STORE_CTX_free", None, c_void_p),
            ("X509_STORE_CTX_get_error", c_int, c_void_p),
            ("X509_STORE_CTX_get0_chain", c_void_p, c_void_p),
            ("X509_verify_cert", c_int, c_void_p),
            ("X509_verify_cert_error_string", c_char_p, c_long),
            ("ERR_clear_error", None),
        ):
            function: Any = getattr(self._openssl, name)
            function.restype, function.argtypes = result, arguments
        self._store = self._openssl.X509_STORE_new()
        self._openssl.X509_STORE_load_path(self._store, ca_dir.encode())
        self._openssl.X509_STORE_set_flags(self._store, _CRLS if crls else 0)

    def chain(self, certificate: bytes, others: Sequence[bytes]) -> tuple[bytes, ...]:
        """The verified chain of a certificate, from it to a CA of the folder; all are DER.

        `others` may be of use on the way, and are not trusted. Raises RejectedError.
        """
        openssl = self._openssl
        with ExitStack() as after:
            after.callback(openssl.ERR_clear_error)

            def kept(value: Any, free: Callable[[Any], None]) -> Any:
                if not value:
                    raise RejectedError("a certificate that can't be read")
                after.callback(free, value)
                return value

            def read(der: bytes) -> Any:
                found = openssl.d2i_X509(None, byref(c_char_p(der)), len(der))
                return kept(found, openssl.X509_free)

            leaf = read(certificate)
            untrusted = kept(openssl.OPENSSL_sk_new_null(), openssl.OPENSSL_sk_free)
            for other in others:
                openssl.OPENSSL_sk_push(untrusted, read(other))
            context = kept(openssl.X509_STORE_CTX_new(), openssl.X509_STORE_CTX_free)
            begun = openssl.X509_STORE_CTX_init(context, self._store, leaf, untrusted)
            if begun != 1 or openssl.X509_verify_cert(context) != 1:
                fault = openssl.X509_STORE_CTX_get_error(context)
                raise RejectedError(openssl.X509_verify_cert_error_string(fault).decode())
            found = openssl.X509_STORE_CTX_get0_chain(context)
            each = range(openssl.OPENSSL_sk_num(found))
            return tuple(self._der(openssl.OPENSSL_sk_value(found, number)) for number in each)

    def _der(self, certificate: int) -> bytes:
        size = self._openssl.i2d_X509(certificate, None)
        written = ctypes.create_string_buffer(size)
        self._openssl.i2d_X509(certificate, byref(c_void_p(ctypes.addressof(written))))
        return written.raw
