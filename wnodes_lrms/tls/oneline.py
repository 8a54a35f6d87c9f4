r"""Names of certificates in one line, /C=IT/O=INFN/CN=Someone, however grid files spell them.

The form here is OpenSSL's X509_NAME_oneline up to 1.1: RDNs in order, short names of the types,
bytes that are not printable ASCII as \xHH. It is not injective: a value may look like another part,
or like an escape. Such values are refused, so that two names never have one line, and a line in a
file, which may escape what it likes, never means two names. Pure.
"""

import re
from collections.abc import Iterator

from wnodes_lrms.errors import RejectedError

# OpenSSL's short names. Other types are written as their number.
SHORT = {
    "2.5.4.15": "businessCategory",
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.46": "dnQualifier",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.44": "generationQualifier",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.7": "L",
    "2.5.4.97": "organizationIdentifier",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.16": "postalAddress",
    "2.5.4.17": "postalCode",
    "2.5.4.65": "pseudonym",
    "2.5.4.5": "serialNumber",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.4": "SN",
    "2.5.4.12": "title",
    "0.9.2342.19200300.100.1.1": "UID",
    "2.5.4.45": "x500UniqueIdentifier",
}

# What other programs write for the same type: OpenSSL's long names, Globus, Java, VOMS.
_SPELLINGS = {
    "commonname": "CN",
    "countryname": "C",
    "domaincomponent": "DC",
    "e": "emailAddress",
    "email": "emailAddress",
    "givenname": "GN",
    "localityname": "L",
    "organizationalunitname": "OU",
    "organizationname": "O",
    "s": "ST",
    "sp": "ST",
    "stateorprovincename": "ST",
    "streetaddress": "street",
    "surname": "SN",
    "userid": "UID",
}
_SPELLINGS |= {short.lower(): short for short in SHORT.values()} | SHORT

# Types at the top of a name: with them it can be told which end of a name comes first.
_TOP = frozenset({"C", "DC", "ST", "L", "O", "OU"})

_LOOKS_LIKE_A_PART = re.compile(r"[/+][A-Za-z0-9.]+=")
_LOOKS_ESCAPED = re.compile(r'\\([xX\\"/+,;<>=#]|[^ -~]|$)')  # what is not ASCII gets a \x
_PART = re.compile(r"([/+])([A-Za-z0-9.]+)=")  # of /C=IT/CN=Someone
_TYPE = re.compile(r"\s*([A-Za-z0-9.]+)\s*=")  # of CN=Someone, C=IT
_ESCAPE = re.compile(r'\\(?:[xX]([0-9A-Fa-f]{2})|([\\"/+,;<>=#]))')
_ESCAPE_2253 = re.compile(r'\\(?:[xX]?([0-9A-Fa-f]{2})|([\\"/+,;<>=# ]))')
_QUOTED = re.compile('"([^"]*)"')
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)+")
_BYTE = 0xDC00  # a byte that was escaped, until its text is put together: no text has these
_WILD = 0xFDD0  # a wildcard meanwhile: no text has these either


def value(text: str) -> str:
    """A value as it stands in a line. Raises RejectedError for one that could be misread."""
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise RejectedError(f"a name with control characters: {text!a}")
    if _LOOKS_LIKE_A_PART.search(text):
        raise RejectedError(f"a name with a value that looks like another part: {text!a}")
    if _LOOKS_ESCAPED.search(text):
        raise RejectedError(f"a name with a value that looks escaped: {text!a}")
    if text != text.strip():
        raise RejectedError(f"a name with a value that begins or ends with a space: {text!a}")
    return "".join(
        c if " " <= c <= "~" else "".join(f"\\x{byte:02X}" for byte in c.encode()) for c in text
    )


