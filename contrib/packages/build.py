#!/usr/bin/env python3
"""Builds the packages: debs for Debian 12 and 13, rpms for Enterprise Linux 9 and 10.

usage: contrib/packages/build.py [TARGET...]   into build/packages/TARGET; see `make packages`

The product and the Python packages that it needs go into a virtual environment, /usr/lib/wnodes,
on the distribution's own interpreter, whose bindings of libvirt and libguestfs it sees. Wheels are
taken for that interpreter's version, so that one host builds for all. Where a distribution has no
binding for it, it is compiled: such a target can be built on itself only.
"""

import gzip
import os
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from email.utils import formatdate
from importlib.metadata import Distribution, distributions
from pathlib import Path

import jinja2
from typer._completion_shared import get_completion_script

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PREFIX = "/usr/lib/wnodes"
PACKAGES = ("common", "node", "controller", "bridge")
# What glibc of all targets can load.
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True)
class Target:
    """A distribution: its interpreter's version, and what its packages' versions end in."""

    name: str
    python: str
    release: str
    deb: bool = True
    binding: bool = False  # libvirt's is compiled

    @property
    def next_python(self) -> str:
        """The version of the interpreter that these packages are not for any more."""
        major, minor = self.python.split(".")
        return f"{major}.{int(minor) + 1}"


TARGETS = {
    target.name: target
    for target in (
        Target("debian12", "3.11", "1~deb12"),
        Target("debian13", "3.13", "1~deb13"),
        Target("el9", "3.12", "1.el9", deb=False, binding=True),
        Target("el10", "3.12", "1.el10", deb=False),
    )
}
USUAL = ("debian12", "debian13", "el10")


def main(names: list[str]) -> None:
    """Build for each target named, or for the usual ones."""
    os.chdir(ROOT)
    os.umask(0o022)
    os.environ.setdefault("SOURCE_DATE_EPOCH", _last_change())
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    wheels = ROOT / "build" / "packages" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    # Some have no wheel in the index, but all of those are pure and fit every interpreter.
    _pip("wheel", "--wheel-dir", str(wheels), ".")
    for name in names or USUAL:
        out = ROOT / "build" / "packages" / name
        shutil.rmtree(out, ignore_errors=True)
        Builder(TARGETS[name], project, out).build(wheels)


