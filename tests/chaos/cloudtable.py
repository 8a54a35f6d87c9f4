"""All walks of cloud machines, with the moves that each is for."""

from functools import partial

from tests.chaos import devicewalks, slowwalks
from tests.chaos.cloudwalks import (
    MAKING,
    bait_dies_starting,
    deleted,
    destroyed,
    dies_hibernating,
    first_start_fails,
    later_start_fails,
    lease_ends_hibernating,
    lease_suspended,
    life,
    memory_cannot_be_written,
    published,
    published_while_lost,
    stopped,
    stopped_while_paused,
    suspended_hibernates,
)
from tests.chaos.walk import Walk, along, walk
from wnodes_lrms.model import Kind, State

_S = State
_cloud = partial(walk, Kind.CLOUD)
_LIFE = (
    *(None, _S.REQUESTED, _S.BUILDING, _S.STARTING, _S.READY, _S.SUSPENDED, _S.READY, _S.ASLEEP),
    *(_S.READY, _S.STOPPING, _S.STOPPED, _S.REQUESTED, _S.BUILDING, _S.STARTING, _S.READY),
    *(_S.HIBERNATING, _S.HIBERNATED, _S.REQUESTED, _S.BUILDING, _S.STARTING, _S.READY, _S.BUILDING),
    *(_S.STARTING, _S.READY, _S.STOPPING, _S.STOPPED, _S.ENDING, None),
)
# Deleted while these, a machine's lease is mostly freed first, and it makes another move.
_FREED_FIRST = (_S.REQUESTED, _S.BUILDING, _S.SUSPENDED)
WALKS: dict[str, Walk] = {
    "cloud: life": _cloud(life, *along(*_LIFE)),
    **{
        f"cloud: lease cancelled while {state}": _cloud(
            partial(stopped, state), *along(state, _S.STOPPING, None)
        )
        for state in MAKING
    },
    **{
        f"cloud: lease cancelled while {state}": _cloud(
            partial(stopped, state), (state, _S.STOPPING)
        )
        for state in (_S.READY, _S.SUSPENDED, _S.ASLEEP, _S.HIBERNATING)
    },
    **{
        f"cloud: deleted while {state}": _cloud(partial(deleted, state), (state, _S.ENDING))
        for state in (
            *(_S.STARTING, _S.READY, _S.PAUSED, _S.STOPPING, _S.STOPPED),
            *(_S.HIBERNATING, _S.HIBERNATED, _S.FAILED),
        )
    },
    **{f"cloud: deleted while {state}": _cloud(partial(deleted, state)) for state in _FREED_FIRST},
    **{
        f"cloud: destroyed by its bait while {state}": _cloud(
            partial(destroyed, state), (state, _S.ENDING)
        )
        for state in (*_FREED_FIRST, _S.ASLEEP)
    },
    **{
        f"cloud: first start fails while {state}": _cloud(
            partial(first_start_fails, state), (state, None)
        )
        for state in MAKING
    },
    **{
        f"cloud: later start fails while {state}": _cloud(
            partial(later_start_fails, state), *along(state, _S.FAILED, _S.REQUESTED)
        )
        for state in MAKING
    },
    # Before a lease has its order, its job may be one that wants a machine of its own.
    **slowwalks.WALKS,
    **devicewalks.WALKS,
    "cloud: its lease is suspended": _cloud(lease_suspended, *along(_S.READY, _S.PAUSED, _S.READY)),
    "cloud: stopped while its lease is suspended": _cloud(
        stopped_while_paused, (_S.PAUSED, _S.STOPPING)
    ),
    "cloud: published": walk(Kind.BATCH, published, (_S.REQUESTED, None)),
    "cloud: published while it is lost": _cloud(published_while_lost),
    "cloud: hibernated while suspended": _cloud(
        suspended_hibernates, (_S.SUSPENDED, _S.HIBERNATING)
    ),
    "cloud: its memory can't be written": _cloud(
        memory_cannot_be_written, (_S.HIBERNATING, _S.READY)
    ),
    "cloud: lease ends when it hibernates": _cloud(
        lease_ends_hibernating, *along(_S.HIBERNATING, _S.STOPPING, _S.HIBERNATED)
    ),
    "cloud: dies while it hibernates": _cloud(dies_hibernating, (_S.HIBERNATING, _S.STOPPED)),
    "cloud: bait dies while starting": _cloud(bait_dies_starting, (_S.STARTING, _S.BUILDING)),
}
