"""libvomsapi, the VOs' own verifier of attribute certificates (RFC 5755), through ctypes.

Only the verifier process may load this: the library parses hostile input in C++, and it shares
OpenSSL's error queue with whoever else is in the process. The structures are those of voms_apic.h,
version 2.
"""

import ctypes
import datetime
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_void_p
from dataclasses import dataclass
from typing import Any

_RECURSE_CHAIN = 0
_NO_ATTRIBUTES = 5  # VERR_NOEXT


class RefusedError(Exception):
    """The attributes are not what they seem."""


@dataclass(frozen=True)
class Attributes:
    """What one attribute certificate says, verified."""

    vo: str
    fqans: tuple[str, ...]
    until: float  # epoch seconds


class _Voms(ctypes.Structure):
    _fields_ = (
        ("siglen", c_int),
        ("signature", c_void_p),
        ("user", c_char_p),
        ("userca", c_char_p),
        ("server", c_char_p),
        ("serverca", c_char_p),
        ("voname", c_char_p),
        ("uri", c_char_p),
        ("date1", c_char_p),
        ("date2", c_char_p),
        ("type", c_int),
        ("std", c_void_p),
        ("custom", c_void_p),
        ("datalen", c_int),
        ("version", c_int),
        ("fqan", POINTER(c_char_p)),
        ("serial", c_char_p),
        ("ac", c_void_p),
        ("holder", c_void_p),
    )


class _VomsData(ctypes.Structure):
    _fields_ = (
        ("cdir", c_char_p),
        ("vdir", c_char_p),
        ("data", POINTER(POINTER(_Voms))),
        ("workvo", c_char_p),
        ("extra_data", c_char_p),
        ("volen", c_int),
        ("extralen", c_int),
        ("real", c_void_p),
    )


class Library:
    """The library, with the folders of the VOs' servers (LSC files) and of the CAs."""

    def __init__(self, voms_dir: str, ca_dir: str) -> None:
        """Raises OSError where it is not installed."""
        self._folders = (voms_dir.encode(), ca_dir.encode())
        self._crypto = ctypes.CDLL("libcrypto.so.3")
        self._voms = ctypes.CDLL("libvomsapi.so.1")
        for library, name, result, arguments in (
            (self._crypto, "d2i_X509", c_void_p, (c_void_p, POINTER(c_char_p), ctypes.c_long)),
            (self._crypto, "X509_free", None, (c_void_p,)),
            (self._crypto, "OPENSSL_sk_new_null", c_void_p, ()),
            (self._crypto, "OPENSSL_sk_push", c_int, (c_void_p, c_void_p)),
            (self._crypto, "OPENSSL_sk_free", None, (c_void_p,)),
            (self._voms, "VOMS_Init", POINTER(_VomsData), (c_char_p, c_char_p)),
            (self._voms, "VOMS_Destroy", None, (POINTER(_VomsData),)),
            (
                self._voms,
                "VOMS_Retrieve",
                c_int,
                (c_void_p, c_void_p, c_int, POINTER(_VomsData), POINTER(c_int)),
            ),
            (
                self._voms,
                "VOMS_ErrorMessage",
                c_char_p,
                (POINTER(_VomsData), c_int, c_char_p, c_int),
            ),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    def verify(self, chain: Sequence[bytes]) -> list[Attributes]:
        """The attributes in a chain (DER, leaf first), none if it has none.

        Raises RefusedError for any that is expired, tampered with, another user's, or from a
        server that is not known for its VO.
        """
        certificates = [self._certificate(der) for der in chain]
        stack = self._crypto.OPENSSL_sk_new_null()
        data = self._voms.VOMS_Init(*self._folders)
        try:
            if not data:
                raise RefusedError("the VOMS library could not be initialised")
            for certificate in certificates[1:]:
                self._crypto.OPENSSL_sk_push(stack, certificate)
            fault = c_int(0)
            if self._voms.VOMS_Retrieve(certificates[0], stack, _RECURSE_CHAIN, data, byref(fault)):
                return _attributes(data.contents)
            if fault.value == _NO_ATTRIBUTES:
                return []
            text = ctypes.create_string_buffer(1024)
            self._voms.VOMS_ErrorMessage(data, fault.value, text, len(text))
            raise RefusedError(" ".join(text.value.decode(errors="replace").split()))
        finally:
            if data:
                self._voms.VOMS_Destroy(data)
            self._crypto.OPENSSL_sk_free(stack)
            for certificate in certificates:
                self._crypto.X509_free(certificate)
            self._crypto.ERR_clear_error()

    def _certificate(self, der: bytes) -> int:
        certificate: int | None = self._crypto.d2i_X509(None, byref(c_char_p(der)), len(der))
        if certificate is None:
            raise RefusedError("a certificate that can't be read")
        return certificate


def _attributes(data: _VomsData) -> list[Attributes]:
    found = []
    for one in _until_null(data.data):
        voms = one.contents
        end = datetime.datetime.strptime(voms.date2.decode(), "%Y%m%d%H%M%SZ")
        found.append(
            Attributes(
                vo=voms.voname.decode(),
                fqans=tuple(fqan.decode() for fqan in _until_null(voms.fqan)),
                until=end.replace(tzinfo=datetime.UTC).timestamp(),
            )
        )
    return found


def _until_null(array: Any) -> Iterator[Any]:
    for item in array or ():
        if not item:
            return
        yield item
