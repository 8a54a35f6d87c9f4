"""Who may import what: the rules that keep the parts apart, read from the source."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A program of the LRMS's finds by their bare names what stands beside it in its folder.
HOOKS = {path.stem for path in (ROOT / "hooks").glob("*.py")}
OURS = {"bait", "contrib", "hooks", "occi_bridge", "tests", "wnodes_lrms", *HOOKS}
MAY_IMPORT = {
    "wnodes_lrms": {"wnodes_lrms"},
    "bait": {"bait", "wnodes_lrms"},
    "occi_bridge": {"occi_bridge", "wnodes_lrms"},
    "hooks": HOOKS,
}
# Within a package: what each sub-package may import of the others. What is not named here is at the
# top, where the parts are put together, and may import all.
LAYERS = {
    "bait": {
        "ledger": set(),
        "privileges": set(),
        "metrics": {"ledger"},
        "accounting": {"ledger", "privileges"},
        "network": {"ledger"},
        "hypervisor": {"network"},
        "machine": {"hypervisor", "ledger", "network", "privileges"},
        "volumes": {"machine"},
        "reconcile": {"hypervisor", "ledger", "machine", "metrics"},
        "batch": {"hypervisor", "ledger", "machine", "metrics", "network", "reconcile"},
        "cloud": {
            *("hypervisor", "ledger", "machine", "metrics", "network", "privileges", "reconcile"),
            "volumes",
        },
        "frontend": {"accounting", "batch", "cloud", "ledger", "metrics", "reconcile"},
        "checks": {"batch", "hypervisor", "machine", "network", "privileges", "volumes"},
    },
    "occi_bridge": {
        "occi": set(),
        "identity": set(),
        "store": {"occi"},
        "service": {"identity", "occi", "store"},  # it and the driver meet in the store alone
        "driver": {"store"},
        "web": {"identity", "occi", "service"},
        "page": {"identity", "occi", "service", "store", "web"},
    },
}
# Decisions alone: imported in a fresh interpreter that has none of these libraries.
PURE = [
    "bait.accounting.apel",
    "bait.checks.file_verdicts",
    "bait.checks.network_verdicts",
    "bait.checks.storage_verdicts",
    "bait.checks.verdicts",
    "bait.cloud.admission",
    "bait.cloud.offers",
    "bait.hypervisor.domain_xml",
    "bait.ledger.states",
    "bait.machine.topology",
    "bait.machine.tuning",
    "bait.network.shaping",
    "bait.reconcile.plan",
    "occi_bridge.driver.observe",
    "occi_bridge.driver.orders",
    "occi_bridge.driver.plan",
    "occi_bridge.driver.refusals",
    "occi_bridge.driver.spanning",
    "occi_bridge.occi.parse",
    "occi_bridge.occi.render",
    "occi_bridge.occi.validate_changes",
    "occi_bridge.occi.validate_new",
    "occi_bridge.service.entities",
    "occi_bridge.service.quota",
    "occi_bridge.service.throughput",
    "occi_bridge.service.vm_entities",
    "wnodes_lrms.provision",
]
IMPURE = ["jinja2", "libvirt", "sqlalchemy", "sqlite3"]
# Modules of others that these files of ours stand between.
ALONE = {
    "libvirt": [
        "bait/hypervisor/connections.py",
        "bait/hypervisor/consoles.py",
        "bait/hypervisor/domain_state.py",
        "bait/hypervisor/domains.py",
        "bait/hypervisor/events.py",
        "bait/hypervisor/inventory.py",
        "bait/hypervisor/networks.py",
        "bait/hypervisor/operations.py",
        "bait/hypervisor/own_domains.py",
        "bait/hypervisor/power_button.py",
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


def within(package: str, path: Path) -> str:
    """The sub-package of a file, or its own name if it lies beside them."""
    return path.relative_to(ROOT / package).with_suffix("").parts[0]


def neighbours(package: str, source: str) -> Iterator[str]:
    """What a module imports of its own package: the names of sub-packages."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            first, _, rest = node.module.partition(".")
            if first == package:
                yield from [rest.partition(".")[0]] if rest else [name.name for name in node.names]
        elif isinstance(node, ast.Import):
            for name in node.names:
                first, _, rest = name.name.partition(".")
                if first == package and rest:
                    yield rest.partition(".")[0]


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_what_counts_as_an_import() -> None:
    source = (
        "import os.path, bait.batch\n"
        "from wnodes_lrms.config.load import Config\n"
        "def f():\n    from . import x\n    import libvirt\n"
        "    importlib.import_module('guestfs')\n"
    )
    expected = ["os", "bait", "wnodes_lrms", ".", "libvirt", "guestfs"]
    assert sorted(imports(source)) == sorted(expected)


def test_what_counts_as_a_neighbour() -> None:
    source = "import bait.ledger.usage\nfrom bait import metrics\nfrom bait.cloud.seed import x\n"
    assert sorted(neighbours("bait", source)) == ["cloud", "ledger", "metrics"]
    assert within("bait", ROOT / "bait/cloud/seed.py") == "cloud"
    assert within("bait", ROOT / "bait/metrics.py") == "metrics"


@pytest.mark.parametrize("package", LAYERS)
def test_sub_packages_import_downwards_only(package: str) -> None:
    rules = LAYERS[package]
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert folders <= rules.keys()
    wrong = [
        f"{path.relative_to(ROOT)} imports {package}.{name}"
        for path in modules(package)
        if (own := within(package, path)) in rules
        for name in neighbours(package, path.read_text())
        if name not in rules[own] | {own}
    ]
    assert not wrong


def test_what_is_called_pure_needs_no_library() -> None:
    """All in one interpreter: none of them may import what is blocked, whatever came before it."""
    script = (
        f"import importlib, sys; sys.modules.update(dict.fromkeys({IMPURE}))\n"
        f"for name in {PURE}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error: print(name, error)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


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
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("hooks")
        for name in imports(path.read_text())
        if name not in sys.stdlib_module_names | HOOKS | {"pbs"}  # pbs is OpenPBS's
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


def test_a_bait_does_not_carry_what_few_nodes_or_acts_need() -> None:
    """A daemon of every node. A web client with all that it imports would be 5 MiB more, what
    writes VMs' seeds 2, the other batch systems 1, and WebSockets, which only consoles are, 1."""
    needless = "httpx|bait.checks|pycdlib|websockets|drmaa|sqlalchemy|typer|rich"
    needless += "|wnodes_lrms.cli|wnodes_lrms.lrms.(slurm|gridengine|torque|openpbs)"
    code = "import sys, bait.__main__; print(*sys.modules, sep=chr(10))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = done.stdout.splitlines()
    assert "bait.reconcile.reconciler" in loaded
    assert [name for name in loaded if re.fullmatch(rf"({needless})(\..*)?", name)] == []
