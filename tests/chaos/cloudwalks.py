"""What cloud users and administrators do with a machine, so that it makes each move."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.chaos.batchwalks import (
    CHANGED,
    LEAVING,
    go_on,
    image,
    one_at_a_time,
    spoil,
    take_out,
    wrong,
)
from tests.chaos.cloudmachine import CloudMachine
from tests.chaos.environment import Environment
from tests.chaos.patience import ForgivenError, retried, tolerant
from tests.chaos.site import bait_of
from tests.chaos.wire import Seen
from tests.e2e.box import call
from tests.e2e.test_cloud_identity import baits
from wnodes_lrms.cli.vm import ask_all
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State

MAKING = (State.REQUESTED, State.BUILDING, State.STARTING)


def life(env: Environment) -> None:
    """A machine is used in all ways, keeps its disk, and is deleted."""
    mine = env.create().is_("active")
    mine.says("echo kept >/root/kept; sync", "")
    mine.act("suspend", method="suspend")
    mine.is_("suspended").act("start")
    mine.is_("active").sleep()
    mine.is_("suspended").act("start")
    mine.is_("active").act("stop", method="poweroff")
    mine.is_("inactive").act("start")
    mine.is_("active").act("suspend", method="hibernate")
    mine.is_("suspended").act("start")
    mine.is_("active").act("restart", method="cold")
    env.wait(lambda: env.case.hurts or mine.made(State.READY, State.BUILDING), "begun anew")
    mine.is_("active")
    mine.says("cat /root/kept", "kept\n")
    mine.act("stop")
    mine.is_("inactive").delete()


def stopped(state: State, env: Environment) -> None:
    """Its lease is cancelled when it comes into a state for the first time; nothing is kept."""
    mine = env.create(excused=True)
    reach(env, mine, state, partial(_cancel, env, mine))
    mine.delete()


def deleted(state: State, env: Environment) -> None:
    """It is deleted when it comes into a state."""
    mine = env.create(excused=True)
    reach(env, mine, state, mine.delete_now)
    mine.delete()


def destroyed(state: State, env: Environment) -> None:
    """Its bait removes it when it comes into a state: the bridge mostly frees its lease first."""
    mine = env.create(excused=True)

    def destroy(_seen: Seen) -> None:
        env.case.was_hurt()
        for bait in baits():
            tolerant(partial(bait.delete, f"/machines/{mine.machine.id}"))

    reach(env, mine, state, destroy)
    mine.delete()


def reach(env: Environment, mine: CloudMachine, state: State, act: Callable[[Seen], None]) -> None:
    """Have a machine come into a state, and something done there."""
    if state in (*MAKING, State.READY):
        env.at(state, act)
    else:
        mine.is_("active")
        if state is State.FAILED:
            mine.act("stop", method="poweroff")
            mine.is_("inactive")
            fail(env, act)
            mine.act("start")
        else:
            env.at(state, act)
            if state is State.ASLEEP:
                mine.sleep()
            elif state is State.PAUSED:
                lease_stands_still(env, mine)
                return
            elif state in (State.STOPPING, State.STOPPED):
                mine.act("stop", method="poweroff")
            else:
                mine.act("suspend", method="suspend" if state is State.SUSPENDED else "hibernate")
    env.wait(lambda: not env.case.orders or env.case.hurts, lambda: f"{state}: {mine.describe()}")
    env.give_up()


def lease_stands_still(env: Environment, mine: CloudMachine) -> None:
    """Have the lease suspended, until its machine is, and what was ordered for that is done."""
    number = mine.lease()
    tolerant(lambda: call("scontrol", "suspend", number))
    env.wait(lambda: not env.case.orders or env.case.hurts, lambda: f"paused: {mine.describe()}")
    env.give_up()
    env.wait(lambda: go_on(number), f"lease job {number} goes on")


def lease_suspended(env: Environment) -> None:
    """Its lease is suspended for a while."""
    mine = env.create(excused=True)
    reach(env, mine, State.PAUSED, lambda _seen: None)
    mine.is_("active")
    mine.delete()


def stopped_while_paused(env: Environment) -> None:
    """Its user stops it while its lease is suspended. Slurm ends no suspended job politely, and the
    machine of one that it kills has gone on before that."""
    mine = env.create(excused=True)

    def stop(seen: Seen) -> None:
        mine.act("stop", method="poweroff")
        env.hold(seen, 20)

    reach(env, mine, State.PAUSED, stop)
    mine.is_("inactive")
    mine.delete()


def fail(env: Environment, act: Callable[[Seen], None]) -> None:
    """Have the next start fail, also where a bait that died in it begins it anew; then `act`."""

    def again(seen: Seen) -> None:
        env.at(State.STARTING, again)
        spoil(env, seen)

    def failed(seen: Seen) -> None:
        env.case.orders.clear()
        act(seen)

    env.at(State.FAILED, failed)
    env.at(State.STARTING, again)


def suspended_hibernates(env: Environment) -> None:
    """A suspended machine is hibernated, by the API that the bridge uses."""
    mine = env.create().is_("active")
    mine.act("suspend", method="suspend")
    mine.is_("suspended")
    with suppress(ForgivenError):  # one that was hurt meanwhile may have stopped
        retried(lambda: hibernate(mine), lambda: env.case.hurts > 0)
    mine.rests()
    mine.delete()


def hibernate(mine: CloudMachine) -> None:
    """Ask the bait that has the machine, as the bridge never does of one that is suspended."""
    wish = {"method": "hibernate"}
    answers = [bait.post(f"/machines/{mine.machine.id}/suspend", json=wish) for bait in baits()]
    assert any(answer.status_code == 202 for answer in answers), answers


def memory_cannot_be_written(env: Environment) -> None:
    """A machine that can't be hibernated goes on."""
    mine = env.create(excused=True).is_("active")

    def block(seen: Seen) -> None:
        folder = env.box.disk(seen.node) / "machines" / seen.machine / "memory.new"
        folder.mkdir()
        env.at(State.READY, lambda _seen: folder.rmdir(), old=State.HIBERNATING)

    env.at(State.HIBERNATING, block)
    mine.act("suspend", method="hibernate")
    env.wait(lambda: not env.case.orders or env.case.hurts, "goes on")
    mine.delete()


