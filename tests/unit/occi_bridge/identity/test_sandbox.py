"""In a process that ends with the test: what it can do before, and what then."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from occi_bridge.identity import sandbox
from tests.unit import ca
from tests.unit.conftest import NOBODY, needs_open_project, needs_root

LANDLOCK = sandbox._libc.syscall(444, None, 0, 1)

TRY = """
import json, os, signal, socket, sys
from occi_bridge.identity import sandbox

trusted, secret, linked, port, other, confined = json.loads(sys.argv[1])
if confined:
    sandbox.become_nobody()
    sandbox.read_only([trusted])
    sandbox.limit(1 << 30)

def can(what):
    try:
        what()
        return True
    except OSError:
        return False

print(json.dumps({
    "read": can(lambda: open(trusted + "/file").read()),
    "list": can(lambda: os.listdir(trusted)),
    "read what is linked": can(lambda: open(trusted + "/link").read()),
    "read a secret": can(lambda: open(secret).read()),
    "write": can(lambda: open(trusted + "/new", "w").close()),
    "connect": can(lambda: socket.create_connection(("127.0.0.1", port)).close()),
    "signal": can(lambda: os.kill(other, 0)),
    "fork": can(lambda: os.fork() or os._exit(0)),
    "import": can(lambda: __import__("sqlite3")),
}))
"""


def tried(folder: Path, confined: bool) -> dict[str, bool]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(["sleep", "60"], user=NOBODY.pw_uid) as other,
    ):
        port = server.getsockname()[1]
        paths = [str(folder / name) for name in ("trusted", "secret", "linked")]
        words = json.dumps([*paths, port, other.pid, confined])
        done = subprocess.run(
            [sys.executable, "-c", TRY, words],
            user=NOBODY.pw_uid,
            group=NOBODY.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=True,
        )
        other.send_signal(signal.SIGKILL)
    found: dict[str, bool] = json.loads(done.stdout)
    return found


@needs_root
@needs_open_project
@pytest.mark.skipif(LANDLOCK < 6, reason="this kernel's Landlock can't do all of it")
def test_little_is_left() -> None:
    with ca.shared_folder() as folder:
        (folder / "trusted").mkdir()
        (folder / "linked").mkdir()
        (folder / "linked" / "target").write_text("x")
        (folder / "trusted" / "file").write_text("x")
        (folder / "trusted" / "link").symlink_to("../linked/target")
        (folder / "secret").write_text("x")
        for path in [folder / "trusted", folder / "secret"]:
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        assert set(tried(folder, confined=False).values()) == {True}
        left = {what for what, possible in tried(folder, confined=True).items() if possible}
        assert left == {"read", "list", "read what is linked", "import"}
