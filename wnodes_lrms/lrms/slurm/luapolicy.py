"""The policy as the Lua table that job_submit.lua reads: tags, defaults, who may do what."""

from collections.abc import Collection
from pathlib import Path

from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import render


def text(policy: Policy, starter: Path, lease: Path) -> str:
    """The whole of policy.lua; `starter` becomes the interpreter of jobs with a machine, and
    `lease` is all that a lease job runs."""
    return render(
        "slurm/policy.lua.j2",
        lua=quote,
        names=_set,
        starter=starter,
        lease=lease,
        lease_users=policy.lease_users,
        tags=sorted(policy.tags),
        defaults=[
            {
                "image": rule.image,
                "wanted": [
                    (key, value)
                    for key in ("partition", "account", "qos")
                    if (value := getattr(rule, key)) is not None
                ],
            }
            for rule in policy.defaults
        ],
        allow=policy.allow,
    )


def quote(value: object) -> str:
    """A Lua string literal that means just this value."""
    plain = {ord("\\"): "\\\\", ord('"'): '\\"'}
    characters = (
        plain.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}")
        for byte in str(value).encode()
    )
    return '"' + "".join(characters) + '"'


def _set(names: Collection[str]) -> str:
    inside = ", ".join(f"[{quote(name)}] = true" for name in names)
    return "{ " + inside + " }" if inside else "{}"
