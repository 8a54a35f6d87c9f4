"""contrib/packages: what they install and remove, as far as can be told without building them."""

import re
import subprocess
import tomllib
from pathlib import Path

import jinja2
import pytest

from tests.unit.conftest import needs_root
from wnodes_lrms.config.load import Config

PACKAGES = Path(__file__).parents[3] / "contrib" / "packages"
CONFIG = (PACKAGES / "files" / "wnodes.toml").read_text()
OTHERS = {
    *("wnodes-mysite-2-0.log", "wnodes-mysite-2-0-fs11-virtiofsd.log", "wnodes-other-1-0.log"),
    *("wnodes-mysite-notes", "own.log"),
}
NEEDED = 'cluster = "mysite"\nlrms = "slurm"\n'


def test_the_installed_configuration_lacks_only_what_has_no_default() -> None:
    assert Config.model_validate(tomllib.loads(NEEDED + CONFIG)) == Config.model_validate(
        tomllib.loads(NEEDED)
    )


def test_what_it_has_commented_out_are_the_defaults() -> None:
    """All of it uncommented, but for tables that mean something by being there."""
    lines: list[str] = []
    extra = False
    for line in CONFIG.splitlines():
        if line.startswith(("[", "#[")):
            extra = line.startswith("#")
        lines.append(line.removeprefix("#") if re.match(r"#\w+ = ", line) and not extra else line)
    assert "memory_overhead = 128" in lines
    assert Config.model_validate(tomllib.loads(NEEDED + "\n".join(lines))) == (
        Config.model_validate(tomllib.loads(NEEDED))
    )


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A root of its own for a package's script, in place of the folders that it names."""
    logs, programs = tmp_path / "var" / "log" / "libvirt" / "qemu", tmp_path / "bin"
    for folder in (logs, programs, tmp_path / "run/libvirt/qemu", tmp_path / "var/lib/wnodes"):
        folder.mkdir(parents=True)
    for name in (
        *("wnodes-mysite-1-0.log", "wnodes-mysite-1-0.log.2"),
        "wnodes-mysite-1-0-fs0-virtiofsd.log",
        *OTHERS,
    ):
        (logs / name).write_text("x")
    (tmp_path / "run/libvirt/qemu/wnodes-mysite-2-0.pid").write_text("1")
    (programs / "getent").write_text("#!/bin/sh\nexit 2\n")
    (programs / "getent").chmod(0o755)
    return tmp_path


def postrm(host: Path, what: str) -> set[str]:
    """The names of libvirt's logs that are left when the script has run."""
    text = (PACKAGES / "scripts" / "node.postrm").read_text()
    text = re.sub(r"(?<![\w/])/(?=(run|var)/)", f"{host}/", text)
    environment = {"PATH": f"{host}/bin:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", text, "postrm", what], env=environment, check=True)
    return {path.name for path in (host / "var/log/libvirt/qemu").iterdir()}


def test_a_purge_takes_libvirts_logs_of_this_clusters_vms_that_have_ended(host: Path) -> None:
    (host / "var/lib/wnodes/cluster").write_text("mysite\n")
    assert postrm(host, "purge") == OTHERS
    assert not (host / "var/lib/wnodes").exists()
    assert postrm(host, "purge") == OTHERS


@pytest.mark.parametrize("what", ["remove", "purge"])
def test_a_removal_takes_none_nor_does_a_purge_of_an_unknown_cluster(host: Path, what: str) -> None:
    if what == "remove":
        (host / "var/lib/wnodes/cluster").write_text("mysite\n")
    assert len(postrm(host, what)) == 8
    assert (host / "var/lib/wnodes").exists() is (what == "remove")


def made(script: str) -> str:
    loader = jinja2.FileSystemLoader(PACKAGES / "scripts")
    environment = jinja2.Environment(loader=loader, autoescape=False)  # noqa: S701
    return environment.get_template(script).render(name="one", other="another")


@pytest.mark.integration
@pytest.mark.parametrize("package", ["node", "controller"])
def test_the_scripts_that_are_made_are_shell(package: str) -> None:
    text = made(f"{package}.prerm.j2")
    argv = ["shellcheck", "-s", "sh", "-"]
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
    assert done.stdout == ""


# Stands for libvirt's: networks with these bridges, and what nftables holds when one is destroyed.
VIRSH = """#!/bin/sh
case "$*" in
*net-list*) echo nat isolated others ;;
*"net-dumpxml nat") echo "<bridge name='wn-wnodes' stp='on'/>" ;;
*"net-dumpxml isolated") echo "<bridge name='wi-0123456789a' stp='on'/>" ;;
*"net-dumpxml others") echo "<bridge name='virbr0' stp='on'/>" ;;
*net-destroy*) echo "$4 $5 by $(nft list tables | tr '\\n' ' ')" ;;
esac
"""
REMOVAL = """
set -e
mount -t tmpfs none /run
for link in wx0123456789ab wxothers vxlan9; do
    vni=$((vni + 1))
    ip link add $link type vxlan id $vni local 127.0.0.1 dstport 4789
done
ip link add wx0123456789ac type bridge
nft 'add table bridge wnodes-hv1; add table inet others'
sh ./prerm remove
ip -o link show | awk -F '[:@] ?' '$2 != "lo" {print $2}'
nft list tables
"""


@needs_root
@pytest.mark.integration
def test_what_the_bait_left_in_the_kernel_goes_the_guard_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "virsh").write_text(VIRSH)
    (tmp_path / "virsh").chmod(0o755)
    (tmp_path / "prerm").write_text(made("node.prerm.j2"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    argv = ["unshare", "--net", "--mount", "sh", "-c", REMOVAL]
    done = subprocess.run(argv, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *(
            f"net-destroy {network} by table bridge wnodes-hv1 table inet others "
            for network in ("nat", "isolated")
        ),
        *("wxothers", "vxlan9", "wx0123456789ac"),
        "table inet others",
    ]
