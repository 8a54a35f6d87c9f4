"""Values of attributes checked: type, form, limits; public keys and user data. Pure."""

import base64
import binascii
import re
from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from occi_bridge.occi import schema
from occi_bridge.occi.messages import OcciError, Value
from occi_bridge.occi.model import Attribute
from occi_bridge.occi.parse_common import path_of, shown

_KEY_KINDS = re.compile(r"(?<!\S)(?:(?:sk-)?ssh-[a-z0-9@.-]+|(?:sk-)?ecdsa-[a-z0-9@.-]+) +AAAA")
_RSA_LEAST = 1024  # bits: what OpenSSH takes
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def checked(attribute: Attribute, value: Value) -> Value:
    """The value as the service keeps it. Raises OcciError 400, which names the attribute."""
    name = attribute.name
    if attribute.type == "string":
        return _string(attribute, value)
    whole = attribute.type == "integer"
    if isinstance(value, bool | str) or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        quoted = "the text " if isinstance(value, str) else ""
        raise OcciError(400, f"{name}: {kind} is needed, not {quoted}«{shown(value)}»")
    if attribute.least is not None and value < attribute.least:
        raise OcciError(400, f"{name}: {value} is less than {attribute.least:g}")
    if attribute.most is not None and value > attribute.most:
        raise OcciError(400, f"{name}: {value} is more than {attribute.most:g}")
    return int(value) if whole else value


def _string(attribute: Attribute, value: Value) -> str:
    name = attribute.name
    if not isinstance(value, str):
        raise OcciError(400, f"{name}: text in quotes is needed, not «{shown(value)}»")
    if name in _SPECIAL:
        value = _SPECIAL[name](value)
    if len(value) > attribute.longest:
        raise OcciError(400, f"{name}: longer than {attribute.longest} characters")
    if _CONTROL.search(value):
        raise OcciError(400, f"{name}: control characters are not allowed")
    if attribute.values and value not in attribute.values:
        raise OcciError(400, f"{name}: «{shown(value)}» is none of {', '.join(attribute.values)}")
    if attribute.form and not re.fullmatch(attribute.form, value):
        raise OcciError(400, f"{name}: «{shown(value)}» is not {attribute.meaning}")
    return value


def _public_key(text: str) -> str:
    """An OpenSSH public key, on one line. Raises OcciError 400."""
    key = text.removeprefix("\ufeff").strip()
    fault = _no_key(key)
    if fault:
        raise OcciError(400, f"{schema.PUBLIC_KEY}: {fault}")
    try:
        found = load_ssh_public_key(key.encode())
        if isinstance(found, dsa.DSAPublicKey):
            raise OcciError(400, f"{schema.PUBLIC_KEY}: SSH servers take no DSA keys any more")
        if isinstance(found, rsa.RSAPublicKey) and found.key_size < _RSA_LEAST:
            raise OcciError(
                400,
                f"{schema.PUBLIC_KEY}: RSA of {found.key_size} bits: {_RSA_LEAST} are the least",
            )
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise OcciError(
            400,
            f"{schema.PUBLIC_KEY}: «{shown(key)}» is not an OpenSSH public key, "
            "as in ssh-ed25519 AAAA… name",
        ) from error
    return key


def _no_key(key: str) -> str:
    """What a text is that somebody took for a public key; empty if it may be one."""
    if "PRIVATE KEY" in key or key.startswith("PuTTY-User-Key-File"):
        return "that is a private key; keep it, send the .pub"
    if "-cert-" in key.partition(" ")[0]:
        return "that is a certificate; send the key that it is for, the .pub"
    kinds = list(_KEY_KINDS.finditer(key))
    if len(kinds) > 1:
        return "more than one key; one can be given"
    if key.startswith("----"):
        return "that is not OpenSSH's form, as in ssh-ed25519 AAAA… name; `ssh-keygen -i` writes it"
    if len(key.splitlines()) > 1:
        return "a key is one line, as in ssh-ed25519 AAAA… name; this has more"
    if kinds and kinds[0].start():
        return "something is before the key: options can't be given, it begins with its kind"
    return ""


def _user_data(text: str) -> str:
    """Base64 (RFC 4648) without white space. Raises OcciError 400, also for what is meant to be run
    and would not be."""
    data = "".join(text.split())
    try:
        fault = _not_run(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise OcciError(400, f"{schema.USERDATA}: not base64: {error}") from error
    if fault:
        raise OcciError(400, f"{schema.USERDATA}: it would not be run: {fault}")
    return data


# As editors write them at the beginning of a file, and a # in the text that they announce.
_MARKS = {b"\xef\xbb\xbf": b"#", b"\xff\xfe": b"#\x00", b"\xfe\xff": b"\x00#"}


def _not_run(data: bytes) -> str:
    """Why neither a kernel (execve(2)) nor cloud-init would run it, though it looks as if they were
    meant to; empty for all else, which may be anything."""
    for mark, begin in _MARKS.items():
        if data.startswith(mark) and data.removeprefix(mark).lstrip().startswith(begin):
            return "a byte-order mark is before its #; save it as UTF-8 without one"
    if not data.startswith(b"#!"):
        early = data.lstrip().startswith(b"#!")
        return "an empty line or white space is before its #!" if early else ""
    first, _, _ = data.partition(b"\n")
    if first.endswith(b"\r"):
        return "its lines end in CR LF, as Windows writes them; they must end in LF"
    if not first[2:].strip().startswith(b"/"):
        return "what follows its #! is not the path of an interpreter"
    return ""


def _source(text: str) -> str:
    return path_of(text, schema.SOURCE)


def _target(text: str) -> str:
    return path_of(text, schema.TARGET)


def _identity(text: str) -> str:
    return text.removeprefix("urn:uuid:")


_SPECIAL = {
    schema.ID: _identity,
    schema.PUBLIC_KEY: _public_key,
    schema.USERDATA: _user_data,
    schema.SOURCE: _source,
    schema.TARGET: _target,
}


def same(one: Value | None, other: Value) -> bool:
    """Whether two values are equal, and of one type: true is not 1, but 2.0 is 2."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def renamed(attributes: Mapping[str, Value], renames: Mapping[str, str]) -> dict[str, Value]:
    """The attributes under the names that are meant. Raises OcciError 400: one is there twice."""
    result: dict[str, Value] = {}
    for name, value in attributes.items():
        meant = renames.get(name, name)
        if not meant:
            continue
        if not same(result.setdefault(meant, value), value):
            raise OcciError(400, f"{meant}: given twice, with different values")
    return result
