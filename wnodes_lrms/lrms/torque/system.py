"""Torque's entry in the table of batch systems."""

from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.hookset import Hooks
from wnodes_lrms.lrms.interface import Lrms, System, requeued_or_held
from wnodes_lrms.lrms.torque import checks
from wnodes_lrms.lrms.torque.hookplan import Site
from wnodes_lrms.lrms.torque.installation import TorqueHooks
from wnodes_lrms.lrms.torque.native import DRMAA
from wnodes_lrms.lrms.torque.node import Torque
from wnodes_lrms.policy import Policy


def _markers(config: Config) -> Path:
    """Its epilogue sees no environment, and its starter no resources: the guards of
    templates/torque look here, and the prologue makes the file if it sees the image request."""
    return Path(config.bait.run_dir, "jobs")


def _node(config: Config, node: str) -> Lrms:
    return Torque(node, config.default, Path(config.hooks.torque_home), _markers(config))


def _hooks(config: Config, rules: Policy) -> Hooks:
    site = Site(
        home=Path(config.hooks.torque_home),
        socket=config.bait.socket,
        run_dir=config.bait.run_dir,
        retries=config.retries,
        folder=Path(config.hooks.folder),
    )
    return TorqueHooks(site, rules)


SYSTEM = System(
    job_id=pbs.job_id,
    named=pbs.named,
    node=_node,
    hooks=_hooks,
    site_checks=checks.of_site,
    node_checks=checks.of_node,
    after_failure=requeued_or_held("qrls -h o", "qrerun"),
    drmaa=DRMAA,
    markers=_markers,
)
