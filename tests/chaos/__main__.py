"""Proof by killing: python -m tests.chaos, on a site in a box that is up. See `make chaos`."""

import argparse
import fnmatch
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from bait.machine.images import Cache  # noqa: F401 - the harness looks at its folder
from contrib.site.box.layout import IMAGE, NODES
from tests.chaos import batchwalks, cloudwalks
from tests.chaos.faults import Fault, Plan, every_move
from tests.chaos.foreign import strangers
from tests.chaos.inject import Injector, cached
from tests.chaos.jobs import Queue
from tests.chaos.listener import Listener
from tests.chaos.patience import retried
from tests.chaos.records import judge, published, runs
from tests.chaos.report import Report
from tests.chaos.scheduler import Scheduler
from tests.chaos.scope import SCOPES, aims
from tests.chaos.site import Box
from tests.chaos.truth import orphans
from tests.chaos.walk import Walk
from tests.e2e.box import CATALOGUE, USER, call
from tests.e2e.occi import USERS, Cloud, Key
from wnodes_lrms.cli.vm import ask_all
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Config
from wnodes_lrms.images import source

_QUIET = 150.0  # seconds until nothing is left: a bait's grace time is one minute of them


def main() -> int:
    """The exit code: 0 if all held, and every move was passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--walk", action="append", metavar="PATTERN", help="only such walks")
    parser.add_argument("--fault", action="append", choices=[f.name.lower() for f in Fault])
    parser.add_argument("--once", action="store_true", help="make each walk once")
    parser.add_argument("--minutes", type=float, default=60, help="begin no walk after that")
    parser.add_argument("--seed", type=int, help="repeat the run that had it; else a new one")
    options = parser.parse_args()
    box = Box()
    scope = SCOPES[box.system]
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    rng = Random(seed)  # noqa: S311 (no secret)
    walks = {
        name: walk
        for name, walk in rng.sample([*scope.walks.items()], len(scope.walks))
        if not options.walk or any(fnmatch.fnmatch(name, word) for word in options.walk)
    }
    kinds = [f for f in scope.kinds if not options.fault or f.name.lower() in options.fault]
    aimed = aims(scope.walks)
    plan = Plan([move for move in every_move() if move in aimed], kinds, scope.turns, rng=rng)
    report = Report(scope.name, seed)
    report.say(f"{box.system}, seed {seed}: --seed {seed} repeats this run")
    with tempfile.TemporaryDirectory() as folder:
        key = Key.make(Path(folder))
        try:
            run(box, walks, plan, report, key, options.minutes * 60, options.once)
        except KeyboardInterrupt:
            report.violations.append("the run was interrupted")
    missed = aims(walks) - plan.covered
    if not options.once:  # a walk is made again until its moves are made, or has to be left
        report.uncovered = [move for move in plan.moves if move in missed]
    whole = aims(SCOPES["slurm"].walks)
    report.violations += [f"no walk is for {move}" for move in every_move() if move not in whole]
    report.show(plan)
    return 0 if report.good else 1


def run(
    box: Box,
    walks: dict[str, Walk],
    plan: Plan,
    report: Report,
    key: Key,
    seconds: float,
    once: bool,
) -> None:
    """Make the walks, and look at what is there afterwards."""
    queue = Queue(box.lrms)
    config = configuration.load(configuration.path_in_use())
    injector = Injector(box, config)
    listener = Listener(box.socket, plan, injector)
    listener.log, listener.note = report.say, report.note
    for tag, changes in batchwalks.TAGS.items():
        batchwalks.image(tag, **changes)
    call("wnodes", "hooks", "install")
    with (
        listener.listening(),
        box.watched(),
        strangers(box, config, plan.rng) as foreign,
        queue.looked_at(),
    ):
        report.say(f"{len(walks)} walks, {len(plan.moves)} moves")
        scheduler = Scheduler(walks, plan, report, box, listener, config, key, queue)
        scheduler.run(seconds, once)
        plan.over = True  # what comes now is the verdict
        retried(Cloud(USERS / "alice" / "vomsproxy.pem").delete_all)  # its last fault may go on
        report.say("all walks are made")
        until = time.monotonic() + _QUIET
        while (left := orphans(box, config, foreign)) and time.monotonic() < until:
            time.sleep(3)
        report.orphans = left
        report.say(f"{len(left)} orphans")
        _records(report, listener, box)
        if plan.injected[Fault.IMAGE]:
            report.violations += _images(config)
        report.violations += listener.faulty + injector.unmended
        report.leases_doubled = queue.doubled()
        report.foreign = foreign.touched(box)
    for tag in (batchwalks.LEAVING, batchwalks.CHANGED):
        (CATALOGUE / f"{tag}.toml").unlink(missing_ok=True)
    call("wnodes", "hooks", "install")


def _images(config: Config) -> list[str]:
    """After one more machine on each node, no image there may be a corrupted one."""
    found = []
    for node in NODES:
        call(
            *("env", "--chdir=/", f"WNODES_IMAGE={IMAGE}", "sbatch", "--wait", "--mem=384"),
            *("--output=/dev/null", f"--nodelist={node}", "--wrap=true"),
            user=USER,
        )
        for file in cached(config, node):
            if source.sha256(str(file)) != file.name:
                found.append(f"cached image {file} is corrupted, and was used")
    return found


def _records(report: Report, listener: Listener, box: Box) -> None:
    config = configuration.load(configuration.path_in_use())
    for _ in range(3):
        cloudwalks.publish()
    usages = [
        usage for _, answer in ask_all(config, op="usages", since=0.0) for usage in answer["usages"]
    ]
    for usage in usages:
        report.note(f"usage {json.dumps(usage)}")
    for verdict in (judge(runs(listener.moves, box.deaths), usages), published(box.queue, usages)):
        report.records += verdict.checked
        report.records_lost += verdict.lost
        report.records_doubled += verdict.doubled
        report.records_wrong += verdict.wrong


if __name__ == "__main__":
    sys.exit(main())
