"""Who owns a batch VM: a user of this node, with their groups."""

import grp
import os
import pwd

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.model import Owner


def owner_of(uid: int, gid: int) -> Owner:
    """The user as this node knows them. Raises RejectedError for root and for strangers."""
    if uid == 0 or gid == 0:
        raise RejectedError("a job of root can't run in a VM: submit it as a user")
    try:
        user = pwd.getpwuid(uid)
        numbers = [gid, *(n for n in os.getgrouplist(user.pw_name, gid) if n not in (gid, 0))]
        groups = tuple((_group_name(number), number) for number in numbers)
    except KeyError as error:
        raise RejectedError(f"this node knows no user with the number {uid}") from error
    return Owner(user.pw_name, uid, gid, groups, user.pw_dir)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"group{gid}"
