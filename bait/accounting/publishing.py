"""Publishes cloud VMs' wallclock: from the journal into the queue of APEL's SSM.

Which records a message has is decided by one transaction, which writes the message's text and marks
its usages: after that, each is in one message, once. The message then goes from state to state,
each written down before the next act, so that whoever comes after a crash knows what is left:

written   its text is in the ledger; an element in the outbox may be missing, or half made
handing   its element is whole; it was handed over if it is not in the outbox any more
sent      SSM has it, or had it
"""

import fcntl
import logging
import pwd
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path

from bait.accounting.apel import MOST, Publisher, message
from bait.accounting.outbox import Outbox
from bait.ledger.ledger import Ledger
from bait.ledger.records import Clock, Usage
from bait.ledger.usage import usages
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.model import Kind
from wnodes_lrms.version import VERSION

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """How far a message has come."""

    WRITTEN = "written"
    HANDING = "handing"
    SENT = "sent"


def publish(ledger: Ledger, config: Config, node: str) -> list[str]:
    """Put what is new into the queue; the names of the messages that it has now got there.

    Raises RejectedError where the site has no name, WnodesError where the queue does not take it,
    or another call of this is at work. Nothing is lost by either: the next call goes on.
    """
    settings = config.accounting
    if not settings.site:
        raise RejectedError("[accounting] site is not set: nothing is published")
    publisher = Publisher(settings.site, settings.service, f"wnodes-lrms {VERSION}")
    with _alone(Path(config.bait.state_dir) / "publishing.lock"):
        outbox = Outbox(Path(settings.queue), node)
        names = _send(ledger, outbox)
        _write(ledger, publisher)
        names += _send(ledger, outbox)
        outbox.clear()
    return names


def due(found: Iterable[Usage], unproven: Collection[int]) -> list[Usage]:
    """The usages of which APEL is to hear: cloud VMs' that it has not heard all of.

    `unproven`: numbers of those whose VM is being started and may never run. Nor is one due
    whose clock was stopped, as its VM is lost, before it is closed: it is told of once more,
    then, and that is its end.
    """
    return [
        usage
        for usage in found
        if usage.kind is Kind.CLOUD
        and usage.number not in unproven
        and (usage.ended is not None or usage.clock is not Clock.CLOSED)
        and (usage.sent is None or usage.sent < told(usage))
    ]


def told(usage: Usage) -> float:
    """What `sent` of a usage is once it has been published as it stands.

    An open one: its seconds. A closed one: its end, which is more than any count of seconds, so
    that the end is told also of a VM that had not run on since it was published.
    """
    return usage.wall + usage.held if usage.ended is None else usage.ended


def _write(ledger: Ledger, publisher: Publisher) -> None:
    """Write messages of all that is due, and mark it, in one transaction."""
    with ledger.store.change() as db:
        fresh = db.execute("SELECT number FROM usage WHERE ended IS NULL AND ran = 0")
        found = due(usages(db, Kind.CLOUD, 0.0), {number for (number,) in fresh})
        users = _users({usage.uid for usage in found if usage.uid is not None})
        for first in range(0, len(found), MOST):
            part = found[first : first + MOST]
            number = db.execute(
                "INSERT INTO message (at, text, state) VALUES (?, ?, ?)",
                (time.time(), message(part, users, publisher), Stage.WRITTEN),
            ).lastrowid
            db.executemany(
                "UPDATE usage SET sent = ?, message = ? WHERE number = ?",
                [(told(usage), number, usage.number) for usage in part],
            )


def _send(ledger: Ledger, outbox: Outbox) -> list[str]:
    """Hand over all messages that are not sent, the oldest first."""
    with ledger.store.change() as db:
        unsent = db.execute(
            "SELECT number, text, state FROM message WHERE state != ? ORDER BY number",
            (Stage.SENT,),
        ).fetchall()
    names = []
    for number, text, state in unsent:
        if state == Stage.HANDING and not outbox.holds(number):
            _set(ledger, number, Stage.SENT)
            log.info("message %d had been handed over before the bait was stopped", number)
            continue
        if state == Stage.WRITTEN:
            outbox.prepare(number, text)
            _set(ledger, number, Stage.HANDING)
        names.append(outbox.hand_over(number))
        _set(ledger, number, Stage.SENT)
        log.info("message %d is in %s as %s", number, outbox.queue, names[-1])
    return names


def _set(ledger: Ledger, number: int, stage: Stage) -> None:
    with ledger.store.change() as db:
        db.execute("UPDATE message SET state = ? WHERE number = ?", (stage, number))


def _users(uids: Collection[int]) -> dict[int, str]:
    known = {}
    for uid in uids:
        try:
            known[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            log.warning("uid %d of a usage has no name here", uid)
    return known


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One publisher at a time; the kernel frees the lock of one that is killed."""
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WnodesError("another publish is under way; it sends what there is") from error
        except OSError as error:
            raise WnodesError(f"{path}: {error.strerror}") from error
        yield
