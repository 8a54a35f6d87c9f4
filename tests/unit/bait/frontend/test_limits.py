"""Who may have how many connections, and whose a uid is."""

import os
import pwd
from pathlib import Path

import pytest

from bait.frontend.limits import ConnectionLimits, Owners, limits_for


def test_a_user_has_so_many_and_gets_them_back() -> None:
    room = ConnectionLimits(most=10, reserve=2, each=3)
    assert [room.take(7) for _ in range(5)] == [True] * 3 + [False] * 2
    assert room.take(8)
    room.leave(7)
    assert room.held(7) == 2
    assert room.take(7)
    assert not room.take(7)


def test_all_users_together_leave_roots_places_alone() -> None:
    room = ConnectionLimits(most=4, reserve=2, each=3)
    assert [room.take(uid) for uid in (7, 7, 7, 8, 8, 9)] == [True] * 4 + [False] * 2
    assert [room.take(0) for _ in range(3)] == [True, True, False]
    room.leave(8)
    assert room.take(9)


def test_roots_own_connections_take_none_of_the_users() -> None:
    room = ConnectionLimits(most=4, reserve=2, each=4)
    assert all(room.take(0) for _ in range(6))
    assert [room.take(7) for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("descriptors", [1024, 4096, 65536])
def test_connections_never_take_all_descriptors(descriptors: int) -> None:
    room = limits_for(descriptors)
    users = sum(room.take(uid) for uid in range(1, 100) for _ in range(600))
    root = sum(room.take(0) for _ in range(600))
    assert root > 0
    assert 2 * (users + root) <= descriptors
    assert room.held(1) < users  # no user has them all


def test_a_subordinate_uid_counts_as_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    owners = Owners(file)
    assert owners.of(100000) == 100000
    file.write_text(
        "# users\nnobody:100000:65536\n\n1234:200000:10\nno-such-user:300000:10\nnobody:x:y\n"
        "nobody\nnobody:1:2:3\n"
    )
    nobody = pwd.getpwnam("nobody").pw_uid
    assert [owners.of(uid) for uid in (99999, 100000, 165535, 165536)] == [
        *(99999, nobody, nobody, 165536)
    ]
    assert owners.of(200009) == 1234
    assert owners.of(300000) == 300000
    assert owners.of(0) == 0
    file.write_text("1234:100000:65536\n")
    os.utime(file, ns=(1, 1))
    assert owners.of(100000) == 1234
    file.unlink()
    assert owners.of(100000) == 100000