def lease_ends_hibernating(env: Environment) -> None:
    """Its lease is cancelled when its memory is written, and the bait has not said so yet."""
    mine = env.create(excused=True).is_("active")

    def save(seen: Seen) -> None:
        folder = Path(env.config.bait.state_dir.replace("%n", seen.node))
        file = folder / "machines" / seen.machine / "memory"
        tolerant(partial(call, "virsh", "save", seen.machine, str(file)))
        _cancel(env, mine, seen)

    env.at(State.HIBERNATING, save)
    mine.act("suspend", method="hibernate")
    mine.rests()
    mine.delete()


def dies_hibernating(env: Environment) -> None:
    """It dies before its memory is written: its disk is kept."""
    mine = env.create(excused=True).is_("active")

    def die(seen: Seen) -> None:
        env.case.was_hurt()
        env.box.end_vm(seen.machine)

    env.at(State.HIBERNATING, die)
    mine.act("suspend", method="hibernate")
    mine.rests()
    mine.delete()


def first_start_fails(state: State, env: Environment) -> None:
    """A machine that was never there can't be made: it is inactive, and can be tried again."""
    with one_at_a_time(_TAGS[state]):
        _break(env, state)
        mine = env.create(image=_TAGS[state], excused=True)
        env.wait(lambda: not env.case.orders or env.case.hurts, lambda: f"fails: {mine.describe()}")
        mine.is_("active")
        mine.delete()


def later_start_fails(state: State, env: Environment) -> None:
    """A machine that has a disk can't be started, is told why, and starts once that is mended."""
    with one_at_a_time(_TAGS[state]):
        mine = env.create(image=_TAGS[state], excused=True).is_("active")
        mine.act("stop", method="poweroff")
        mine.is_("inactive")
        _break(env, state)
        mine.act("start")
        env.wait(lambda: not env.case.orders or env.case.hurts, lambda: f"fails: {mine.describe()}")
        mine.is_("active")
        mine.delete()


_TAGS = {
    State.REQUESTED: LEAVING,
    State.BUILDING: CHANGED,
    State.STARTING: "small_debian_x86_64",
}


def _break(env: Environment, state: State) -> None:
    """Have the next start fail in this state, and all be well after that."""
    if state is State.REQUESTED:
        env.at(state, lambda _seen: take_out(LEAVING))
        _mend_at_the_end(env, state, LEAVING)
    elif state is State.BUILDING:
        image(CHANGED, **wrong())
        _mend_at_the_end(env, state, CHANGED)
    else:
        env.at(state, partial(spoil, env))


def _mend_at_the_end(env: Environment, state: State, tag: str) -> None:
    def mend(_seen: Seen) -> None:
        image(tag)
        env.case.orders.clear()

    for new in (None, State.FAILED):
        env.at(new, mend, state)


def bait_dies_starting(env: Environment) -> None:
    """The bait dies when nobody knows whether libvirt was asked."""
    env.at(State.STARTING, lambda seen: env.box.again(bait_of(seen.node)))
    env.create().is_("active").delete()


def _cancel(env: Environment, mine: CloudMachine, seen: Seen) -> None:
    env.case.was_hurt()
    mine.cancel_lease()
    env.hold(seen, 30.0)  # until the batch system has ended the lease: then its bait hears of it


def published(env: Environment) -> None:
    """Its usage is published while it runs and when it has ended, by a bait that dies of that."""
    mine = env.create().is_("active")
    publish()
    mine.act("stop", method="poweroff")
    mine.is_("inactive")
    publish()
    mine.delete()
    publish()


def published_while_lost(env: Environment) -> None:
    """It dies while its bait is away; its usage is published while what is left of it is ended."""
    mine = env.create(excused=True).is_("active")

    def publish_now(_seen: Seen) -> None:
        """As `publish` does, which would come too late; not where its bait is killed."""
        with suppress(WnodesError):
            for _ in ask_all(env.config, op="publish"):
                pass

    env.at(State.STOPPING, publish_now)
    ready = [at.seen for at in mine.moves() if at.seen.new is State.READY][-1]
    env.case.was_hurt()
    with env.listener.one:
        env.box.kill(bait_of(ready.node))
        env.box.end_vm(ready.machine)
        env.box.start(bait_of(ready.node))
    mine.rests()
    env.give_up()
    publish()
    mine.delete()


def publish() -> None:
    """`wnodes accounting publish`, until it is done."""
    retried(lambda: call("wnodes", "accounting", "publish"))
