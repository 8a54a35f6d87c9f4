"""`wnodes-bridge`: the OCCI service's entry point."""

import argparse
import functools
import logging
import os
import platform
import sys
import uuid
from pathlib import Path

from occi_bridge import checks, link_admin, processes
from occi_bridge.driver.bait_connection import client_context
from occi_bridge.identity.logins import key_of
from occi_bridge.identity.tokens import Tokens
from occi_bridge.page.login import back
from occi_bridge.store import leader
from occi_bridge.store.database import Database
from occi_bridge.store.migrate import migrate
from occi_bridge.supervisor import Child, supervise
from wnodes_lrms.config import load as configuration
from wnodes_lrms.errors import ConfigError, WnodesError
from wnodes_lrms.log import set_up
from wnodes_lrms.tls import server
from wnodes_lrms.tls.context import server_context
from wnodes_lrms.version import VERSION

log = logging.getLogger(__name__)


def main() -> int:
    """Run the bridge until it is told to stop; the VMs live on without it."""
    parser = argparse.ArgumentParser(
        prog="wnodes-bridge",
        description="Gives cloud users VMs from the batch system's pool, over OCCI.",
    )
    parser.add_argument("--config", type=Path, help="default: $WNODES_CONFIG, /etc/wnodes/…")
    parser.add_argument(
        "--check",
        action="store_true",
        help="print what this host has and lacks, as JSON, and end; see also `wnodes doctor`",
    )
    parser.add_argument("--links", action="store_true", help="for `wnodes link list`")
    parser.add_argument("--link", nargs=2, metavar=("SUBJECT", "DN"), help="for `wnodes link add`")
    parser.add_argument("--unlink", metavar="SUBJECT", help="for `wnodes link remove`")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    options = parser.parse_args()
    set_up()
    os.umask(0o077)
    try:
        path = configuration.path_in_use(options.config)
        config = configuration.load(path)
        if config.bridge is None:
            raise ConfigError(str(path), ["bridge: is missing, and without it there is no service"])
        if options.check:
            checks.report(config.bridge)
        elif options.links or options.link or options.unlink is not None:
            made = (options.link[0], options.link[1]) if options.link else None
            link_admin.report(config.bridge, made, options.unlink)
        else:
            _run(config, config.bridge)
    except WnodesError as error:
        for line in str(error).splitlines():
            log.critical("%s", line)
        return 1
    return 0


def _run(config: configuration.Config, bridge: configuration.Bridge) -> None:
    # What would end every process is found out once, here.
    processes.order_key(bridge)
    client_context(bridge.certificate, bridge.key, bridge.ca_dir)
    Tokens(bridge.issuer, bridge.issuer_dir)
    if bridge.page:
        files = processes.page_files(bridge, bridge.page)
        server_context(*files, bridge.ca_dir, proxies=False, require=False, ask=False)
    migrate(bridge.database)
    db = Database(bridge.database)
    leader.expect(db)
    db.close()
    sock = server.listener(bridge.listen)
    page_sock = server.listener(bridge.page.listen) if bridge.page else None
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    children = [
        Child(
            f"worker {number}", functools.partial(processes.answer, config, wake, sock, page_sock)
        )
        for number in range(1, bridge.workers + 1)
    ]
    holder = f"{platform.node()}/{uuid.uuid4()}"
    children.append(Child("driver", functools.partial(processes.drive, config, wake, holder)))
    log.info("bridge of %s on %s, %d workers", config.cluster, bridge.listen, bridge.workers)
    if bridge.page:
        log.info("page: %s on %s", bridge.page.url, bridge.page.listen)
        for issuer in bridge.issuer:
            if issuer.login:
                place = bridge.page.url + back(key_of(issuer.url))
                log.info("page: %s is to send users back to %s", issuer.url, place)
    supervise(children)
    log.info("stopped; the VMs live on")


if __name__ == "__main__":
    sys.exit(main())
