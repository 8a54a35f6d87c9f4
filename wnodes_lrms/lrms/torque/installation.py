"""The hooks in a site's Torque: reads what lrms/torque/hookplan.py decides from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.lrms.hookset import File, Hooks, HookSet, Place, content_of
from wnodes_lrms.lrms.torque.hookplan import COPIED, Present, Site, plan, tags, take_back
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources


@dataclass(frozen=True)
class TorqueHooks(Hooks):
    """See hookset.Hooks."""

    site: Site
    rules: Policy
    remedy = "restart pbs_mom if it is its file"

    @property
    def where(self) -> str:
        return str(self.site.home)

    def plan(self) -> HookSet:
        return plan(self.site, self.rules, self._present(), sources(COPIED))

    def take_back(self) -> list[str]:
        return take_back(self.site, self._present())

    def places(self) -> tuple[Place, ...]:
        return self.site.places

    def policy(self) -> File | None:
        return tags(self.site, self.rules)

    def _present(self) -> Present:
        # The folder alone says nothing: Torque's own installation makes it on a server, too.
        config = content_of(self.site.mom / "config")
        if config is None and (self.site.mom / "mom.lock").exists():
            config = b""
        cfg = content_of(self.site.home / "torque.cfg") or b""
        return Present(
            None if config is None else config.decode(errors="replace"),
            cfg.decode(errors="replace"),
            dict(_contents(self.site.places)),
        )


def _contents(places: Iterable[Place]) -> Iterator[tuple[Path, bytes | None]]:
    for place in places:
        yield place.path, content_of(place.path)
        yield place.aside, content_of(place.aside)
