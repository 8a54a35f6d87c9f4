"""A bait's control socket with answers of the test's own, for `wnodes`."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class _Caller(socketserver.StreamRequestHandler):
    server: "BaitStandIn"

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        self.server.asked.append(request)
        answer = {"ok": True, "end": True} | self.server.answers[request["op"]]
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class BaitStandIn(socketserver.ThreadingUnixStreamServer):
    """Answers each operation with what `answers` has for it, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Caller)
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {}


@contextmanager
def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaitStandIn]:
    """The bait of node hv1, and a configuration that `wnodes` finds it by."""
    (folder / "hv1").mkdir()
    config = folder / "wnodes.toml"
    config.write_text(
        f'cluster = "box"\nlrms = "slurm"\n[bait]\nsocket = "{folder}/%n/bait.sock"\n'
    )
    monkeypatch.setenv("WNODES_CONFIG", str(config))
    with BaitStandIn(folder / "hv1" / "bait.sock") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
