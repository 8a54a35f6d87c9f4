"""Grid Engine's entry in the table of batch systems."""

from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.lrms.gridengine import checks
from wnodes_lrms.lrms.gridengine.allocation import job_id
from wnodes_lrms.lrms.gridengine.installation import GridEngineHooks
from wnodes_lrms.lrms.gridengine.native import DRMAA
from wnodes_lrms.lrms.gridengine.node import GridEngine, named
from wnodes_lrms.lrms.hookset import site_of
from wnodes_lrms.lrms.interface import Failure, Lrms, System


def _node(config: Config, node: str) -> Lrms:
    return GridEngine(node, config.default, Path(config.bait.state_dir) / "disabled-queues.json")


def _after_failure(failed: Failure) -> str:
    """The count of tries is in the job: its restarts are times."""
    tried = (
        f"its job is tried {failed.retries + 1} times in all, as its starter asks for it (where"
        " that is gone, as after a reboot, and Grid Engine does not do so by itself,"
        f" `qmod -rj {failed.job}` does), and is then"
    ) * failed.retry
    return (
        f"{tried or 'its job is'} in error state: once that is mended, `qmod -cj {failed.job}`"
        " lets it try again"
    )


SYSTEM = System(
    job_id=job_id,
    named=named,
    node=_node,
    hooks=lambda config, rules: GridEngineHooks(site_of(config), rules),
    site_checks=checks.of_site,
    node_checks=checks.of_node,
    after_failure=_after_failure,
    drmaa=DRMAA,
)
