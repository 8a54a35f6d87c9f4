"""Every test can fail: it asserts something itself, or by a helper that does."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ASSERTING = {"pytest.raises", "pytest.fail"}


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]


def asserts(function: Function, helpers: set[str]) -> bool:
    """Whether it has an assertion, or calls one of the helpers, which are no methods: whose those
    are can't be seen."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Raise) and ast.unparse(node).startswith("raise AssertionError"))
        or (isinstance(node, ast.Call) and ast.unparse(node.func) in helpers | ASSERTING)
        for node in ast.walk(function)
    )


def asserting(found: list[Function], known: set[str]) -> set[str]:
    """The names of functions that assert, at first or second hand, or are known to do so."""
    while more := {each.name for each in found if asserts(each, known)} - known:
        known = known | more
    return known


def without(source: str, shared: set[str]) -> list[str]:
    """The tests of a file that assert nothing."""
    found = functions(source)
    helpers = asserting(found, shared - {each.name for each in found})
    return [
        each.name for each in found if each.name.startswith("test_") and not asserts(each, helpers)
    ]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("assert x", False),
        ("with pytest.raises(OSError):\n        x()", False),
        ("helper()", False),
        ("through()", False),
        ("shared()", False),
        ("bait.shared()", True),
        ("harmless()", True),
        ("x()", True),
    ],
)
def test_what_counts_as_an_assertion(body: str, wrong: bool) -> None:
    source = (
        "def helper():\n    assert x\n"
        "def through():\n    helper()\n"
        "def harmless():\n    pass\n"
        f"def test_it():\n    {body}\n"
    )
    assert without(source, {"shared", "harmless"}) == ["test_it"] * wrong


def test_every_test_asserts_something() -> None:
    files = {path: path.read_text() for path in sorted(TESTS.rglob("*.py"))}
    tests = {path: text for path, text in files.items() if path.name.startswith("test_")}
    support = [function for path in files.keys() - tests for function in functions(files[path])]
    shared = asserting(support, set())
    wrong = [
        f"{path.relative_to(TESTS)}: {name}"
        for path, text in tests.items()
        for name in without(text, shared)
    ]
    assert not wrong
