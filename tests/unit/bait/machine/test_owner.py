"""The owner of a batch VM, as the node knows them."""

from bait.machine.owner import owner_of
from tests.unit.conftest import (
    NOBODY,
)


def test_the_owner_has_their_groups_but_never_roots() -> None:
    owner = owner_of(NOBODY.pw_uid, NOBODY.pw_gid)
    assert (owner.name, owner.home) == ("nobody", NOBODY.pw_dir)
    assert owner.groups[0] == ("nogroup", NOBODY.pw_gid)
    assert owner_of(NOBODY.pw_uid, 54321).groups[0] == ("group54321", 54321)
    assert all(number != 0 for _name, number in owner_of(NOBODY.pw_uid, 54321).groups)
