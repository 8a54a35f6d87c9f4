"""The hooks in a site's Slurm: reads what lrms/slurm/hookplan.py decides from."""

import dataclasses
import glob
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.lrms.hookset import File, Hooks, HookSet, Place, content_of, is_ours
from wnodes_lrms.lrms.slurm import conf as slurmconf
from wnodes_lrms.lrms.slurm import hookplan
from wnodes_lrms.lrms.slurm.conf import SlurmConf
from wnodes_lrms.lrms.slurm.hookplan import ACTS, COPIED, Present, Site
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources


@dataclass(frozen=True)
class SlurmHooks(Hooks):
    """See hookset.Hooks."""

    site: Site
    rules: Policy
    remedy = "run `scontrol reconfigure`"

    @property
    def where(self) -> str:
        return str(self.site.slurm_conf)

    def plan(self) -> HookSet:
        conf = self._conf()
        wanted = hookplan.plan(self.site, self.rules, conf, self._present(), sources(COPIED))
        if conf.path == self.site.slurm_conf:
            return wanted
        # The node of a configless Slurm: only the controller loads a job_submit.lua.
        files = tuple(file for file in wanted.files if file.path != self.site.loader)
        return dataclasses.replace(wanted, files=files)

    def take_back(self) -> list[str]:
        conf = self._conf()
        links = list(self._our_links(conf))
        lone = [hook for hook, path in links if _matches(conf, hook) == [str(path)]]
        return hookplan.take_back(self.site, conf, self._present(), lone)

    def places(self) -> tuple[Place, ...]:
        return (Place(self.site.loader, self.site.site_script),)

    def links(self) -> list[Path]:
        return [path for _, path in self._our_links(self._conf())]

    def policy(self) -> File | None:
        """Submissions see it at once: slurmctld need not be told."""
        return hookplan.policy_file(self.site, self.rules)

    def _conf(self) -> SlurmConf:
        """slurm.conf, or what slurmd has fetched of it from the controller (configless Slurm)."""
        own, fetched = self.site.slurm_conf, self.site.fetched_conf
        return slurmconf.read(fetched if fetched.exists() and not own.exists() else own)

    def _present(self) -> Present:
        return Present(
            installed=(self.site.folder / "job_submit.lua").exists(),
            loader=content_of(self.site.loader),
            site_script=content_of(self.site.site_script),
            site_hooks=dict(self._recorded_hooks()),
        )

    def _recorded_hooks(self) -> Iterator[tuple[str, str]]:
        """The site's own hooks, as the last line of our composed guards runs them."""
        for hook in ACTS:
            content = content_of(hookplan.composed_path(self.site, hook))
            if content and is_ours(content):
                command, *words = shlex.split(content.decode().splitlines()[-1])
                if command == "exec" and words:
                    yield hook, words[0]

    def _our_links(self, conf: SlurmConf) -> Iterator[tuple[str, Path]]:
        for hook in ACTS:
            for name in _matches(conf, hook):
                path = Path(name)
                if path.is_symlink() and path.readlink() == self.site.folder / hook:
                    yield hook, path


def _matches(conf: SlurmConf, hook: str) -> list[str]:
    return glob.glob(conf.hook(hook) or "")  # noqa: PTH207 (Slurm's own kind of pattern)
