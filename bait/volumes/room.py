"""Whether a pool has room: to be written into, and to be promised. Pure."""

from wnodes_lrms.errors import RejectedError

_SPARE = 64 << 20  # bytes that are no room: who writes again should not stand still at once
_GIB = 1 << 30


def is_left(free: int) -> bool:
    """Whether what is written finds room, with so many bytes free."""
    return free > _SPARE


def check_promise(unpromised: int, more: int) -> None:
    """Raises RejectedError where `more` bytes can't be promised. `unpromised`: those that are free
    if all volumes get what they were promised, and not only what was written of them by now."""
    free = max(0, unpromised - _SPARE)
    if more > free:
        said = f"{free // _GIB} GiB are promised to nobody yet, {-(-more // _GIB)} are asked for"
        raise RejectedError(f"the site's storage has no room for that: {said}")
