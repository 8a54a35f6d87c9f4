"""contrib/packages: what they install, as far as can be told without building them."""

import re
import subprocess
import tomllib
from pathlib import Path

import jinja2
import pytest

from wnodes_lrms.config.load import Config

PACKAGES = Path(__file__).parents[3] / "contrib" / "packages"
CONFIG = (PACKAGES / "files" / "wnodes.toml").read_text()
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


@pytest.mark.integration
@pytest.mark.parametrize("package", ["node", "controller"])
def test_the_scripts_that_are_made_are_shell(package: str) -> None:
    scripts = PACKAGES / "scripts"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(scripts), autoescape=False)  # noqa: S701
    text = environment.get_template(f"{package}.prerm.j2").render(name="one", other="another")
    argv = ["shellcheck", "-s", "sh", "-"]
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
    assert done.stdout == ""
