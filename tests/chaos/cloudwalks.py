"""What cloud users and administrators do with a machine, so that it makes each move."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.chaos.batchwalks import CHANGED, LEAVING, go_on, image, spoil, take_out, wrong
from tests.chaos.patience import ForgivenError, retried, tolerant
from tests.chaos.site import bait_of, end
from tests.chaos.stage import CloudMachine, Stage
from tests.chaos.wire import Seen
from tests.e2e.box import call
from tests.e2e.test_cloud_identity import baits
from wnodes_lrms.cli.vm import ask_all
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State

MAKING = (State.REQUESTED, State.BUILDING, State.STARTING)


def life(stage: Stage) -> None:
    """A machine is used in all ways, keeps its disk, and is deleted."""
    mine = stage.create().is_("active")
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
    stage.wait(lambda: stage.case.hurts or mine.made(State.READY, State.BUILDING), "begun anew")
    mine.is_("active")
    mine.says("cat /root/kept", "kept\n")
    mine.act("stop")
    mine.is_("inactive").delete()


def stopped(state: State, stage: Stage) -> None:
    """Its lease is cancelled when it comes into a state for the first time; nothing is kept."""
    mine = stage.create(excused=True)
    reach(stage, mine, state, partial(_cancel, stage, mine))
    mine.delete()


def deleted(state: State, stage: Stage) -> None:
    """It is deleted when it comes into a state."""
    mine = stage.create(excused=True)
    reach(stage, mine, state, mine.delete_now)
    mine.delete()


def destroyed(state: State, stage: Stage) -> None:
    """Its bait removes it when it comes into a state: the bridge mostly frees its lease first."""
    mine = stage.create(excused=True)

    def destroy(_seen: Seen) -> None:
        stage.case.was_hurt()
        for bait in baits():
            tolerant(partial(bait.delete, f"/machines/{mine.machine.id}"))

    reach(stage, mine, state, destroy)
    mine.delete()


def reach(stage: Stage, mine: CloudMachine, state: State, act: Callable[[Seen], None]) -> None:
    """Have a machine come into a state, and something done there."""
    if state in (*MAKING, State.READY):
        stage.at(state, act)
    else:
        mine.is_("active")
        if state is State.FAILED:
            mine.act("stop", method="poweroff")
            mine.is_("inactive")
            fail(stage, act)
            mine.act("start")
        else:
            stage.at(state, act)
            if state is State.ASLEEP:
                mine.sleep()
            elif state is State.PAUSED:
                lease_stands_still(stage, mine)
                return
            elif state in (State.STOPPING, State.STOPPED):
                mine.act("stop", method="poweroff")
            else:
                mine.act("suspend", method="suspend" if state is State.SUSPENDED else "hibernate")
    stage.wait(
        lambda: not stage.case.orders or stage.case.hurts, lambda: f"{state}: {mine.describe()}"
    )
    stage.give_up()


def lease_stands_still(stage: Stage, mine: CloudMachine) -> None:
    """Have the lease suspended, until its machine is, and what was ordered for that is done."""
    number = mine.lease()
    tolerant(lambda: call("scontrol", "suspend", number))
    stage.wait(
        lambda: not stage.case.orders or stage.case.hurts, lambda: f"paused: {mine.describe()}"
    )
    stage.give_up()
    stage.wait(lambda: go_on(number), f"lease job {number} goes on")


def lease_suspended(stage: Stage) -> None:
    """Its lease is suspended for a while."""
    mine = stage.create(excused=True)
    reach(stage, mine, State.PAUSED, lambda _seen: None)
    mine.is_("active")
    mine.delete()


def stopped_while_paused(stage: Stage) -> None:
    """Its user stops it while its lease is suspended. Slurm ends no suspended job politely, and the
    machine of one that it kills has gone on before that."""
    mine = stage.create(excused=True)

    def stop(seen: Seen) -> None:
        mine.act("stop", method="poweroff")
        stage.hold(seen, 20)

    reach(stage, mine, State.PAUSED, stop)
    mine.is_("inactive")
    mine.delete()


def fail(stage: Stage, act: Callable[[Seen], None]) -> None:
    """Have the next start fail, also where a bait that died in it begins it anew; then `act`."""

    def again(seen: Seen) -> None:
        stage.at(State.STARTING, again)
        spoil(stage, seen)

    def failed(seen: Seen) -> None:
        stage.case.orders.clear()
        act(seen)

    stage.at(State.FAILED, failed)
    stage.at(State.STARTING, again)


def suspended_hibernates(stage: Stage) -> None:
    """A suspended machine is hibernated, by the API that the bridge uses."""
    mine = stage.create().is_("active")
    mine.act("suspend", method="suspend")
    mine.is_("suspended")
    with suppress(ForgivenError):  # one that was hurt meanwhile may have stopped
        retried(lambda: hibernate(mine), lambda: stage.case.hurts > 0)
    mine.rests()
    mine.delete()


def hibernate(mine: CloudMachine) -> None:
    """Ask the bait that has the machine, as the bridge never does of one that is suspended."""
    wish = {"method": "hibernate"}
    answers = [bait.post(f"/machines/{mine.machine.id}/suspend", json=wish) for bait in baits()]
    assert any(answer.status_code == 202 for answer in answers), answers


def memory_cannot_be_written(stage: Stage) -> None:
    """A machine that can't be hibernated goes on."""
    mine = stage.create(excused=True).is_("active")

    def block(seen: Seen) -> None:
        folder = stage.box.disk(seen.node) / "machines" / seen.machine / "memory.new"
        folder.mkdir()
        stage.at(State.READY, lambda _seen: folder.rmdir(), old=State.HIBERNATING)

    stage.at(State.HIBERNATING, block)
    mine.act("suspend", method="hibernate")
    stage.wait(lambda: not stage.case.orders or stage.case.hurts, "goes on")
    mine.delete()


