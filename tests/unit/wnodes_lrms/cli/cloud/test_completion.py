"""What Tab offers goes into a command line: nothing in it may mean anything to a shell."""

import re

import pytest
from typer._click.shell_completion import CompletionItem
from typer._completion_classes import BashComplete, FishComplete, ZshComplete

from wnodes_lrms.cli.cloud.completion import harmless, named
from wnodes_lrms.cli.cloud.entities import Row

SHELLS = (BashComplete, FishComplete, ZshComplete)
BAD = [
    "web;touch${IFS}/tmp/pwned;",
    r"web\$(touch /tmp/pwned)",
    "`id`",
    "a\nb",
    "a b",
    "*",
    "-rf",
    "~root",
    "$HOME",
    "'x",
    '"x',
    "x&",
    "x\x1b[31m",
    "[red]x",
    "ünal",
    "",
]


def vm(number: str, name: str, state: str = "active") -> Row:
    return {"id": number, "name": name, "state": state}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_that_a_shell_would_obey(shell: type[BashComplete], name: str) -> None:
    [(word, said)] = harmless(named([vm("0b5f", name)], "state"))
    assert word == "0b5f"
    told = shell.format_completion(None, CompletionItem(word, help=said))  # type: ignore[arg-type]
    assert re.fullmatch(r'"?0b5f"?([:\t]"?[A-Za-z0-9 ._-]*"?)?', told), told


@pytest.mark.parametrize("name", BAD)
def test_nothing_else_of_the_service_gets_through(name: str) -> None:
    [(word, said)] = harmless(named([vm("0b5f", "web", state=name)], "state"))
    assert word == "web"
    assert re.fullmatch(r"[A-Za-z0-9 ._-]*", said)
    assert harmless(named([vm(name, "")], "state")) == []
    assert harmless([(name, "an image")]) == []


def test_what_is_harmless_is_as_it_was() -> None:
    assert harmless(named([vm("0b5f", "web-1.a_b")], "state")) == [("web-1.a_b", "active")]
    twins = [vm("0", "web"), vm("1", "web")]
    assert harmless(named(twins, "state")) == [("0", "web active"), ("1", "web active")]
    assert harmless([("small", "1 core, 512 MiB")]) == [("small", "1 core 512 MiB")]
