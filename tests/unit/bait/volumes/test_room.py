"""Promises of room."""

import pytest

from bait.volumes import room
from wnodes_lrms.errors import RejectedError

GIB, MIB = 1 << 30, 1 << 20


def test_what_is_spare_is_no_room() -> None:
    assert not room.is_left(64 * MIB)
    assert room.is_left(64 * MIB + 1)
    room.check_promise(2 * GIB + 64 * MIB, 2 * GIB)
    with pytest.raises(RejectedError, match="1 GiB are promised to nobody yet, 2 are asked for"):
        room.check_promise(2 * GIB + 64 * MIB - 1, 2 * GIB)


def test_more_may_have_been_promised_than_there_is() -> None:
    with pytest.raises(RejectedError, match="0 GiB are promised to nobody yet, 1 are asked for"):
        room.check_promise(-3 * GIB, 1)