def lease_ends_hibernating(stage: Stage) -> None:
    """Its lease is cancelled when its memory is written, and the bait has not said so yet."""
    mine = stage.create(excused=True).is_("active")

    def save(seen: Seen) -> None:
        folder = Path(stage.config.bait.state_dir.replace("%n", seen.node))
        file = folder / "machines" / seen.machine / "memory"
        tolerant(partial(call, "virsh", "save", seen.machine, str(file)))
        _cancel(stage, mine, seen)

    stage.at(State.HIBERNATING, save)
    mine.act("suspend", method="hibernate")
    mine.rests()
    mine.delete()


def dies_hibernating(stage: Stage) -> None:
    """It dies before its memory is written: its disk is kept."""
    mine = stage.create(excused=True).is_("active")

    def die(seen: Seen) -> None:
        stage.case.was_hurt()
        end(stage.box.qemu_of(seen.machine))

    stage.at(State.HIBERNATING, die)
    mine.act("suspend", method="hibernate")
    mine.rests()
    mine.delete()


def first_start_fails(state: State, stage: Stage) -> None:
    """A machine that was never there can't be made: it is inactive, and can be tried again."""
    tag = _break(stage, state)
    mine = stage.create(image=tag, excused=True)
    stage.wait(
        lambda: not stage.case.orders or stage.case.hurts, lambda: f"fails: {mine.describe()}"
    )
    mine.is_("active")
    mine.delete()


def later_start_fails(state: State, stage: Stage) -> None:
    """A machine that has a disk can't be started, is told why, and starts once that is mended."""
    image(LEAVING)
    image(CHANGED)
    mine = stage.create(image=_TAGS[state], excused=True).is_("active")
    mine.act("stop", method="poweroff")
    mine.is_("inactive")
    _break(stage, state)
    mine.act("start")
    stage.wait(
        lambda: not stage.case.orders or stage.case.hurts, lambda: f"fails: {mine.describe()}"
    )
    mine.is_("active")
    mine.delete()


_TAGS = {
    State.REQUESTED: LEAVING,
    State.BUILDING: CHANGED,
    State.STARTING: "small_debian_x86_64",
}


def _break(stage: Stage, state: State) -> str:
    """Have the next start fail in this state, and all be well after that; the image to use."""
    if state is State.REQUESTED:
        image(LEAVING)
        stage.at(state, lambda _seen: take_out(LEAVING))
        _mend_at_the_end(stage, state, LEAVING)
    elif state is State.BUILDING:
        image(CHANGED, **wrong())
        _mend_at_the_end(stage, state, CHANGED)
    else:
        stage.at(state, partial(spoil, stage))
    return _TAGS[state]


def _mend_at_the_end(stage: Stage, state: State, tag: str) -> None:
    def mend(_seen: Seen) -> None:
        image(tag)
        stage.case.orders.clear()

    for new in (None, State.FAILED):
        stage.at(new, mend, state)


def bait_dies_starting(stage: Stage) -> None:
    """The bait dies when nobody knows whether libvirt was asked."""
    stage.at(State.STARTING, lambda seen: stage.box.again(bait_of(seen.node)))
    stage.create().is_("active").delete()


def _cancel(stage: Stage, mine: CloudMachine, seen: Seen) -> None:
    stage.case.was_hurt()
    mine.cancel_lease()
    stage.hold(seen, 30.0)  # until the batch system has ended the lease: then its bait hears of it


def published(stage: Stage) -> None:
    """Its usage is published while it runs and when it has ended, by a bait that dies of that."""
    mine = stage.create().is_("active")
    publish()
    mine.act("stop", method="poweroff")
    mine.is_("inactive")
    publish()
    mine.delete()
    publish()


def published_while_lost(stage: Stage) -> None:
    """It dies while its bait is away; its usage is published while what is left of it is ended."""
    mine = stage.create(excused=True).is_("active")

    def publish_now(_seen: Seen) -> None:
        """As `publish` does, which would come too late; not where its bait is killed."""
        with suppress(WnodesError):
            for _ in ask_all(stage.config, op="publish"):
                pass

    stage.at(State.STOPPING, publish_now)
    ready = [at.seen for at in mine.moves() if at.seen.new is State.READY][-1]
    stage.case.was_hurt()
    with stage.referee.one:
        stage.box.kill(bait_of(ready.node))
        end(stage.box.qemu_of(ready.machine))
        stage.box.start(bait_of(ready.node))
    mine.rests()
    stage.give_up()
    publish()
    mine.delete()


def publish() -> None:
    """`wnodes accounting publish`, until it is done."""
    retried(lambda: call("wnodes", "accounting", "publish"))