def normal(text: str) -> str:
    r"""A name out of a file, as it is written here.

    Read are the form with slashes, OpenSSL's `C = IT, CN = x` and RFC 2253's `CN=x,C=IT`; bytes as
    UTF-8 or escaped, \xc3 and \xC3, also those that need not be; types under their other names.
    Raises ValueError, with the reason, for what can't be read as the name of anybody.
    """
    text = text.strip()
    if any(_BYTE <= ord(c) < _BYTE + 0x400 for c in text):
        raise ValueError(f"{_told(text)} has bytes that are no UTF-8")
    parts = list(_slashed(text) if text.startswith("/") else _listed(text))
    if not parts:
        raise ValueError(f"{_told(text)} is no name of a certificate")
    try:
        return "".join(f"{sign}{_type(key)}={value(_decoded(raw))}" for sign, key, raw in parts)
    except RejectedError as error:
        raise ValueError(str(error)) from error


def text(line: str) -> str:
    """A name as it is written here, with its characters instead of their escapes."""
    return _decoded(_ESCAPE.sub(_mark, line))


def matcher(text: str, wildcards: dict[str, str]) -> re.Pattern[str]:
    """What fits a name with wildcards; each with the regular expression of what it stands for.

    A wildcard that is escaped stands for itself. Raises ValueError as normal() does.
    """
    if text.strip() in ("*", "/*") and "*" in wildcards:
        return re.compile(wildcards["*"])
    marks = {wild: chr(_WILD + number) for number, wild in enumerate(wildcards)}
    if any(mark in text for mark in marks.values()):
        raise ValueError(f"{_told(text)} has characters that are none")
    for wild, mark in marks.items():
        text = text.replace(wild, mark)
    pattern = re.escape(normal(text))
    for wild, mark in marks.items():
        pattern = pattern.replace(re.escape(value(mark)), wildcards[wild])
    return re.compile(pattern)


def _slashed(text: str) -> Iterator[tuple[str, str, str]]:
    """Sign, type and value of each part, where the name begins with a slash."""
    marked = _ESCAPE.sub(_mark, text)
    found = list(_PART.finditer(marked))
    if found and found[0].start() == 0:
        ends = [match.start() for match in found[1:]] + [len(marked)]
        for match, end in zip(found, ends, strict=True):
            yield match[1], match[2], marked[match.end() : end]


def _listed(text: str) -> Iterator[tuple[str, str, str]]:
    """The same of a list with commas, whichever end of the name it begins with."""
    marked = _QUOTED.sub(_mark_all, _ESCAPE_2253.sub(_mark, text))
    rdns = []
    for part in re.split("[,;]", marked):
        match = _TYPE.match(part)
        raw = part[match.end() :].strip() if match else "#"
        # #… is BER in hexadecimal; of parts joined by + nobody knows the order.
        if not match or raw.startswith("#") or any(c in raw for c in '+\\"<>'):
            raise ValueError(f"{_told(text)} is no name of a certificate")
        rdns.append(("/", match[1], raw))
    first, last = (_type(key) in _TOP for _, key, _ in (rdns[0], rdns[-1]))
    if first == last:
        raise ValueError(
            f"{_told(text)}: which end of it comes first can't be told: write it as /C=…/CN=…"
        )
    yield from rdns if first else reversed(rdns)


def _type(key: str) -> str:
    bare = key.lower().removeprefix("oid.")
    if bare not in _SPELLINGS and not _NUMBER.fullmatch(bare):
        raise ValueError(f"«{key}» is no type that is known here: write its number instead")
    return _SPELLINGS.get(bare, bare)


def _mark_all(quoted: re.Match[str]) -> str:
    """A value in quotes: nothing in it is a sign."""
    return "".join(c if ord(c) >= _BYTE else chr(_BYTE + ord(c)) for c in quoted[1])


def _mark(escape: re.Match[str]) -> str:
    return chr(_BYTE + (int(escape[1], 16) if escape[1] else ord(escape[2])))


def _decoded(raw: str) -> str:
    """A value whose escaped bytes become text. Raises ValueError where that is no UTF-8."""
    data = b"".join(
        bytes([ord(c) - _BYTE]) if _BYTE <= ord(c) < _BYTE + 0x100 else c.encode() for c in raw
    )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"a name with bytes that are no UTF-8: {data!a}") from error


def _told(text: str) -> str:
    return f"«{ascii(text)[1:-1]}»"
