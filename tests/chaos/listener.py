"""Hears of every move, does what the walks have ordered at it, and injects what is due."""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.case import Case
from tests.chaos.faults import HURT, SLOW, Fault, Plan
from tests.chaos.inject import Injector, NothingThereError
from tests.chaos.wire import At, Seen, heard
from wnodes_lrms.model import State

# Seconds that a fault waits for another one to be over.
_TURN, _TURN_OPEN = 10.0, 0.5
_MOST_SLOW = 2  # of the slow faults for one machine: a walk has its time, too
_BEING_MADE = (State.REQUESTED, State.BUILDING, State.STARTING)


class Listener:
    """The harness's end of the socket."""

    def __init__(self, path: Path, plan: Plan, injector: Injector) -> None:
        self.plan = plan
        self._injector = injector
        self.moves: list[At] = []
        self.news = threading.Condition()
        self.states: dict[str, tuple[str, State]] = {}  # machine → node, state
        self._cases: dict[str, Case] = {}  # by job number, or by machine
        self._naming = threading.Lock()
        self.faulty: list[str] = []  # what the harness itself could not do
        self.log: Callable[[str], None] = lambda _text: None
        self.note: Callable[[str], None] = lambda _text: None  # for the log's reader alone
        listener = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode()
                if line and listener._hear(heard(line), self._alive):
                    self.wfile.write(b"go\n")

            def _alive(self) -> bool:
                self.connection.settimeout(0.01)
                try:
                    return bool(self.connection.recv(1))  # it says no more: only its end is heard
                except TimeoutError:
                    return True
                except OSError:
                    return False
                finally:
                    self.connection.settimeout(None)

        class Listener(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                """The bait was killed while it waited."""

        path.unlink(missing_ok=True)
        self._server = Listener(str(path), Handler)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """It hears while this lasts."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    @contextmanager
    def naming(self, case: Case) -> Iterator[Callable[[str], None]]:
        """Give the case a job's number or a machine's id before any of its moves is judged."""

        def known(name: str) -> None:
            self._cases[name] = case
            self.note(f"{case.name}: has {name}")

        with self._naming:
            yield known

    def knows(self, name: str) -> bool:
        """Whether this is the job or the machine of a walk."""
        return name in self._cases

    def case_of(self, seen: Seen) -> Case | None:
        """The walk's case to which a move belongs."""
        return self._cases.get(seen.job) or self._cases.get(seen.machine)

    def names_of(self, case: Case) -> list[str]:
        """Its jobs, or its machines."""
        return [name for name, known in self._cases.items() if known is case]

    def of(self, machine: str) -> list[At]:
        """The moves of a machine, or of a job's machines."""
        with self.news:
            return [at for at in self.moves if machine in (at.seen.machine, at.seen.job)]

    def wait(self, true: Callable[[], object], seconds: float) -> bool:
        """Wait for something that comes with a move."""
        with self.news:
            return bool(self.news.wait_for(true, seconds))

    @property
    def one(self) -> threading.Lock:
        """Who breaks something holds this, but for what is slow."""
        return self._injector.one

    @contextmanager
    def slowed(self, case: Case, fault: Fault, node: str) -> Iterator[None]:
        """A walk has a slow fault of its own there while this lasts."""
        with self._injector.lock(fault, node):
            self.plan.count(fault)
            case.faults.append(fault)
            case.own += 1
            self.log(f"{fault} for {case.name} ({node})")
            with self._injector.slowed(fault, node):
                yield

    def _hear(self, seen: Seen, alive: Callable[[], bool]) -> bool:
        """Whether the bait may go on; False if it was killed."""
        if seen.message:
            return self._hear_of_message(seen)
        with self._naming:
            case = self.case_of(seen)
        if seen.device:
            self.note(f"{seen.step} ({seen.node}, {seen.machine})")
            self._obey(seen, case)
            return True
        if seen.done:
            self._note(seen)
            self._obey(seen, case)
        with self.news:
            building = [
                state
                for machine, (node, state) in self.states.items()
                if node == seen.node and machine != seen.machine and state in _BEING_MADE
            ]
        # What may end a machine waits until the walk has come to what it is for.
        spared = case is None or case.hurts > 0 or bool(case.orders)
        unfit = self._injector.unfit(seen, len(building), spared)
        if case is None or sum(fault in SLOW for fault in case.faults) >= _MOST_SLOW:
            unfit |= SLOW
        fault = self.plan.take(seen, unfit)
        return fault is None or self._inject(fault, seen, case, alive)

    def _hear_of_message(self, seen: Seen) -> bool:
        if not self.plan.take_message(seen):
            return True
        with self._injector.one:
            self.log(f"{Fault.PUBLISHER} at {seen.step} ({seen.node})")
            self._injector.inject(Fault.PUBLISHER, seen)
        return False

    def _note(self, seen: Seen) -> None:
        self.note(f"{seen.step} ({seen.node}, job {seen.job}, {seen.machine})")
        with self.news:
            self.moves.append(At(seen, time.monotonic()))
            if seen.new is None:
                self.states.pop(seen.machine, None)
            else:
                self.states[seen.machine] = (seen.node, seen.new)
            self.news.notify_all()

    def _obey(self, seen: Seen, case: Case | None) -> None:
        for order in list(case.orders) if case else []:
            if case and order.fits(seen):
                case.orders.remove(order)
                self.note(f"{case.name}: does what it waited for at {seen.step}")
                try:
                    order.act(seen)
                except Exception as error:  # the walk says it, not the bait's thread
                    case.trouble.append(f"at {seen.step}: {error!r}")

    def _inject(
        self, fault: Fault, seen: Seen, case: Case | None, alive: Callable[[], bool]
    ) -> bool:
        kills = fault in (Fault.BAIT, Fault.COMMIT)
        # A move that waits before its commit keeps all others of its bait waiting, so not for long.
        lock = self._injector.lock(fault, seen.node)
        waits = seen.done and fault not in SLOW
        if not lock.acquire(timeout=_TURN if waits else _TURN_OPEN):
            self.plan.give_back(seen, fault, absent=False)
            return True
        try:
            if not alive():  # another fault was quicker
                self.plan.give_back(seen, fault, absent=False)
                return False
            began = time.monotonic()
            hurt = (case.hurts, case.hurt) if case else (0, 0.0)
            if case and fault in HURT:
                case.was_hurt()
            if fault is Fault.DISK:
                self._hurt_all_on(seen.node, began)
            try:
                self._injector.inject(fault, seen)
                if fault is Fault.DISK:  # those that have come meanwhile, or come and gone
                    self._hurt_all_on(seen.node, began)
            except (AssertionError, OSError) as error:
                self.faulty.append(f"{fault} at {seen.step} could not be done or mended: {error}")
                return not kills
            except NothingThereError:
                self.plan.give_back(seen, fault, absent=True)
                if case:
                    case.hurts, case.hurt = hurt
                return True
            took = time.monotonic() - began
            where = f"{seen.node}, job {seen.job}, {seen.machine}"
            self.log(f"{fault} at {seen.step} ({where}), {took:.1f} s")
            if case:
                case.faults.append(fault)
        finally:
            lock.release()
        return not kills

    def _hurt_all_on(self, node: str, since: float) -> None:
        with self.news:
            here = {machine for machine, (at, _) in self.states.items() if at == node}
            here |= {
                at.seen.machine for at in self.moves if at.seen.node == node and at.time >= since
            }
            jobs = [at.seen.job for at in self.moves if at.seen.machine in here]
        for case in {id(c): c for n in (*here, *jobs) if (c := self._cases.get(n))}.values():
            case.was_hurt()
