"""OpenPBS's entry in the table of batch systems."""

from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.hookset import site_of
from wnodes_lrms.lrms.interface import System, requeued_or_held
from wnodes_lrms.lrms.openpbs import checks
from wnodes_lrms.lrms.openpbs.installation import OpenPBSHooks
from wnodes_lrms.lrms.openpbs.native import DRMAA
from wnodes_lrms.lrms.openpbs.node import OpenPBS

SYSTEM = System(
    job_id=pbs.job_id,
    named=pbs.named,
    node=lambda _config, node: OpenPBS(node),
    hooks=lambda config, rules: OpenPBSHooks(site_of(config), rules),
    site_checks=checks.of_site,
    node_checks=checks.of_node,
    after_failure=requeued_or_held("qrls", "qrerun"),
    drmaa=DRMAA,
)
