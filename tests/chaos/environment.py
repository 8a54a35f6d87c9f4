"""What a walk has at hand: users, their jobs and machines, and patience with a site that breaks.

Whatever a fault may not hurt must come out right; what it may hurt is asked for again.
"""

import pwd
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from contrib.site.box.layout import IMAGE, NODES
from occi_bridge.occi import schema
from tests.chaos.batchjob import BatchJob
from tests.chaos.case import Case, Order
from tests.chaos.cloudmachine import CloudMachine
from tests.chaos.faults import Fault
from tests.chaos.inject import SLOW_FOR
from tests.chaos.jobs import Queue
from tests.chaos.listener import Listener
from tests.chaos.patience import Violation, retried, tolerant
from tests.chaos.site import Box
from tests.chaos.wire import Seen
from tests.e2e.box import USER
from tests.e2e.occi import OWN, USERS, Cloud, Key, Machine
from wnodes_lrms.config.load import Config
from wnodes_lrms.model import State

_LONG = 360.0  # seconds: a queue, several faults, a bait's grace time


@dataclass
class Environment:
    """One run of a walk."""

    case: Case
    box: Box
    listener: Listener
    queue: Queue
    config: Config
    key: Key

    def at(
        self, new: State | None, act: Callable[[Seen], None], old: State | str | None = "any"
    ) -> None:
        """Have something done at the next such move, before what follows from it."""
        self.case.orders.append(Order(old, new, act))

    def at_device(self, device: str, act: Callable[[Seen], None], *, done: bool) -> None:
        """The same for a device that is about to come to a machine that runs, or to leave it
        ("plug", "unplug"); `done`: once libvirt has done it, and nobody knows yet."""
        self.case.orders.append(Order(None, None, act, device, done))

    def aside(self, act: Callable[[], object]) -> None:
        """Do something beside the bait's thread, which must not be held up for it."""

        def work() -> None:
            try:
                retried(act)
            except Violation as error:
                self.case.trouble.append(str(error))

        threading.Thread(target=work, daemon=True).start()

    def give_up(self) -> None:
        """Nothing more is to be done at any move: what was ordered and not done was missed."""
        self.case.missed |= bool(self.case.orders)
        self.case.orders.clear()

    def hold(self, seen: Seen, seconds: float = 6.0) -> None:
        """Wait, at a move, for the next move of the same machine."""
        count = len(self.listener.of(seen.machine))
        self.listener.wait(lambda: len(self.listener.of(seen.machine)) > count, seconds)

    def wait(
        self, true: Callable[[], object], what: str | Callable[[], str], seconds: float = _LONG
    ) -> None:
        """Wait for what must come true. Raises Violation, with what it was."""
        end = time.monotonic() + seconds
        while not tolerant(true):
            if self.case.trouble:
                raise Violation("; ".join(self.case.trouble))
            if time.monotonic() > end:
                said = what if isinstance(what, str) else tolerant(what)
                raise Violation(f"not within {seconds:.0f} s: {said}")
            time.sleep(0.3)

    def gone(self, name: str) -> None:
        """Nothing is left of a machine, or of the machines of a job."""
        ids = {at.seen.machine for at in self.listener.of(name)}
        self.wait(
            lambda: not ids & self.box.rows().keys(),
            f"nothing is left of {name}",
        )

    @contextmanager
    def slowed(self, fault: Fault, node: str = NODES[0]) -> Iterator[Callable[[], bool]]:
        """A bait or the library does not answer while this lasts; it says whether that is long
        enough by now."""
        with self.listener.slowed(self.case, fault, node):
            end = time.monotonic() + SLOW_FOR
            yield lambda: time.monotonic() > end

    # Batch

    def submit(self, script: str = "sleep 2; echo ran", image: str = IMAGE) -> BatchJob:
        """A job in a machine, as the ordinary user."""
        home = Path(pwd.getpwnam(USER).pw_dir)
        with self.listener.naming(self.case) as name:
            lrms = self.box.lrms
            what, options = lrms.command(script), ("--mem=384", "--time=30")
            job = retried(lambda: lrms.submit(what, options, {"WNODES_IMAGE": image}, home))
            name(job.number)
        return BatchJob(self, job)

    # Cloud

    def have(self, kind: str, attributes: Mapping[str, object]) -> str:
        """A volume or a network of the cloud user's; its path."""
        user, name = Cloud(USERS / "alice" / "vomsproxy.pem"), uuid4().hex
        path = f"/{kind}/{name}"

        def ask() -> None:
            if user.ask("GET", path).status_code != 200:
                user.create(kind, {"attributes": {schema.ID: name, **attributes}})

        retried(ask)
        return path

    def delete(self, path: str) -> None:
        """Delete it, once nothing is linked to it any more."""
        user = Cloud(USERS / "alice" / "vomsproxy.pem")
        gone = f"{path} is deleted"
        self.wait(lambda: user.ask("DELETE", path).status_code in (200, 404), gone)

    def create(self, image: str = IMAGE, excused: bool = False) -> CloudMachine:
        """A cloud user's machine; it need not run yet."""
        user = Cloud(USERS / "alice" / "vomsproxy.pem")

        def ask() -> Machine:
            for path in user.locations("/compute/"):  # of an earlier try whose answer was lost
                if not self.listener.knows(path.rpartition("/")[2]):
                    user.ask("DELETE", path)
            return user.machine(f"{OWN}os_tpl#{image}", key=self.key)

        with self.listener.naming(self.case) as name:
            made = retried(ask)
            name(made.id)
        return CloudMachine(self, made, excused)
