"""The reference pages say what the code does: they are generated, or compared with it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from contrib.docs import reference
from wnodes_lrms.cli import app

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", reference.PAGES.values())
def test_the_configuration_reference_is_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == reference.pages()[ROOT / page], (
        "run .venv/bin/python contrib/docs/reference.py"
    )


def test_the_reference_has_every_table_and_its_limits() -> None:
    tables = {table.header: table for table in reference.tables()}
    assert {"", "[bait]", "[machine]", "[[default]]", "[[allow]]"} <= set(tables)
    keys = {f"{header}.{key.name}": key for header, table in tables.items() for key in table.keys}
    assert keys["[machine].ready_timeout"].kind == "whole number, above 0"
    assert keys["[machine].accel"].kind == '"auto" or "kvm" or "tcg"'
    assert keys["[bait].socket"].kind == "absolute path"
    assert keys["[share].directories"].kind == "list, each: absolute path"
    assert keys["[[default]].image"].kind == "tag of an image"
    assert keys["[network].subnet"].default == '"192.168.190.0/24"'
    assert (keys[".cluster"].default, keys["[[default]].partition"].default) == ("", "")


def test_optional_and_nested_tables_are_in_the_reference() -> None:
    tables = {table.header: table for table in reference.tables()}
    inner = ["[[bridge.network]]", "[[bridge.template]]", "[[bridge.grant]]"]
    headers = list(tables)
    assert headers[headers.index("[bridge]") + 1 :][:3] == inner
    assert not {"network", "template", "grant"} & {key.name for key in tables["[bridge]"].keys}
    keys = {f"{header}.{key.name}": key for header, table in tables.items() for key in table.keys}
    assert keys["[bridge].workers"].kind == "whole number, 1 or more, at most 64"
    assert keys["[[bridge.network]].subnet"].kind == "IPv4 network"
    assert keys["[[bridge.network]].gateway"].kind == "IPv4 address"
    assert keys["[[bridge.network]].public"].default == "false"
    assert keys["[cloud].drmaa_library"].kind == "absolute path"


def test_text_is_made_safe_for_each_page() -> None:
    assert reference.roff("'a' `b-c` \\ [d]") == "\\&'a' \\fBb\\-c\\fR \\e \\(lBd\\(rB"
    assert reference.prose("One. Two.") == "One.\nTwo."
    assert reference.cell("a|b <c> `<d>`") == "a\\|b \\<c> `<d>`"


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Every sub-command in full, with its long options."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*words, name))
    else:
        options = {word for option in command.params for word in option.opts if word[:2] == "--"}
        yield " ".join(words), options


def test_the_manual_names_every_command_and_option() -> None:
    manual = (ROOT / "docs/man/wnodes.1").read_text()
    named = {tuple(line.split()) for line in re.findall(r"^\.It Ic (.*)$", manual, re.MULTILINE)}
    written = set(re.findall(r"\\(-[a-z0-9-]+)", manual))
    everything = list(commands(typer.main.get_command(app)))
    assert len(everything) >= 12
    for command, options in everything:
        words = tuple(command.split())
        assert any(line[: len(words)] == words for line in named), f"{command} is not in wnodes.1"
        missing = {option for option in options if option[1:] not in written}
        assert not missing, f"{command}: {missing} are not in wnodes.1"
    known = {tuple(command.split()) for command, _ in everything}
    for line in named:
        assert line[:2] in known or line[:1] in known, f"wnodes.1 has {line}, which is gone"


def test_the_pages_name_only_files_that_exist() -> None:
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    ours = re.compile(r"(?<![\w/])(?:bait|occi_bridge|wnodes_lrms)/[\w/.]*\w|\btest_\w+\.py")
    named = {
        (page.name, name)
        for page in (*ROOT.glob("docs/*.md"), ROOT / "README.md")
        for name in ours.findall(page.read_text())
    }
    gone = {each for each in named if each[1] not in tests and not (ROOT / each[1]).exists()}
    assert len(named) > 20
    assert not gone
