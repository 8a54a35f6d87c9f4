"""Hooks run by the node's own /usr/bin/python3, which is 3.9 on Enterprise Linux 9."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hook

HOOKS = sorted(Path(hook.__file__).parent.glob("*.py"))
OLDEST = (3, 9)


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns


@pytest.mark.parametrize("program", HOOKS, ids=lambda program: program.name)
def test_a_hook_is_what_the_oldest_of_them_reads(program: Path) -> None:
    tree = ast.parse(program.read_text(), feature_version=OLDEST)
    either = [
        part
        for annotation in annotations(tree)
        for part in ast.walk(annotation)
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr)
    ]
    # `int | None` is an error there unless no annotation is ever looked at.
    assert not either or "from __future__ import annotations" in program.read_text().splitlines()
