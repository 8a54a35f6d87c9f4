"""Reads DER (X.690), for the few structures that no library reads. Pure, and strict.

Strict: one form for each value, nothing left over. Whatever is not so might be read in another way
by somebody else.
"""

from collections.abc import Sequence
from typing import NamedTuple

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
GENERALIZED_TIME, SEQUENCE, SET = 0x18, 0x30, 0x31

_LONGEST_OID = 63  # bytes, as elsewhere: time and text of a long one grow with its square


class Value(NamedTuple):
    """One value: its tag, its content, and both as they were."""

    tag: int
    content: bytes
    whole: bytes


class Fields:
    """The fields of a structure, in their order. All methods raise ValueError."""

    def __init__(self, content: bytes) -> None:
        self._left = values(content)[::-1]

    def take(self, tag: int) -> Value:
        """The next field, which must have this tag."""
        field = self.maybe(tag)
        if field is None:
            raise ValueError(f"a field with the tag {tag:#x} is missing")
        return field

    def maybe(self, tag: int) -> Value | None:
        """The next field if it has this tag."""
        return self._left.pop() if self._left and self._left[-1].tag == tag else None

    def end(self) -> None:
        """There must be no more."""
        if self._left:
            raise ValueError(f"an unexpected field with the tag {self._left[-1].tag:#x}")


def values(data: bytes) -> list[Value]:
    """All values, one behind the other. Raises ValueError if it is not just that."""
    found = []
    while data:
        value, data = _first(data)
        found.append(value)
    return found


def only(data: bytes, tag: int) -> bytes:
    """The content of the one value that this is. Raises ValueError if it is another, or more."""
    fields = Fields(data)
    content = fields.take(tag).content
    fields.end()
    return content


def each(data: bytes, tag: int) -> list[bytes]:
    """The contents of values that all have this tag. Raises ValueError if one has another."""
    found = values(data)
    if any(value.tag != tag for value in found):
        raise ValueError(f"a value with another tag than {tag:#x}")
    return [value.content for value in found]


def oid(content: bytes) -> str:
    """An object identifier as 1.2.3. Raises ValueError if it is none, or a very long one."""
    if len(content) > _LONGEST_OID:
        raise ValueError(f"an object identifier of {len(content)} bytes")
    numbers, number, fresh = [], 0, True
    for byte in content:
        if fresh and byte == 0x80:
            raise ValueError("an object identifier with leading zeros")
        number, fresh = number << 7 | byte & 0x7F, not byte & 0x80
        if fresh:
            numbers.append(number)
            number = 0
    if not numbers or not fresh:
        raise ValueError("an object identifier that is cut off")
    first = min(numbers[0] // 40, 2)
    return _dotted([first, numbers[0] - 40 * first, *numbers[1:]])


def integer(content: bytes) -> int:
    """Raises ValueError if it is none."""
    if not content or (len(content) > 1 and content[0] in (0, 0xFF) and _padded(content)):
        raise ValueError("a malformed integer")
    return int.from_bytes(content, "big", signed=True)


def bits(content: bytes) -> bytes:
    """A bit string of whole bytes. Raises ValueError if it is none."""
    if not content or content[0]:
        raise ValueError("a bit string that is not of whole bytes")
    return content[1:]


def _padded(content: bytes) -> bool:
    return (content[0] == 0xFF) == bool(content[1] & 0x80)


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))


def _first(data: bytes) -> tuple[Value, bytes]:
    if len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise ValueError("a value that is cut off, or has a long tag")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
        if data[1] == 0x80 or start > len(data) or length < 0x80 or not data[2]:
            raise ValueError("a length that is not in its only form")
    end = start + length
    if end > len(data):
        raise ValueError("a value that is cut off")
    return Value(data[0], data[start:end], data[:end]), data[end:]
