"""The hooks in a site's Grid Engine: asks it what lrms/gridengine/hookplan.py decides from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.lrms.gridengine import hookplan
from wnodes_lrms.lrms.gridengine.hookplan import COPIED, Facts
from wnodes_lrms.lrms.hookset import File, Hooks, HookSet, Site, content_of
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources
from wnodes_lrms.run import run

_DEADLINE = 10.0


@dataclass(frozen=True)
class GridEngineHooks(Hooks):
    """See hookset.Hooks. A qmaster that does not answer lacks everything: all is told."""

    site: Site
    rules: Policy
    where = "Grid Engine"
    remedy = "compare again: `wnodes hooks install --check`"

    def plan(self) -> HookSet:
        try:
            facts = read()
        except UnknownError:
            facts = Facts(parallel=self._parallel())
        return hookplan.plan(self.site, self.rules, facts, sources(COPIED))

    def take_back(self) -> list[str]:
        return hookplan.take_back(self.site, read())

    def policy(self) -> File:
        """Submissions see it at once."""
        return hookplan.policy_file(self.site, self.rules, self._parallel())

    def _parallel(self) -> Mapping[str, str]:
        """The parallel environments as they were at the last installation."""
        try:
            table = json.loads(content_of(self.site.folder / "policy.json") or b"{}")
        except ValueError:
            table = {}
        found: Mapping[str, str] = table.get("parallel", {})
        return found


def read() -> Facts:
    """What Grid Engine is configured with. Raises UnknownError if it does not answer."""
    complexes = [line.split() for line in _qconf("-sc").splitlines() if line[:1] not in ("", "#")]
    offers = run(["qhost", "-F", "wnodes,vm"], deadline=_DEADLINE, unknown=True)
    return Facts(
        queues={name: settings(_qconf("-sq", name)) for name in _names("-sql")},
        jsv_url=settings(_qconf("-sconf")).get("jsv_url", "none"),
        complexes={row[0]: row for row in complexes},
        offers=":wnodes=" in offers and ":vm=" in offers,
        parallel={
            name: settings(_qconf("-sp", name)).get("allocation_rule", "")
            for name in _names("-spl")
        },
    )


def settings(said: str) -> dict[str, str]:
    """Key to value of a listing of qconf's, whose long lines end in a backslash."""
    rows = (line.split(None, 1) for line in said.replace("\\\n", " ").splitlines())
    return {row[0]: " ".join(row[1].split()) for row in rows if len(row) == 2}


def _qconf(*arguments: str) -> str:
    return run(["qconf", *arguments], deadline=_DEADLINE, unknown=True)


def _names(option: str) -> list[str]:
    """What there is of a kind; qconf fails where there is nothing of it."""
    try:
        return _qconf(option).split()
    except WnodesError as error:
        if "no " in str(error):
            return []
        raise
