"""contrib/packages: debs and rpms as nFPM packs them, looked at with dpkg and rpm.

In the place of the Python packages, which come from an index, there is one file; all else is real.
"""

import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from contrib.packages.build import PACKAGES, TARGETS, Builder

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
MODULE = "lib/python{}/site-packages/wnodes_lrms/version.py"
# What each has, beside its documentation.
EVERYWHERE = {
    "common": {
        *("/usr/bin/wnodes", "/usr/lib/wnodes/bin/python3", "/usr/lib/wnodes/pyvenv.cfg"),
        *("/etc/wnodes/wnodes.toml", "/etc/wnodes/images"),
        *("/usr/share/man/man1/wnodes.1.gz", "/usr/share/man/man5/wnodes.toml.5.gz"),
        "/usr/share/bash-completion/completions/wnodes",
        "/usr/share/fish/vendor_completions.d/wnodes.fish",
        "/usr/share/doc/wnodes-common/examples/images/small/build",
        "/usr/share/doc/wnodes-common/docs/install.md",
    },
    "node": {
        *("/usr/bin/wnodes-bait", "/usr/sbin/wnodes-virtiofsd"),
        "/usr/lib/systemd/system/wnodes-bait.service",
        "/usr/lib/systemd/system/wnodes-accounting.service",
        "/usr/lib/systemd/system/wnodes-accounting.timer",
        *("/usr/lib/sysusers.d/wnodes-node.conf", "/usr/lib/tmpfiles.d/wnodes-node.conf"),
        *("/usr/share/man/man8/wnodes-bait.8.gz", "/usr/share/man/man1/wnodes-starter.1.gz"),
    },
    "controller": set[str](),
    "bridge": {
        *("/usr/bin/wnodes-bridge", "/usr/lib/systemd/system/wnodes-bridge.service"),
        "/usr/lib/sysusers.d/wnodes-bridge.conf",
        "/usr/share/man/man8/wnodes-bridge.8.gz",
    },
}
OWN = {
    "deb": {"common": {"/usr/share/zsh/vendor-completions/_wnodes"}},
    "rpm": {
        "common": {
            "/usr/share/zsh/site-functions/_wnodes",
            "/usr/share/doc/wnodes-common/examples/selinux/wnodes.te",
        }
    },
}
NEEDS = {
    "deb": {
        *("libvirt-daemon-system", "nftables", "python3-libvirt", "qemu-system-x86", "qemu-utils"),
        "dnsmasq-base",
    },
    "rpm": {
        *("libvirt-daemon-kvm", "libvirt-daemon-config-network", "nftables", "python3-libvirt"),
        *("qemu-kvm", "qemu-img", "dnsmasq"),
    },
}


@dataclass(frozen=True)
class Entry:
    """A file of a package."""

    mode: str  # as ls writes it
    owner: str  # user/group
    path: str


@dataclass(frozen=True)
class Built:
    """The packages of one target."""

    kind: str
    folder: Path
    rpms: Path  # a database of rpm's, which is empty

    def file(self, package: str) -> str:
        (found,) = self.folder.glob(f"wnodes-{package}[_-]*.{self.kind}")
        return str(found)

    def entries(self, package: str) -> list[Entry]:
        """All that is in it."""
        if self.kind == "deb":
            rows = [line.split(None, 5) for line in said("dpkg-deb", "-c", self.file(package))]
            return [
                Entry(mode, owner, path.partition(" -> ")[0].removeprefix(".").rstrip("/"))
                for mode, owner, _size, _day, _time, path in rows
            ]
        form = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\\n]"
        return [Entry(*line.split(" ", 2)) for line in self.asked(package, "--queryformat", form)]

    def needs(self, package: str) -> list[str]:
        """What it depends on, with versions."""
        if self.kind == "deb":
            (line,) = said("dpkg-deb", "--field", self.file(package), "Depends")
            return line.split(", ")
        return self.asked(package, "--requires")

    def asked(self, package: str, *query: str) -> list[str]:
        """What rpm says of it."""
        options = ("--dbpath", str(self.rpms), "--nosignature")
        return said("rpm", *options, "--query", "--package", *query, self.file(package))

    def scripts(self, package: str, folder: Path) -> list[Path]:
        """Its maintainer's scripts, as files of this folder."""
        if self.kind == "deb":
            said("dpkg-deb", "--control", self.file(package), str(folder))
            names = ("preinst", "postinst", "prerm", "postrm")
            return [folder / name for name in names if (folder / name).exists()]
        found = []
        for tag in ("PREIN", "POSTIN", "PREUN", "POSTUN", "POSTTRANS"):
            text = "\n".join(self.asked(package, "--queryformat", f"%{{{tag}}}"))
            if text not in ("", "(none)"):
                found.append(folder / tag)
                found[-1].write_text(text + "\n")
        return found


