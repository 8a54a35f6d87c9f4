"""The module `pbs` of OpenPBS 23.06's own interpreter, as far as hooks/openpbs.py uses it.

What it does was written down from the real one, by a hook that printed it at each event: which
values are None, empty or of a class of PBS's, which names raise, and that accept() and reject() end
the hook. Only what was seen there is here; anything else raises.
"""

from typing import Any, ClassVar, NoReturn

QUEUEJOB, MODIFYJOB, MOVEJOB, EXECJOB_EPILOGUE, EXECJOB_LAUNCH = 1, 2, 8, 256, 2048
LOG_ERROR = 3

hook_config_filename: str
logged: list[str] = []


class Named:
    """A queue, a name, a select, a hold: their text is what they are."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


class select(Named):  # noqa: N801
    pass


class hold_types(Named):  # noqa: N801
    pass


class Resources:
    """Resource_List: None for what is not asked for; AttributeError for what is not defined."""

    DEFINED: ClassVar = {"vm", "wnodes", "wnodes_by", "select", "nodes", "place", "ncpus", "mem"}

    def __init__(self, asked: dict[str, Any], defined: set[str] | None = None) -> None:
        self.asked = asked
        self.defined = self.DEFINED if defined is None else defined

    def __getitem__(self, name: str) -> Any:
        if name not in self.defined:
            raise AttributeError(f"'pbs_resource' object has no attribute '{name}'")
        return self.asked.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.defined:
            raise AttributeError(f"'pbs_resource' object has no attribute '{name}'")
        self.asked[name] = value


class Job:
    """A job. Attributes that are not given are None, as those that are unset, or that the event
    does not have: a mom knows no Rerunable."""

    NAMES = (
        *("Account_Name", "Exit_status", "Hold_Types", "Job_Name", "Rerunable", "Variable_List"),
        *("interactive", "queue", "run_count", "sandbox"),
    )

    def __init__(
        self, resources: dict[str, Any], defined: set[str] | None = None, **given: Any
    ) -> None:
        self.id = "12.server"
        self.Resource_List = Resources(resources, defined)
        self.again = False
        for name in self.NAMES:
            setattr(self, name, given.pop(name, None))
        assert not given

    def rerun(self) -> None:
        self.again = True


class Event:
    """An event; which parameters it has depends on its type."""

    def __init__(self, kind: int, job: Job, **parameters: Any) -> None:
        self.type = kind
        self.job = job
        self.rejected: str | None = None
        for name, value in parameters.items():
            setattr(self, name, value)

    def accept(self) -> NoReturn:
        raise SystemExit(0)

    def reject(self, message: str) -> NoReturn:
        self.rejected = message
        raise SystemExit(0)


current: list[Event] = []  # the last is the event that the hook runs for


class Server:
    default_queue = Named("workq")


def event() -> Event:
    return current[-1]


def server() -> Server:
    return Server()


def get_local_nodename() -> str:
    return "hv1"


def logmsg(_level: int, text: str) -> None:
    logged.append(text)


def logjobmsg(job: str, text: str) -> None:
    logged.append(f"{job} {text}")
