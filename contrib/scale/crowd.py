"""Many cloud users at once: they make VMs, list them, and delete them."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from contrib.scale.cloud import Client, NoAnswerError, Times
from contrib.scale.plan import BRIDGES, USERS, user

T = TypeVar("T")

_LOOK = 0.2  # seconds between two looks of a user at a VM that is to run
_AGAIN = 0.5  # seconds before a user whom the bridge did not answer asks again
LATE = 300.0  # seconds after which a VM that does not run counts as late


@dataclass
class Crowd:
    """Users at a site, and the VMs that they have and want."""

    site: Path
    times: Times = field(default_factory=Times)
    kept: dict[str, str] = field(default_factory=dict)  # path of a VM → whose it is
    late: list[str] = field(default_factory=list)  # paths of VMs that did not come to run in time

    def fill(self, owner: str, count: int, hands: int = 4) -> None:
        """Have a user make so many VMs more, and keep them. Whether they run is not waited for."""
        todo = list(range(count))

        def work(client: Client) -> None:
            while True:
                with self.times.lock:
                    if not todo:
                        return
                    todo.pop()
                path = _insist(client.create)
                with self.times.lock:
                    self.kept[path] = owner

        self._each(hands, lambda number: work(self._client(owner, number)))

    def churn(self, seconds: float, hands: int, first: int = 10) -> int:
        """For so long `hands` users at a time, each another one, make a VM, wait until it runs, and
        delete it; how many came to run."""
        until, made = time.monotonic() + seconds, 0

        def work(number: int) -> None:
            nonlocal made
            turn = number
            while time.monotonic() < until:
                client = self._client(user(first + turn % (USERS - first)), number)
                turn += hands
                if self._one(client):
                    with self.times.lock:
                        made += 1
                client.close()

        self._each(hands, work)
        return made

    def read(self, owner: str, what: str, seconds: float) -> None:
        """For so long list a user's VMs, over and over with a short pause; `what` is the time's."""
        client, until = self._client(owner, 0), time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                client.list(what)
            except NoAnswerError:
                time.sleep(_AGAIN)
            time.sleep(0.02)
        client.close()

    def delete(self, vms: Mapping[str, str], hands: int = 4) -> None:
        """Delete VMs: the path of each, and whose it is."""
        todo = list(vms.items())

        def work(number: int) -> None:
            clients: dict[str, Client] = {}
            while True:
                with self.times.lock:
                    if not todo:
                        return
                    path, owner = todo.pop()
                client = clients.setdefault(owner, self._client(owner, number))
                _insist(lambda client=client, path=path: client.delete(path))  # type: ignore[misc]

        self._each(hands, work)

    def states(self) -> dict[str, str]:
        """The state of each VM that is kept, as its owner sees it."""
        clients = {owner: self._client(owner, 0) for owner in set(self.kept.values())}
        return {
            path: _insist(lambda path=path, owner=owner: clients[owner].state(path))  # type: ignore[misc]
            for path, owner in self.kept.items()
        }

    def _one(self, client: Client) -> bool:
        path = _insist(client.create)
        begun = time.monotonic()
        while _insist(lambda: client.state(path)) != "active":
            if time.monotonic() > begun + LATE:
                with self.times.lock:
                    self.late.append(path)
                break
            time.sleep(_LOOK)
        else:
            self.times.add("active", time.monotonic() - begun)
            _insist(lambda: client.delete(path))
            return True
        _insist(lambda: client.delete(path))
        return False

    def _client(self, owner: str, number: int) -> Client:
        return Client(self.site, owner, self.times, BRIDGES[number % len(BRIDGES)])

    def _each(self, hands: int, work: Callable[[int], None]) -> None:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(hands)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _insist(ask: Callable[[], T], seconds: float = 900.0) -> T:
    """Ask until there is a good answer."""
    until = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except NoAnswerError:
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN)
