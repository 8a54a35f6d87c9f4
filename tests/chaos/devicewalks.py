"""Cloud machines whose volumes and cards come and go while they run, and whose storage fills up."""

from collections.abc import Callable
from functools import partial

from tests.chaos.cloudmachine import CloudMachine
from tests.chaos.environment import Environment
from tests.chaos.site import bait_of
from tests.chaos.walk import Walk
from tests.chaos.wire import Seen
from tests.e2e.box import call

_MARK = "written before it was taken out"
_GIB = {"occi.storage.size": 1}
_WRITTEN = 128  # MiB: more than is left in a pool that is full


def come_and_go(env: Environment) -> None:
    """A volume and a card come and go. Their bait is killed each time: when it has written down
    what it is about to ask libvirt for, or when libvirt has done that and nobody has heard of it.
    """
    volume, network = env.have("storage", _GIB), env.have("network", {})
    mine = _booted(env)
    _killed_at(env, "plug", done=False)
    link = mine.link(volume)
    mine.says(f"echo {_MARK} >{mine.disk(link)}; sync; echo done", "done\n")
    _killed_at(env, "unplug", done=True)
    mine.unlink(link)
    _killed_at(env, "plug", done=True)
    link = mine.link(volume)
    mine.says(f"head -n 1 {mine.disk(link)}", f"{_MARK}\n")
    _killed_at(env, "plug", done=False)
    card = mine.link(network, "networkinterface")
    mac = mine.mac(card)
    _killed_at(env, "unplug", done=False)
    mine.unlink(card)
    listed = partial(call, "virsh", "domiflist", mine.machine.id)
    _wait(env, lambda: mac not in listed(), f"{mac} is out")
    env.give_up()
    mine.delete()
    for each in (volume, network):
        env.delete(each)


def pool_fills(env: Environment) -> None:
    """The storage of volumes fills up while a guest writes. It stands still, also when its bait is
    killed meanwhile, and goes on when there is room, with nothing lost."""
    volume = env.have("storage", _GIB)
    mine = _booted(env)
    device = mine.disk(mine.link(volume))
    write = f"dd if=/dev/zero of={device} bs=1M count={_WRITTEN} conv=fsync; echo $? >/tmp/done"
    with env.box.pool_full():
        mine.says(f"({write}) >/dev/null 2>&1 </dev/null & echo begun", "begun\n")
        _wait(env, lambda: mine.state == "suspended", "it stands still")
        with env.listener.one:
            env.box.again(bait_of(mine.moves()[-1].seen.node))
    mine.is_("active")
    _wait(env, lambda: mine.machine.ssh("cat /tmp/done") == "0\n", "all is written")
    mine.delete()
    env.delete(volume)


def _booted(env: Environment) -> CloudMachine:
    mine = env.create().is_("active")
    mine.says("echo up", "up\n")
    return mine


def _killed_at(env: Environment, device: str, *, done: bool) -> None:
    """Have the bait killed at the next such step, and no more at one that was missed."""

    def kill(seen: Seen) -> None:
        with env.listener.one:
            env.box.again(bait_of(seen.node))

    env.give_up()
    env.at_device(device, kill, done=done)


def _wait(env: Environment, true: Callable[[], bool], what: str) -> None:
    """Wait for it, unless the VM was hurt: then it may have begun anew."""
    env.wait(lambda: env.case.hurts or true(), what)


WALKS = {
    "cloud: volumes and cards come and go": Walk(come_and_go),
    "cloud: its pool fills": Walk(pool_fills),
}
