"""A cloud user's machine of a walk, and what must become of it."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from occi_bridge.occi import schema
from tests.chaos.patience import ForgivenError, Violation, retried, tolerant
from tests.chaos.wire import At, Seen
from tests.e2e.occi import Machine
from wnodes_lrms.model import State

if TYPE_CHECKING:
    from tests.chaos.environment import Environment

_HEALED = 180.0  # seconds after which what a machine has suffered has had its consequences
_QUEUED = "waiting for the batch system"


@dataclass
class CloudMachine:
    """A cloud user's machine, and what must become of it."""

    env: "Environment"
    machine: Machine
    excused: bool = False  # the walk itself ends the machine in ways that its user did not ask for

    def is_(self, state: str) -> "CloudMachine":
        """It must come to be in this state; where it was hurt meanwhile, it is asked again."""
        asked = begun = time.monotonic()

        def reached() -> bool:
            nonlocal asked
            if self.state == state and (state != "active" or self._runs()):
                return True
            hurt = self.env.case.hurt > begun - _HEALED or self.excused
            if hurt and time.monotonic() > asked + 10:
                asked = time.monotonic()
                self.again(state)
            return False

        self.env.wait(reached, lambda: f"VM {self.machine.id} {state}: {self.describe()}")
        return self

    def sleep(self) -> None:
        """The guest puts itself to sleep, once it takes logins and nobody waits for its word."""
        asleep = "(sleep 1; echo mem >/sys/power/state) >/dev/null 2>&1 </dev/null &"

        def told() -> object:
            done = tolerant(lambda: self.machine.try_ssh(asleep).returncode == 0)
            return done or (self.env.case.hurts and tolerant(lambda: self.state != "active"))

        self.env.wait(told, lambda: f"takes logins: {self.describe()}")

    def _runs(self) -> bool:
        """Whether the bait has it running: what is being stopped is active to its user, too."""
        return self.env.box.rows().get(self.machine.id) == State.READY

    def says(self, command: str, wanted: str) -> None:
        """A command in it must come to say this; where it was hurt, it may have to start again."""

        def said() -> bool:
            if self.env.case.hurts and self.state != "active":
                self.again("active")
                time.sleep(5)
                return False
            return self.machine.ssh(command) == wanted

        self.env.wait(said, lambda: f"«{command}» says {wanted!r}: {self.describe()}")

    def again(self, state: str) -> None:
        """Ask for the state once more, as a user would whose machine has stopped."""
        now = self.state
        if state == "active" or (state == "suspended" and now == "inactive"):
            tolerant(lambda: self.machine.act("start"))
        elif state == "suspended":
            tolerant(lambda: self.machine.act("suspend", method="suspend"))
        elif state == "inactive":
            tolerant(lambda: self.machine.act("stop", method="poweroff"))

    @property
    def state(self) -> str:
        """OCCI's word."""
        return self.machine.state

    def describe(self) -> str:
        """All that its user sees."""
        try:
            return str(self.machine.show())
        except (AssertionError, httpx.HTTPError) as error:
            return repr(error)

    def act(self, action: str, **attributes: object) -> None:
        """An action, asked until the service takes it; one that a hurt machine can't do is none."""
        with suppress(ForgivenError):
            retried(lambda: self.machine.act(action, **attributes), self._settled)

    def _settled(self) -> bool:
        """Whether the machine was hurt: then an action may not fit its state any more."""
        return self.env.case.hurts > 0 or self.excused

    def boot_id(self) -> str:
        """Of the kernel that runs in it; empty for one that was hurt."""
        with suppress(ForgivenError):
            return retried(self.machine.boot_id, self._settled)
        return ""

    def stays(self, state: str) -> None:
        """It must be in that state now, unless it was hurt, or nobody can tell."""
        now = tolerant(lambda: self.state)
        if now not in (None, state) and not self.env.case.hurts:
            raise Violation(f"VM {self.machine.id} stays {state}: {self.describe()}")

    @property
    def is_queued(self) -> bool:
        """Whether its lease waits in the batch system."""
        return self.machine.message.startswith(_QUEUED)

    def moves(self) -> list[At]:
        """The moves that it has made."""
        return self.env.listener.of(self.machine.id)

    def made(self, old: State, new: State) -> bool:
        """Whether it has made this move."""
        return any((at.seen.old, at.seen.new) == (old, new) for at in self.moves())

    def rests(self) -> None:
        """It must come to have no lease; where it was hurt meanwhile, it is asked again.

        One whose memory could not be written, as on a full disk, goes on.
        """
        resting = (State.STOPPED, State.HIBERNATED, State.FAILED)
        asked = time.monotonic()

        def rests() -> bool:
            nonlocal asked
            if self.env.box.rows()[self.machine.id] in resting:
                return True
            if self.env.case.hurts and self._runs() and time.monotonic() > asked + 10:
                asked = time.monotonic()
                tolerant(lambda: self.machine.act("suspend", method="hibernate"))
            return False

        self.env.wait(rests, lambda: f"at rest: {self.describe()}")

    def link(self, target: str, kind: str = "storagelink") -> str:
        """Link it to a volume or a network, until that is in; the link's path."""

        def ask() -> None:
            if not self._links(target):
                ends = {schema.SOURCE: self.machine.path, schema.TARGET: target}
                self.machine.cloud.create(kind, {"attributes": ends})

        def linked() -> bool:
            states = [link["attributes"][f"occi.{kind}.state"] for link in self._links(target)]
            return self._goes_on() and states == ["active"]

        retried(ask)
        self.env.wait(linked, lambda: f"linked to {target}: {self.describe()}")
        [link] = retried(lambda: self._links(target))
        return f"/{kind}/{link['id']}"

    def unlink(self, path: str) -> None:
        """Delete a link; a volume's stays until the guest has let go of it."""
        cloud = self.machine.cloud

        def gone() -> bool:
            answers = (cloud.ask(method, path).status_code for method in ("DELETE", "GET"))
            return [*answers] == [404, 404]

        self.env.wait(gone, lambda: f"{path} is gone: {self.describe()}")

    def disk(self, link: str) -> str:
        """The device that a linked volume is in the guest, once that sees it."""
        found = ""

        def seen() -> bool:
            nonlocal found
            serial = self.machine.cloud.get(link)["attributes"][schema.SERIAL]
            if self._goes_on():
                found = self.machine.ssh(f"grep -l {serial} /sys/block/*/serial").split("/")[3]
            return bool(found)

        self.env.wait(seen, lambda: f"the guest sees {link}: {self.describe()}")
        return f"/dev/{found}"

    def mac(self, card: str) -> str:
        """The MAC of a link to a network."""
        attributes = retried(lambda: self.machine.cloud.get(card))["attributes"]
        return str(attributes["occi.networkinterface.mac"])

    def _links(self, target: str) -> list[Mapping[str, Any]]:
        links: list[Mapping[str, Any]] = self.machine.cloud.get(self.machine.path)["links"]
        return [link for link in links if link["attributes"][schema.TARGET] == target]

    def _goes_on(self) -> bool:
        """Whether it runs; one that was hurt is asked to."""
        if self.env.case.hurts and self.state != "active":
            self.again("active")
            return False
        return True

    def lease(self) -> str:
        """The number of its lease's job; empty without one."""
        moves = self.env.listener.of(self.machine.id)
        return next((at.seen.job for at in reversed(moves) if at.seen.job), "")

    def cancel_lease(self, _seen: Seen | None = None) -> None:
        """Its lease's job is cancelled, by an administrator."""
        number = self.lease()
        retried(lambda: self.env.box.lrms.cancel(number))

    def delete(self) -> None:
        """Delete it: nothing is left."""
        retried(self._delete)
        self.env.gone(self.machine.id)

    def _delete(self) -> None:
        answer = self.machine.cloud.ask("DELETE", self.machine.path)
        assert answer.status_code in (200, 404), f"{answer.status_code} {answer.text}"

    def delete_now(self, seen: Seen) -> None:
        """Delete it at a move, and hold that until the bait has heard of it."""
        retried(self._delete)
        self.env.hold(seen)
