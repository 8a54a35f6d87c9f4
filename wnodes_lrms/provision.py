"""What the VMs of batch jobs get: by the site's rules, and by what their users ask for. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.rates import UNLIMITED, Rates

VARIABLE = "WNODES_SCRATCH"  # in a job's environment: GiB of the scratch disk that it asks for
_SIZE = re.compile(r"[1-9][0-9]{0,4}")  # hooks/wish.lua has the same grammar


@dataclass(frozen=True)
class Provision:
    """What a VM gets beside cores, memory and image."""

    network: str = ""  # of the site's, that it has a second card on
    rates: Rates = UNLIMITED  # of each of its cards
    scratch: int = 0  # GiB of its scratch disk; 0: it has none
    disk_rate: int = 0  # MiB a second of each of its disks, both ways together; 0: no limit
    disk_iops: int = 0  # requests a second; 0: no limit


NOTHING = Provision()


class Rule(Protocol):
    """A [[batch]] of the configuration: the first three, where they are set, must all fit."""

    @property
    def image(self) -> str | None: ...
    @property
    def partition(self) -> str | None: ...
    @property
    def account(self) -> str | None: ...
    @property
    def network(self) -> str | None: ...
    @property
    def inbound(self) -> int | None: ...
    @property
    def outbound(self) -> int | None: ...
    @property
    def scratch(self) -> int: ...
    @property
    def scratch_most(self) -> int | None: ...
    @property
    def disk_rate(self) -> int: ...
    @property
    def disk_iops(self) -> int: ...


def provision(
    rules: Iterable[Rule], image: str, partition: str, account: str, asked: str = ""
) -> Provision:
    """What the VM of such a batch job gets: by the first rule that fits, and by no other.

    `asked` is what its user has written for the size of the scratch disk. Raises RejectedError if
    that is no size, or more than the rule allows.
    """
    facts = {"image": image, "partition": partition, "account": account}
    for rule in rules:
        if all(getattr(rule, key) in (None, value) for key, value in facts.items()):
            scratch = _scratch(asked, rule.scratch, rule.scratch_most or rule.scratch)
            rates = Rates(rule.inbound, rule.outbound)
            return Provision(rule.network or "", rates, scratch, rule.disk_rate, rule.disk_iops)
    return Provision(scratch=_scratch(asked, 0, 0))


def _scratch(asked: str, given: int, most: int) -> int:
    if not asked:
        return given
    if not _SIZE.fullmatch(asked):
        raise RejectedError(f"{VARIABLE}=«{asked}»: a whole number of GiB is needed")
    if int(asked) > most:
        allowed = f"up to {most} GiB" if most else "none"
        raise RejectedError(f"{VARIABLE}={asked}: of scratch disk such a job may have {allowed}")
    return int(asked)
