"""What users and administrators do with a batch job's machine, so that it makes each move."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.chaos.batchjob import BatchJob
from tests.chaos.environment import Environment
from tests.chaos.patience import tolerant
from tests.chaos.site import bait_of
from tests.chaos.walk import Walk, along, walk
from tests.chaos.wire import Seen
from tests.e2e.box import CATALOGUE, GOOD, call
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image
from wnodes_lrms.model import Kind, State

LEAVING = "leaving_debian_x86_64"  # an image that is taken out of the catalogue, and put back
CHANGED = "changed_debian_x86_64"  # one with a wrong checksum
_CHANGES = {tag: threading.Lock() for tag in (LEAVING, CHANGED)}


def image(tag: str, **changes: object) -> None:
    """Put a variant of the good image into the catalogue."""
    catalogue.write(CATALOGUE, Image.model_validate(GOOD.model_dump() | {"tag": tag} | changes))


@contextmanager
def one_at_a_time(tag: str) -> Iterator[None]:
    """No other walk changes this image while this lasts; it is right before, and afterwards."""
    if tag not in _CHANGES:
        yield
        return
    with _CHANGES[tag]:
        image(tag)
        try:
            yield
        finally:
            image(tag)


def take_out(tag: str) -> None:
    """Take an image out of the catalogue; the list that Slurm has of them stays."""
    (CATALOGUE / f"{tag}.toml").unlink(missing_ok=True)


def wrong() -> dict[str, object]:
    """What makes an image one that can't be fetched."""
    return {"disk": GOOD.disk.model_copy(update={"sha256": "0" * 64})}


def spoil(env: Environment, seen: Seen) -> None:
    """Take a machine's seed away: libvirt can't start it."""
    folder = Path(env.config.bait.run_dir.replace("%n", seen.node))
    env.box.seen(folder / "machines" / seen.machine / "seed.iso").unlink()


def runs(env: Environment) -> None:
    """A job runs to its end."""
    env.submit().completes()


def cancelled(state: State, env: Environment) -> None:
    """A job is cancelled when its machine comes into a state."""
    job = env.submit("sleep 600; echo ran")

    def cancel(seen: Seen) -> None:
        job.cancel()
        env.hold(seen)

    env.at(state, cancel)
    env.wait(lambda: not env.case.orders or job.is_over, "begun")
    job.cancelled()


def image_leaves(env: Environment) -> None:
    """The image leaves the catalogue when the job has just begun: it is held."""
    with one_at_a_time(LEAVING):
        env.at(State.REQUESTED, lambda _seen: take_out(LEAVING))
        job = env.submit(image=LEAVING)
        env.wait(lambda: job.state in ("HELD", "FAILED", "COMPLETED"), lambda: f"held: {job.state}")
        job.cancelled()


def image_changed(env: Environment) -> None:
    """An image is not what the catalogue says, until somebody mends that."""
    with one_at_a_time(CHANGED):
        image(CHANGED, **wrong())
        env.at(State.FAILED, lambda _seen: image(CHANGED), old=State.BUILDING)
        env.submit(image=CHANGED).completes()


def does_not_start(env: Environment) -> None:
    """libvirt can't start the machine; the job is requeued, and gets one that it can."""
    env.at(State.STARTING, partial(spoil, env))
    env.submit().completes()


def die(env: Environment, seen: Seen) -> None:
    """Kill a machine's QEMU."""
    env.case.was_hurt()
    env.box.end_vm(seen.machine)
    env.hold(seen)


def guest_dies(state: State, env: Environment) -> None:
    """The guest dies; the job is requeued, and gets another one."""
    env.at(state, partial(die, env))
    env.submit("sleep 5; echo ran").completes()


def go_on(number: str) -> bool:
    """Have Slurm let a job go on; whether it does, or is over."""
    call("scontrol", "resume", number, check=False)
    return "SUSPENDED" not in call("squeue", "-h", "-a", "-o", "%T", "-j", number, check=False)


