"""A command starts quickly: it imports nothing that it does not need."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from typer.testing import CliRunner
from wnodes_lrms.cli import app
done = CliRunner().invoke(app, sys.argv[1:])
assert done.exit_code == 0, done.output
print(*{name.partition(".")[0] for name in sys.modules})
"""
HEAVY = {"bait", "cryptography", "httpx", "jwt", "libvirt", "occi_bridge", "sqlalchemy"}


@pytest.mark.parametrize(
    "words", [["cloud", "--help"], ["cloud", "create", "--help"], ["whoami", "--help"]]
)
def test_what_cloud_users_type(words: list[str]) -> None:
    argv = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
