"""`wnodes doctor`: what keeps, or may keep, the nodes on this host from running jobs in VMs."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wnodes_lrms import control, doctor
from wnodes_lrms.cli.hooks import hooks_of
from wnodes_lrms.cli.out import ConfigFile, Json, line, listing, progress
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, Status
from wnodes_lrms.errors import ConfigError, RejectedError, WnodesError
from wnodes_lrms.lrms import hookfiles
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.run import run

_BAIT = 10.0  # seconds that the bait gets to answer
_NODE = 300.0  # seconds for a node's own checks; each of them has a deadline of its own
_STATUS_WIDTH = max(len(status) for status in Status)

Found = tuple[str, Check]  # the node that a check is about, empty for the site, and the check
Node = Annotated[
    str | None,
    typer.Option(help="default: the nodes whose baits run here, or else this host's name"),
]


def examine(as_json: Json = False, node: Node = None, config: ConfigFile = None) -> None:
    """Look at all that jobs in VMs need here, and say what to do about what is missing.

    Nothing is changed. The exit code is 1 if there is a fault.
    """
    if os.geteuid() != 0:
        raise RejectedError("only root sees all that is to be checked: run `wnodes doctor` as root")
    found = list(_examine(configuration.path_in_use(config), node))
    if as_json:
        listing([{"node": where or None, **asdict(check)} for where, check in found], (), True)
    else:
        _tell(found)
    if any(check.status is Status.FAULT for _, check in found):
        raise typer.Exit(1)


def _examine(path: Path, only: str | None) -> Iterator[Found]:
    try:
        config = configuration.load(path)
    except ConfigError as error:
        for text in error.faults:
            yield "", doctor.fault("configuration", f"{path}: {text}", f"edit {path}")
        return
    yield "", doctor.ok("configuration", f"{path}: no fault found")
    for check in _site_checks(config):
        yield "", check
    # The file is the same everywhere; the bridge is where its key is.
    if config.bridge and Path(config.bridge.order_key).exists():
        for check in _program_checks("wnodes-bridge", path):
            yield "bridge", check
    baits = control.sockets(config)
    here = platform.node().split(".")[0]
    # A socket without %n in its path does not tell the node's name.
    names = [only] if only else [here] if "localhost" in baits else list(baits) or [here]
    for name in names:
        for check in _node_checks(path, name):
            yield name, check


def _site_checks(config: Config) -> Iterator[Check]:
    yield from _hooks(config)
    yield from SYSTEMS[config.lrms].site_checks(config)


def _hooks(config: Config) -> Iterator[Check]:
    hooks = hooks_of(config)
    try:
        findings = hookfiles.check(hooks)
    except WnodesError as error:
        yield doctor.fault("hooks", str(error), f"see [hooks], and that {hooks.where} is right")
        return
    for finding in findings:
        yield doctor.fault("hooks", f"{finding.where}: {finding.what}", finding.remedy)
    if not findings:
        yield doctor.ok("hooks", f"{hooks.folder}: as they should be")


def _node_checks(path: Path, name: str) -> Iterator[Check]:
    try:
        config = configuration.load(path, name)
    except ConfigError as error:
        yield doctor.fault(
            "node name", str(error), "give the node's name in the batch system with --node"
        )
        return
    try:
        control.ask(Path(config.bait.socket), _BAIT, op="ping")
        yield doctor.ok("bait", f"answers at {config.bait.socket}")
    except WnodesError as error:
        yield doctor.fault(
            "bait",
            str(error),
            "`systemctl restart wnodes-bait`; its log says more: `journalctl -u wnodes-bait`",
        )
    yield from SYSTEMS[config.lrms].node_checks(config, name)
    if config.api.clients:
        queue = config.accounting.queue
        yield doctor.publishing(config.accounting.site, queue, Path(queue).is_dir())
    progress(f"node {name}: looking at KVM, libvirt, images, disks; up to {_NODE:g} s …")
    yield from _program_checks("wnodes-bait", path, "--node", name)


def _program_checks(name: str, path: Path, *options: str) -> Iterator[Check]:
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.exists() else shutil.which(name) or name
    argv = [program, "--check", "--config", str(path), *options]
    try:
        rows = json.loads(run(argv, deadline=_NODE))
    except (WnodesError, ValueError) as error:
        yield doctor.fault(
            name, f"its checks can't be made: {error}", f"run `{' '.join(argv)}` as root and see"
        )
        return
    for row in rows:
        yield Check(row["name"], Status(row["status"]), row["seen"], row["remedy"])


def _tell(found: list[Found]) -> None:
    width = max(len(check.name) for _, check in found)
    place: str | None = None
    for where, check in found:
        if where != place:
            place = where
            line(where if where == "bridge" else f"node {where}" if where else "site")
        line(f"  {check.status:{_STATUS_WIDTH}}  {check.name:{width}}  {check.seen}")
        if check.remedy:
            line(f"  {'':{_STATUS_WIDTH}}  {'':{width}}  → {check.remedy}")
    line(doctor.summary([check for _, check in found]))
