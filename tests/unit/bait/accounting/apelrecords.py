"""APEL's published field list, kept as a table, and messages held against it."""

import re
import tomllib
from pathlib import Path
from typing import Any

TABLE = tomllib.loads(
    (Path(__file__).parents[2] / "data" / "apel" / "cloud-record-0.4.toml").read_text()
)
FIELDS: list[dict[str, Any]] = TABLE["field"]
_TYPES = {
    "text": r"\S(.{0,253}\S)?",
    "integer": r"\d{1,18}",
    "number": r"\d{1,7}(\.\d{1,3})?",
    "time": r"[1-9]\d{8,9}",
}


def records(message: str) -> list[dict[str, str]]:
    """The records of a message as APEL splits it; every rule of the table is asserted."""
    assert message.isascii()
    header, *lines = message.splitlines()
    assert header == TABLE["header"]
    found = [
        dict(line.split(": ", 1) for line in text.splitlines() if line)
        for text in "\n".join(lines).split(TABLE["separator"])
    ]
    assert 1 <= len(found) <= TABLE["records"]
    for record in found:
        check(record)
    return found


def check(record: dict[str, str]) -> None:
    """Assert that a record is one of version 0.4."""
    names = [field["name"] for field in FIELDS]
    assert list(record) == sorted(record, key=names.index)
    for field in FIELDS:
        value = record.get(field["name"])
        if value is None:
            assert not field.get("mandatory"), field
            assert "only_with" not in field or not _holds(field["only_with"], record)
            continue
        assert re.fullmatch(_TYPES[field["type"]], value), (field, value)
        assert value.lower() not in ("none", "null"), field
        assert value in field.get("values", [value])
        assert "only_with" not in field or _holds(field["only_with"], record)


def _holds(condition: dict[str, str], record: dict[str, str]) -> bool:
    return all(record.get(name) == value for name, value in condition.items())
