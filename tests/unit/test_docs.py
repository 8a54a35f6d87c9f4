"""The reference pages say what the code does: they are generated, or compared with it."""

import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from contrib.docs import reference
from guestlink import FORWARDED
from occi_bridge.store import tables
from wnodes_lrms.cli import app

ROOT = Path(__file__).parents[2]
OURS = "bait|contrib|docs|hooks|occi_bridge|templates|tests|wnodes_lrms"
NAMES = {  # what pages and comments name: a file, what lies in a folder of ours, a module, a target
    "file": re.compile(r"(?<![\w/.*<>$}~-])((?:[\w.-]+/)*[\w-]+\.(?:j2|lua|md|py))\b(?!\.)"),
    "path": re.compile(rf"(?<![\w/.-])((?:{OURS})/[\w./*-]*[\w*])"),
    "module": re.compile(rf"(?<![\w/.-])((?:{OURS})(?:\.(?!py\b)\w+)+)"),
    "target": re.compile(r"(?:^|`|ON_SITE\) )make ([a-z][a-z0-9-]*)", re.MULTILINE),
}
# QEMU's; what `hooks install` writes. In checklists NAME stands for what is new.
NOT_OURS = {"docs/interop/vhost-user.json", "policy.lua"}


def test_all_tables_of_the_bridges_database_are_described() -> None:
    section = (ROOT / "docs/bridge.md").read_text().partition("## Tables")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(tables.metadata.tables)


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
    assert keys[".cluster"].needed
    assert not keys["[[default]].partition"].needed


def test_optional_and_nested_tables_are_in_the_reference() -> None:
    tables = {table.header: table for table in reference.tables()}
    inner = ["[[bridge.network]]", "[[bridge.network.host]]", "[[bridge.template]]"]
    inner.append("[[bridge.grant]]")
    headers = list(tables)
    assert headers[headers.index("[bridge]") + 1 :][:4] == inner
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
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*words, name))
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
        assert any(line[:n] in known for n in (1, 2, 3)), f"wnodes.1 has {line}, which is gone"


USERS_PAGES = ("docs/using.md", "docs/man/wnodes-starter.1")  # say the same, at different length


@pytest.mark.parametrize("page", USERS_PAGES)
def test_a_users_page_names_every_signal_that_reaches_the_script(page: str) -> None:
    text = (ROOT / page).read_text()
    assert [name for name in FORWARDED if not re.search(rf"\b{name}\b", text)] == []


def test_the_users_pages_name_the_same_variables_facts_and_exit_codes() -> None:
    names = re.compile(
        r"\b(?:WNODES_[A-Z_]+|(?:SBATCH|X509)_[A-Z_]+|O_[A-Z]+|(?:total|allocated)_cpu|job_id"
        r"|max_rss_bytes|jobstart_secs|shutdowntime(?:_job)?|125|130|141|128 MiB|1,000,000)\b"
    )
    one, other = (set(names.findall((ROOT / page).read_text())) for page in USERS_PAGES)
    assert len(one) > 10
    assert one == other


def files() -> set[str]:
    """What is in the repository, and not what is made in it or was recorded elsewhere."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in done.stdout.split() if (ROOT / name).is_file()}


def prose(name: str) -> str:
    """What a file says to people: a page whole, of a program its comments and docstrings."""
    if name.startswith("docs/") or name.endswith(".md"):
        return (ROOT / name).read_text()
    if name.endswith(".py"):
        with (ROOT / name).open("rb") as source:
            return "\n".join(
                token.string
                for token in tokenize.tokenize(source.readline)
                if token.type == tokenize.COMMENT or token.string.startswith('"""')
            )
    lines = (ROOT / name).read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if line.lstrip().startswith(("#", "--")))


def is_there(kind: str, name: str, page: str, known: set[str]) -> bool:
    """Whether what a page names exists; a file may be told by the end of its path."""
    if kind == "target":
        makefile = (ROOT / "Makefile").read_text()
        return re.search(rf"^{name}:", makefile, re.MULTILINE) is not None
    if kind == "module":
        parts = name.split(".")
        above = ["/".join(parts[:count]) + ".py" for count in range(2, len(parts) + 1)]
        return ROOT.joinpath(*parts).is_dir() or any(module in known for module in above)
    return (
        any(other == name or other.endswith("/" + name) for other in known)
        or any(ROOT.glob(name.rstrip("/")))
        or (ROOT / page).parent.joinpath(name).exists()
    )


def test_what_counts_as_a_name() -> None:
    text = "see bait/cloud/seed.py and `make e2e`,\nmake unit; tests.chaos.soak, /etc/hook.py, a.py"
    found = {kind: pattern.findall(text) for kind, pattern in NAMES.items()}
    assert found == {
        "file": ["bait/cloud/seed.py", "a.py"],
        "path": ["bait/cloud/seed.py"],
        "module": ["tests.chaos.soak"],
        "target": ["e2e", "unit"],
    }


def test_what_pages_and_comments_name_exists() -> None:
    known = files()
    gone = [
        f"{page} names the {kind} {name}"
        for page in sorted(known)
        if "/data/" not in page and not page.endswith(".png")
        if page != "NEWS.md"  # which speaks of earlier releases too
        for text in [prose(page)]
        for kind, pattern in NAMES.items()
        for name in set(pattern.findall(text))
        if name not in NOT_OURS and "NAME" not in name and not is_there(kind, name, page, known)
    ]
    assert not gone
