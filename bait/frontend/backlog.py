"""What a guest has written and nobody has taken yet: the last of it. Pure."""

MOST = 65536  # bytes


class Backlog:
    """Of what does not fit the oldest goes, and how much that was is said in its place."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0

    def __bool__(self) -> bool:
        return bool(self._data)

    def put(self, data: bytes) -> None:
        """The guest has written this."""
        self._data += data
        if (over := len(self._data) - MOST) > 0:
            del self._data[:over]
            self._dropped += over

    def take(self, most: int) -> bytes:
        """The next of it, at most so many bytes and the note."""
        note = b""
        if self._dropped:
            # CAN ends whatever control sequence was cut off (ECMA-48, 8.3.6).
            note = b"\x18\r\n[%d bytes were left out]\r\n" % self._dropped
            self._dropped = 0
        data = bytes(self._data[:most])
        del self._data[:most]
        return note + data
