"""Commands out of the documentation, to be run as they stand there.

A fenced block is taken if the line before it is `<!-- install-test: NAME -->`. Blocks within a list
are indented, and so is their marker.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(
    r"^(?P<indent> *)<!-- install-test: (?P<name>[^\n]+?) -->\n(?P=indent)```[a-z]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: str) -> dict[str, str]:
    """The commands of each marked block, by name. Raises ValueError where one is twice."""
    found: dict[str, str] = {}
    for name, text in _blocks((FOLDER / page).read_text()):
        if name in found:
            raise ValueError(f"{page} has two blocks called «{name}»")
        found[name] = text
    return found


def markers(page: str) -> list[str]:
    """The names of all markers of a page, whether a block follows or not."""
    return re.findall(r"<!-- install-test: ([^\n]+?) -->", (FOLDER / page).read_text())


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    for found in _BLOCK.finditer(text):
        yield found["name"], textwrap.dedent(found["text"])