class Builder:
    """The packages of one target."""

    def __init__(self, target: Target, project: dict[str, object], out: Path) -> None:
        self.target = target
        self.project = project
        self.out = out
        self.stage = self.out / "stage"
        self.site = self.stage / "prefix" / "lib" / f"python{target.python}" / "site-packages"

    def build(self, wheels: Path) -> None:
        """Lay everything out, and have nFPM pack it."""
        self.site.mkdir(parents=True)
        self._install(wheels)
        self.pack()

    def pack(self) -> None:
        """The same, where the Python packages are in their place already."""
        self._environment()
        self._programs()
        self._manual()
        self._completion()
        self._units()
        self._legal()
        for package in PACKAGES:
            self._pack(package)

    def _environment(self) -> None:
        """What `python -m venv --system-site-packages` makes, for an interpreter of the target."""
        prefix, python = self.stage / "prefix", f"python{self.target.python}"
        (prefix / "bin").mkdir()
        (prefix / "bin" / "python3").symlink_to(f"/usr/bin/{python}")
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")

    def _install(self, wheels: Path) -> None:
        """The product and what it needs, for an interpreter of the target."""
        python = f"python{self.target.python}"
        argv = ["install", "--no-compile", "--find-links", str(wheels)]
        argv += ["--target", str(self.site)]
        argv += ["--implementation", "cp", "--python-version", self.target.python]
        argv += ["--only-binary=:all:", *(f"--platform={name}_x86_64" for name in PLATFORMS)]
        own = next(wheels.glob("wnodes_lrms-*.whl"))
        _pip(*argv, str(own))
        if self.target.binding:
            binding = str(wheels)
            _run(f"/usr/bin/{python}", "-m", "pip", "wheel", "-q", "-w", binding, "libvirt-python")
            _pip(*argv, "--no-deps", "--platform=linux_x86_64", "libvirt-python")
        for left in ("bin", "share"):  # for an environment that is the caller's own
            shutil.rmtree(self.site / left, ignore_errors=True)

    def _programs(self) -> None:
        scripts: dict[str, str] = self.project["scripts"]  # type: ignore[assignment]
        for name, place in scripts.items():
            module, function = place.split(":")
            _program(
                self.stage / "prefix" / "bin" / name,
                f"#!{PREFIX}/bin/python3 -I\nimport sys\n\nfrom {module} import {function}\n\n"
                f"sys.exit({function}())\n",
            )
        for name in ("cluster", "hooks-folder", "refresh-hooks"):
            _program(self.stage / "prefix" / "lib" / name, (HERE / "files" / name).read_text())

    def _manual(self) -> None:
        for page in sorted((ROOT / "docs" / "man").iterdir()):
            _packed(self.stage / "man" / f"{page.name}.gz", page.read_bytes())

    def _completion(self) -> None:
        folder = self.stage / "completion"
        folder.mkdir()
        for shell in ("bash", "zsh", "fish"):
            script = get_completion_script(
                prog_name="wnodes", complete_var="_WNODES_COMPLETE", shell=shell
            )
            (folder / shell).write_text(script + "\n")

    def _units(self) -> None:
        folder = self.stage / "units"
        folder.mkdir()
        for unit in (ROOT / "contrib" / "systemd").iterdir():
            (folder / unit.name).write_text(unit.read_text().replace("/usr/local/bin", "/usr/bin"))

    def _legal(self) -> None:
        """Whose the parts are, by their own words."""
        parts = sorted(distributions(path=[str(self.site)]), key=lambda part: part.name.lower())
        lines = [f"{part.name} {part.version}: {_licence(part)}" for part in parts]
        (self.stage / "copyright").write_text(
            "wnodes-lrms, Copyright 2026 its authors: Apache License 2.0, as in\n"
            "/usr/share/common-licenses/Apache-2.0 and https://www.apache.org/licenses/LICENSE-2.0\n\n"
            f"With it, in {PREFIX}, come these Python packages. Their copyrights and licences\n"
            "in full are in the folders *.dist-info beside them.\n\n" + "\n".join(lines) + "\n"
        )

    def _pack(self, package: str) -> None:
        name = f"wnodes-{package}"
        values = {
            "name": name,
            "deb": self.target.deb,
            "binding": self.target.binding,
            "python": self.target.python,
            "next_python": self.target.next_python,
            "release": self.target.release,
            "version": self.project["version"],
            "maintainer": _maintainer(),
            "stage": self.stage,
            "doc": f"/usr/share/doc/{name}",
            "other": {"node": "wnodes-controller", "controller": "wnodes-node"}.get(package),
        }
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([HERE, HERE / "scripts"]),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 (YAML and shell)
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        for template in (HERE / "scripts").glob(f"{package}.*.j2"):
            script = self.stage / "scripts" / template.stem
            script.parent.mkdir(exist_ok=True)
            _program(script, environment.get_template(template.name).render(values))
        version = f"{self.project['version']}-{self.target.release}"
        date = formatdate(int(os.environ["SOURCE_DATE_EPOCH"]))
        entry = f"{name} ({version}) unstable; urgency=medium\n\n"
        entry += "  * What changed is in NEWS.md of wnodes-common.\n\n"
        entry += f" -- {_maintainer()}  {date}\n"
        _packed(self.stage / "changelog" / f"{name}.gz", entry.encode())
        overrides = environment.get_template(f"lintian/{package}").render(values)
        (self.stage / "lintian").mkdir(exist_ok=True)
        (self.stage / "lintian" / name).write_text(overrides)
        recipe = self.stage / f"{package}.yaml"
        recipe.write_text(environment.get_template(f"{package}.yaml.j2").render(values))
        kind = "deb" if self.target.deb else "rpm"
        nfpm = str(Path(sys.executable).with_name("nfpm"))
        argv = ("--packager", kind, "--config", str(recipe), "--target", str(self.out))
        _run(nfpm, "package", *argv)


def _licence(part: Distribution) -> str:
    said = part.metadata
    classes = [text for text in said.get_all("Classifier") or () if text.startswith("License ::")]
    if "License-Expression" in said:
        return str(said["License-Expression"])
    if classes:
        return str(classes[0]).rpartition(" :: ")[2]
    short = str(said["License"]) if "License" in said else ""
    return short.partition("\n")[0] or "see its folder"


def _maintainer() -> str:
    """Who builds them, as Debian's tools are told it."""
    name = os.environ.get("DEBFULLNAME", "wnodes-lrms")
    return f"{name} <{os.environ.get('DEBEMAIL', 'packages@wnodes-lrms.invalid')}>"


def _last_change() -> str:
    """Seconds of the epoch of the last commit; now, where there is no repository."""
    argv = ["git", "log", "-1", "--format=%ct"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() or str(int(time.time()))


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _packed(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as file:
        file.write(data)


def _pip(*argv: str) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *argv)


def _run(*argv: str) -> None:
    print("packages:", *argv[:6], "…" if len(argv) > 6 else "", file=sys.stderr)
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
