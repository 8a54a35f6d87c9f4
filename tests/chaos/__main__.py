"""Proof by killing: python -m tests.chaos, on a site in a box that is up. See `make chaos`."""

import argparse
import fnmatch
import sys
import tempfile
import time
from pathlib import Path

from bait.images import Cache  # noqa: F401 - the harness looks at its folder
from contrib.site.box.layout import NODES
from tests.chaos import batchwalks, cloudwalks
from tests.chaos.course import Course, Walk
from tests.chaos.faults import Fault, Plan, every_move
from tests.chaos.foreign import strangers
from tests.chaos.inject import Injector, cached
from tests.chaos.records import judge, published, runs
from tests.chaos.referee import Referee
from tests.chaos.report import Report
from tests.chaos.site import Box
from tests.chaos.truth import orphans
from tests.e2e.conftest import CATALOGUE, IMAGE, USER, call
from tests.e2e.occi import USERS, Cloud, Key
from wnodes_lrms import config as configuration
from wnodes_lrms import source
from wnodes_lrms.cli.vm import ask_all
from wnodes_lrms.config import Config

WALKS: dict[str, Walk] = {**batchwalks.WALKS, **cloudwalks.WALKS}
_QUIET = 150.0  # seconds until nothing is left: a bait's grace time is one minute of them


def main() -> int:
    """The exit code: 0 if all held, and every move was passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--walk", action="append", metavar="PATTERN", help="only such walks")
    parser.add_argument("--fault", action="append", choices=[f.name.lower() for f in Fault])
    parser.add_argument("--once", action="store_true", help="make each walk once")
    parser.add_argument("--minutes", type=float, default=40, help="begin no walk after that")
    options = parser.parse_args()
    walks = {
        name: walk
        for name, walk in WALKS.items()
        if not options.walk or any(fnmatch.fnmatch(name, word) for word in options.walk)
    }
    kinds = [f for f in Fault if not options.fault or f.name.lower() in options.fault]
    report, plan = Report(), Plan(every_move(), kinds)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(walks, plan, report, Key.make(Path(folder)), options.minutes * 60, options.once)
        except KeyboardInterrupt:
            report.violations.append("the run was interrupted")
    whole = len(walks) == len(WALKS)
    report.uncovered = [move for move in plan.moves if whole and move not in plan.covered]
    report.show(plan)
    return 0 if report.good else 1


def run(
    walks: dict[str, Walk], plan: Plan, report: Report, key: Key, seconds: float, once: bool
) -> None:
    """Make the walks, and look at what is there afterwards."""
    box = Box()
    config = configuration.load(configuration.path_in_use())
    referee = Referee(box.socket, plan, Injector(box, config))
    referee.log = report.say
    for tag, changes in batchwalks.TAGS.items():
        batchwalks.image(tag, **changes)
    call("wnodes", "hooks", "install")
    with referee.listening(), box.watched(), strangers(box, config) as foreign:
        report.say(f"{len(walks)} walks, {len(plan.moves)} moves")
        course = Course(walks, plan, report, box, referee, config, key)
        course.run(seconds, once)
        plan.over = True  # what comes now is the verdict
        Cloud(USERS / "alice" / "vomsproxy.pem").delete_all()
        report.say("all walks are made")
        until = time.monotonic() + _QUIET
        while (left := orphans(box, config, foreign)) and time.monotonic() < until:
            time.sleep(3)
        report.orphans = left
        report.say(f"{len(left)} orphans")
        _records(report, referee, box)
        if plan.injected[Fault.IMAGE]:
            report.violations += _images(config)
        report.violations += referee.faulty
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


def _records(report: Report, referee: Referee, box: Box) -> None:
    config = configuration.load(configuration.path_in_use())
    for _ in range(3):
        cloudwalks.publish()
    usages = [
        usage for _, answer in ask_all(config, op="usages", since=0.0) for usage in answer["usages"]
    ]
    for verdict in (judge(runs(referee.moves), usages), published(box.queue, usages)):
        report.records += verdict.checked
        report.records_lost += verdict.lost
        report.records_doubled += verdict.doubled
        report.records_wrong += verdict.wrong


if __name__ == "__main__":
    sys.exit(main())