def said(*argv: str) -> list[str]:
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module", params=["debian12", "debian13", "el10"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    target = TARGETS[request.param]
    out = tmp_path_factory.mktemp("built")
    module = out / "stage" / "prefix" / MODULE.format(target.python)
    module.parent.mkdir(parents=True)
    module.write_text("VERSION = '0'\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    before, mask = Path.cwd(), os.umask(0o022)
    os.environ["SOURCE_DATE_EPOCH"], epoch = "1700000000", os.environ.get("SOURCE_DATE_EPOCH")
    os.chdir(ROOT)
    try:
        Builder(target, project, out).pack()
    finally:
        os.chdir(before)
        os.umask(mask)
        os.environ.pop("SOURCE_DATE_EPOCH")
        os.environ |= {"SOURCE_DATE_EPOCH": epoch} if epoch else {}
    rpms = out / "rpms"
    rpms.mkdir()
    return Built("deb" if target.deb else "rpm", out, rpms)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_what_its_host_needs(built: Built, package: str) -> None:
    entries = built.entries(package)
    paths = {entry.path for entry in entries}
    assert EVERYWHERE[package] | OWN[built.kind].get(package, set()) <= paths
    assert {entry.owner for entry in entries} == {"root/root"}
    # By a link's mode nobody can do anything.
    open_to_all = [e for e in entries if e.mode[8] == "w" and not e.mode.startswith("l")]
    assert open_to_all == []
    assert not any("/usr/local" in path or "/tmp/" in path for path in paths)


def test_a_node_gets_what_it_needs_by_its_distributions_names(built: Built) -> None:
    needed = built.needs("node")
    assert NEEDS[built.kind] <= {each.partition(" ")[0] for each in needed}
    version = next(each for each in needed if each.startswith("wnodes-common "))
    assert "= " in version


def test_a_package_is_for_one_interpreter(built: Built) -> None:
    python = [each for each in built.needs("common") if each.startswith("python")]
    expected = {
        "deb": {"python3 (>= 3.11)", "python3 (>= 3.13)"},
        "rpm": {"python(abi) = 3.12"},
    }
    assert python[0] in expected[built.kind]


def test_the_sites_own_configuration_stays(built: Built) -> None:
    if built.kind == "deb":
        files = said("dpkg-deb", "--info", built.file("common"), "conffiles")
    else:
        form = "[%{FILEFLAGS:fflags} %{FILENAMES}\\n]"
        flags = dict(
            line.split(" ", 1)[::-1] for line in built.asked("common", "--queryformat", form)
        )
        files = [path for path, flag in flags.items() if flag == "cn"]  # configuration, noreplace
    assert files == ["/etc/wnodes/wnodes.toml"]


@pytest.mark.parametrize("package", PACKAGES)
def test_scripts_are_shell(built: Built, package: str, tmp_path: Path) -> None:
    scripts = built.scripts(package, tmp_path)
    assert scripts
    argv = ["shellcheck", "--shell=sh", "--severity=warning", *map(str, scripts)]
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("package", ["node", "controller", "bridge"])
def test_an_upgrade_takes_nothing_away(built: Built, package: str, tmp_path: Path) -> None:
    """dpkg and rpm tell it by other words. No program can be called here."""
    (script,) = (s for s in built.scripts(package, tmp_path) if s.name in ("prerm", "PREUN"))
    words = {"deb": ("upgrade", "9"), "rpm": ("1",)}[built.kind]
    nothing = tmp_path / "programs"
    nothing.mkdir()
    argv = ["/bin/sh", str(script), *words]
    done = subprocess.run(
        argv, env={"PATH": str(nothing)}, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_start_what_the_package_has(built: Built, tmp_path: Path) -> None:
    unit = "/usr/lib/systemd/system/wnodes-bait.service"
    if built.kind == "deb":
        said("dpkg-deb", "--extract", built.file("node"), str(tmp_path))
    else:
        with (tmp_path / "cpio").open("wb") as file:
            subprocess.run(["rpm2cpio", built.file("node")], check=True, stdout=file)
        with (tmp_path / "cpio").open("rb") as file:
            unpack = ["cpio", "--quiet", "--extract", "--make-directories"]
            subprocess.run(unpack, check=True, stdin=file, cwd=tmp_path)
    text = (tmp_path / unit.lstrip("/")).read_text()
    assert "\nExecStart=/usr/bin/wnodes-bait\n" in text
    assert (tmp_path / "usr/bin/wnodes-bait").readlink() == Path("../lib/wnodes/bin/wnodes-bait")
