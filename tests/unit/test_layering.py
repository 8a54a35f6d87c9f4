"""Who may import what: the rules that keep the parts apart, read from the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"bait", "contrib", "hooks", "occi_bridge", "tests", "wnodes_lrms"}
MAY_IMPORT = {
    "wnodes_lrms": {"wnodes_lrms"},
    "bait": {"bait", "wnodes_lrms"},
    "occi_bridge": {"occi_bridge", "wnodes_lrms"},
    "hooks": {"hooks"},  # what stands beside it in the folder that the LRMS runs
}
# Modules of others that these files of ours stand between.
ALONE = {
    "libvirt": [
        "bait/hypervisor/connections.py",
        "bait/hypervisor/domains.py",
        "bait/hypervisor/inventory.py",
        "bait/hypervisor/networks.py",
    ]
}


def imports(source: str) -> Iterator[str]:
    """The top-level names that a module imports, wherever in it; "." for a relative import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value).partition(".")[0]


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_what_counts_as_an_import() -> None:
    source = (
        "import os.path, bait.engine\n"
        "from wnodes_lrms.config.load import Config\n"
        "def f():\n    from . import x\n    import libvirt\n"
        "    importlib.import_module('guestfs')\n"
    )
    expected = ["os", "bait", "wnodes_lrms", ".", "libvirt", "guestfs"]
    assert sorted(imports(source)) == sorted(expected)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_downwards_only(package: str) -> None:
    assert modules(package), f"no module in {package}"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path.read_text())
        if name in OURS - MAY_IMPORT[package]
    ]
    assert not wrong


def test_hooks_import_the_standard_library_only() -> None:
    beside = {path.stem for path in modules("hooks")}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("hooks")
        for name in imports(path.read_text())
        if name not in sys.stdlib_module_names | {"hooks", "pbs"} | beside  # pbs is OpenPBS's
    ]
    assert not wrong


@pytest.mark.parametrize("name", ALONE)
def test_few_modules_know_a_library(name: str) -> None:
    found = [
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in modules(package)
        if name in imports(path.read_text())
    ]
    assert found == ALONE[name]
