"""The life of a VM: which state may follow which. The ledger writes no other.

None is the state of a VM that has no row: before it is promised, and when it is gone. A move
into the state that a VM is in already changes nothing and is always allowed.
"""

from wnodes_lrms.model import Kind, State

Move = tuple[State | None, State | None]

# Sets of states that decisions are made by.
AT_REST = frozenset({State.STOPPED, State.HIBERNATED, State.FAILED})  # of a cloud VM
MAKING = frozenset({State.REQUESTED, State.BUILDING, State.STARTING})
RUNS = (State.READY, State.PAUSED, State.SUSPENDED, State.ASLEEP)  # of a cloud VM: has a guest

_S = State
_NEXT: dict[Kind, dict[State | None, tuple[State | None, ...]]] = {
    Kind.BATCH: {
        None: (_S.REQUESTED,),
        # Gone at once: the job of a lease asks for no VM of its own.
        _S.REQUESTED: (_S.BUILDING, _S.FAILED, _S.ENDING, None),
        _S.BUILDING: (_S.STARTING, _S.FAILED, _S.ENDING),
        # Back to BUILDING: the bait died in between, and nobody knows whether libvirt was asked.
        _S.STARTING: (_S.BOOTING, _S.BUILDING, _S.FAILED, _S.ENDING),
        _S.BOOTING: (_S.READY, _S.FAILED, _S.ENDING),
        _S.READY: (_S.PAUSED, _S.FAILED, _S.ENDING),
        _S.PAUSED: (_S.READY, _S.FAILED, _S.ENDING),
        _S.FAILED: (_S.ENDING,),
        _S.ENDING: (None,),
    },
    Kind.CLOUD: {
        None: (_S.REQUESTED,),
        # Where a first start fails there is no disk to keep: the VM is gone.
        _S.REQUESTED: (_S.BUILDING, _S.FAILED, _S.STOPPING, _S.ENDING, None),
        _S.BUILDING: (_S.STARTING, _S.FAILED, _S.STOPPING, _S.ENDING, None),
        _S.STARTING: (_S.READY, _S.BUILDING, _S.FAILED, _S.STOPPING, _S.ENDING, None),
        # To BUILDING: a cold restart, in the same lease.
        _S.READY: (
            *(_S.PAUSED, _S.SUSPENDED, _S.ASLEEP, _S.BUILDING),
            *(_S.STOPPING, _S.HIBERNATING, _S.ENDING),
        ),
        _S.PAUSED: (_S.READY, _S.STOPPING, _S.ENDING),
        _S.SUSPENDED: (_S.READY, _S.STOPPING, _S.HIBERNATING, _S.ENDING),
        _S.ASLEEP: (_S.READY, _S.STOPPING, _S.ENDING),
        # To HIBERNATED: its lease ended while its memory was written.
        _S.STOPPING: (_S.STOPPED, _S.HIBERNATED, _S.ENDING, None),
        # To READY: its memory could not be written. To STOPPED: it ended meanwhile.
        _S.HIBERNATING: (_S.HIBERNATED, _S.READY, _S.STOPPED, _S.STOPPING, _S.ENDING),
        # At rest; a new lease begins with REQUESTED.
        _S.STOPPED: (_S.REQUESTED, _S.ENDING),
        _S.HIBERNATED: (_S.REQUESTED, _S.ENDING),
        _S.FAILED: (_S.REQUESTED, _S.ENDING),
        _S.ENDING: (None,),
    },
}

MOVES: dict[Kind, frozenset[Move]] = {
    kind: frozenset((old, new) for old, several in table.items() for new in several)
    for kind, table in _NEXT.items()
}


def may(kind: Kind, old: State | None, new: State | None) -> bool:
    """Whether a VM of this kind may go from one state into the other."""
    return old is new or (old, new) in MOVES[kind]
