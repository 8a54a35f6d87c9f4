"""The owner of a job, as the node's own user database has them."""

import os
import pwd

from wnodes_lrms.errors import RejectedError


def check_owner(uid: int, gid: int, name: str = "") -> pwd.struct_passwd:
    """Compare what a batch system says of a job's owner with the node's own user database.

    `name` is the user's in the batch system, empty where that knows numbers only. Raises
    RejectedError unless the node knows the user by this number and name, and in this group.
    """
    try:
        user = pwd.getpwnam(name) if name else pwd.getpwuid(uid)
    except KeyError as error:
        who = f"{name[:40]!a}" if name else f"with the number {uid}"
        raise RejectedError(f"this node knows no user {who}") from error
    if user.pw_uid != uid:
        raise RejectedError(
            f"the batch system says that user {name} has the number {uid},"
            f" on this node it is {user.pw_uid}"
        )
    if gid not in os.getgrouplist(user.pw_name, user.pw_gid):
        raise RejectedError(f"user {user.pw_name} is not in the job's group {gid} on this node")
    return user
