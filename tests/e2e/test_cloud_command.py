"""A VM's whole life by `wnodes cloud`, as a user types it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.box import machines, wait_until
from tests.e2e.lrms.slurm import leases
from tests.e2e.occi import USERS, Cloud, Key

PROXY = USERS / "alice" / "vomsproxy.pem"


def test_from_create_to_delete(alice: Cloud, key: Key, tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}

    def wnodes(*words: str, **options: Any) -> str:
        done = subprocess.run(
            ["wnodes", "cloud", "--proxy", str(PROXY), *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=180,
            check=False,
            **options,
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    made = wnodes(
        *("create", "web", "--image", "small", "--size", "small"),
        *("--key", str(key.path.with_suffix(".pub")), "--wait", "--ssh"),
        input="hostname; echo kept >/root/kept; sync\n",
    )
    vm, inside = made.split()
    assert inside == "web"
    [row] = json.loads(wnodes("list", "--json"))
    assert (row["id"], row["name"], row["state"]) == (vm, "web", "active")
    assert f"/compute/{vm}" in alice.locations("/compute/")

    wnodes("stop", "web", "--wait")
    wait_until(lambda: not leases(), 20, "its lease is freed")
    wnodes("start", vm[:8], "--wait")
    login = ("ssh", "--identity", str(key.path), "web")
    assert wnodes(*login, "cat", "/root/kept") == "kept\n"
    wnodes("delete", "web")
    assert json.loads(wnodes("list", "--json")) == []
    wait_until(lambda: not machines(), 30, "the VM is gone")
