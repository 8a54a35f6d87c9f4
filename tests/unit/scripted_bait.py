"""A bait's control socket that answers as a test wants, for hooks, starters and `wnodes`.

For what speaks to its HTTPS service there is occi_bridge/fake_baits.py.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

Answer = Callable[[socket.socket, dict[str, Any]], None]  # to a request, over its connection


class ScriptedBait:
    """Notes each caller's request, and gives the answer, in a thread for each."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answer = answer
        self._links: list[socket.socket] = []
        path.unlink(missing_ok=True)  # an earlier one's
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, link.makefile() as stream, contextlib.suppress(OSError):  # who waits for none
            line = stream.readline()
            assert line.endswith("\n")
            request = json.loads(line)
            self.heard.append(request)
            self.answer(link, request)

    def close(self) -> None:
        """As when the bait is killed."""
        for link in (self._listener, *self._links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def says(*answers: object) -> Answer:
    """The same lines to each caller."""
    return streams(lambda _request: answers)


def streams(answers: Callable[[dict[str, Any]], Iterable[object]]) -> Answer:
    """Lines that follow from the request, as they come."""

    def answer(link: socket.socket, request: dict[str, Any]) -> None:
        for each in answers(request):
            link.sendall(json.dumps(each).encode() + b"\n")

    return answer


class BaitOfWnodes(ScriptedBait):
    """Gives each operation the answer that `answers` has for it."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        done = {"ok": True, "end": True}
        super().__init__(path, streams(lambda request: [done | self.answers[request["op"]]]))


@contextlib.contextmanager
def configured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaitOfWnodes]:
    """The bait of node hv1, and a configuration that `wnodes` finds it by."""
    (folder / "hv1").mkdir()
    config = folder / "wnodes.toml"
    config.write_text(
        f'cluster = "box"\nlrms = "slurm"\n[bait]\nsocket = "{folder}/%n/bait.sock"\n'
    )
    monkeypatch.setenv("WNODES_CONFIG", str(config))
    with contextlib.closing(BaitOfWnodes(folder / "hv1" / "bait.sock")) as bait:
        yield bait
