"""The hooks in a site's OpenPBS: reads what lrms/openpbs/hookplan.py decides from."""

import socket
from dataclasses import dataclass

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.hookset import File, Hooks, HookSet, Site
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.lrms.openpbs import hookplan
from wnodes_lrms.lrms.openpbs.allocation import attributes
from wnodes_lrms.lrms.openpbs.hookplan import COPIED, HOOK, Present
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources
from wnodes_lrms.run import run

_DEADLINE = 10.0
_NO_NODES = "Server has no node list"


@dataclass(frozen=True)
class OpenPBSHooks(Hooks):
    """See hookset.Hooks."""

    site: Site
    rules: Policy
    where = "qmgr"
    remedy = "see with `wnodes hooks install --check` that all is there"

    def plan(self) -> HookSet:
        return hookplan.plan(self.site, self.rules, present(), sources(COPIED))

    def take_back(self) -> list[str]:
        return hookplan.take_back(present())

    def policy(self) -> File | None:
        """Submissions see it at once: PBS need not be told."""
        return hookplan.policy_file(self.site, self.rules)


def server() -> dict[str, str]:
    """The server's attributes. Raises UnknownError."""
    (said,) = attributes(_ask("qstat", "-B", "-f", "-w"), "Server: ").values() or ({},)
    return said


def present() -> Present | None:
    """What the server has; None on another host than its own, where PBS does not show hooks.

    Raises UnknownError if it does not answer.
    """
    if not _here(server().get("server_host", "")):
        return None
    hook = hookplan.parse_hooks(_ask("qmgr", "-c", "list hook"))
    return Present(
        resources=hookplan.parse_print(_ask("qmgr", "-c", "print server")),
        hook=hook,
        code=_imported("python") if hook else b"",
        config=_imported("config") if hook else b"",
        nodes=f"resources_available.{FEATURE} = True" in _nodes(),
    )


def _nodes() -> str:
    """What PBS says of its nodes; a server that has none yet calls that a failure."""
    try:
        return _ask("pbsnodes", "-a")
    except UnknownError as error:
        if _NO_NODES in str(error):
            return ""
        raise


def _here(host: str) -> bool:
    return host.partition(".")[0].lower() == socket.gethostname().partition(".")[0].lower()


def _imported(form: str) -> bytes:
    said = _ask("qmgr", "-c", f"export hook {HOOK} application/x-{form} default")
    return said.encode("utf-8", "surrogateescape")


def _ask(*argv: str) -> str:
    return run(argv, deadline=_DEADLINE, unknown=True)