def suspended(env: Environment, job: BatchJob, act: Callable[[Seen], None]) -> None:
    """A job is suspended when its machine is ready; something is done when that stands still, and
    the job goes on."""
    number = job.job.number

    def suspend(_seen: Seen) -> None:
        tolerant(lambda: call("scontrol", "suspend", number))

    env.at(State.READY, suspend)
    env.at(State.PAUSED, act)
    env.wait(
        lambda: not env.case.orders or env.case.hurts or job.is_over,
        lambda: f"job {number} is suspended: {job.state}",
    )
    env.give_up()
    env.wait(lambda: go_on(number), f"job {number} goes on")


def stands_still(env: Environment) -> None:
    """A job is suspended for a while."""
    job = env.submit("sleep 20; echo ran")
    suspended(env, job, lambda _seen: None)
    job.completes()


def cancelled_while_suspended(env: Environment) -> None:
    """A job is cancelled while it is suspended."""
    job = env.submit("sleep 600; echo ran")

    def cancel(seen: Seen) -> None:
        job.cancel()
        env.hold(seen)

    suspended(env, job, cancel)
    job.cancelled()


def dies_while_suspended(env: Environment) -> None:
    """The guest of a suspended job dies; the job is requeued once it goes on."""
    job = env.submit("sleep 5; echo ran")
    suspended(env, job, partial(die, env))
    job.completes()


def destroyed(env: Environment) -> None:
    """An administrator ends the machine; the job is held, and its user cancels it."""
    job = env.submit("sleep 600; echo ran")

    def destroy(seen: Seen) -> None:
        env.aside(lambda: call("wnodes", "vm", "destroy", seen.machine))

    env.at(State.READY, destroy)
    ends = ("HELD", "FAILED", "CANCELLED")
    env.wait(lambda: job.state in ends or env.case.hurts, lambda: f"held: {job.state}")
    job.cancelled()


def bait_dies_starting(env: Environment) -> None:
    """The bait dies when nobody knows whether libvirt was asked."""
    env.at(State.STARTING, lambda seen: env.box.again(bait_of(seen.node)))
    env.submit().completes()


_S = State
_batch = partial(walk, Kind.BATCH)
_LIFE = (None, _S.REQUESTED, _S.BUILDING, _S.STARTING, _S.BOOTING, _S.READY, _S.ENDING, None)
WALKS: dict[str, Walk] = {
    "batch: runs": _batch(runs, *along(*_LIFE)),
    **{
        f"batch: cancelled while {state}": _batch(partial(cancelled, state), (state, _S.ENDING))
        for state in (_S.REQUESTED, _S.BUILDING, _S.STARTING, _S.BOOTING, _S.READY)
    },
    "batch: its image leaves": _batch(image_leaves, (_S.REQUESTED, _S.FAILED)),
    "batch: its image is wrong": _batch(image_changed, (_S.BUILDING, _S.FAILED)),
    "batch: does not start": _batch(does_not_start, *along(_S.STARTING, _S.FAILED, _S.ENDING)),
    "batch: guest dies while booting": _batch(
        partial(guest_dies, _S.BOOTING), (_S.BOOTING, _S.FAILED)
    ),
    "batch: guest dies": _batch(partial(guest_dies, _S.READY), (_S.READY, _S.FAILED)),
    "batch: suspended": _batch(stands_still, *along(_S.READY, _S.PAUSED, _S.READY)),
    "batch: cancelled while suspended": _batch(cancelled_while_suspended, (_S.PAUSED, _S.ENDING)),
    "batch: guest dies while suspended": _batch(dies_while_suspended, (_S.PAUSED, _S.FAILED)),
    "batch: destroyed by an administrator": _batch(destroyed),
    "batch: bait dies while starting": _batch(bait_dies_starting, (_S.STARTING, _S.BUILDING)),
}
TAGS: dict[str, dict[str, object]] = {LEAVING: {}, CHANGED: wrong()}
