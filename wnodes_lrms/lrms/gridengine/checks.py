"""What `wnodes doctor` finds in Grid Engine: judgements of its text, and what asks for that."""

from collections.abc import Iterator

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms import features
from wnodes_lrms.lrms.gridengine.allocation import parse_memory, parse_queues
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.run import run

_DEADLINE = 10.0


def of_site(_config: Config) -> Iterator[Check]:
    """Grid Engine as a whole."""
    try:
        yield memory(run(["qconf", "-sc"], deadline=_DEADLINE))
    except WnodesError as error:
        yield fault(
            "grid engine",
            f"does not answer: {error}",
            "see that sge_qmaster runs, that SGE_ROOT and SGE_CELL are right, and that this is a"
            " submit or administrative host",
        )


def of_node(config: Config, name: str) -> Iterator[Check]:
    """A node, as Grid Engine has it."""
    try:
        yield offers(name, run(["qhost", "-F", f"{FEATURE},vm"], deadline=_DEADLINE))
        said = run(["qstat", "-f", "-xml", "-q", f"*@{name}"], deadline=_DEADLINE, unknown=True)
        yield queues(name, parse_queues(said))
        wanted, counted = features.wanted(config), features.counted(config)
        if names := [*wanted, *counted]:
            own = resources(name, run(["qhost", "-F", ",".join(names)], deadline=_DEADLINE))
            yield from features.checks(config, name, [w for w in wanted if f":{w}=1" in own])
            yield from features.counts(config, name, [w for w in counted if f":{w}=" in own])
    except WnodesError as error:
        yield fault(
            "grid engine node",
            f"node {name}: {error}",
            "give the host's name in Grid Engine, as qhost writes it, with --node",
        )


def memory(said: str) -> Check:
    """Whether jobs are granted memory, by `qconf -sc`."""
    kinds = parse_memory(said)
    if kinds:
        return ok("grid engine memory", f"consumable: {', '.join(kind.name for kind in kinds)}")
    return fault(
        "grid engine memory",
        "no complex of memory is consumable: jobs are granted none, so a VM has no size",
        "make mem_free consumable with a default (`qconf -mc`), and give each host what it has"
        " (`qconf -aattr exechost complex_values mem_free=… HOST`)",
    )


def resources(name: str, said: str) -> str:
    """The lines of a host in `qhost -F`."""
    own, here = "", False
    for line in said.splitlines():  # a host's resources stand below its line, indented
        here = here if line[:1].isspace() else line.split(None, 1)[:1] == [name]
        own += line if here else ""
    return own


def offers(name: str, said: str) -> Check:
    """Whether jobs with VMs are sent to the host, by `qhost -F wnodes,vm`."""
    own = resources(name, said)
    missing = [word for word in (FEATURE, "vm") if f":{word}=" not in own]
    if not missing:
        return ok("grid engine host", f"{name} has {FEATURE} and vm")
    return fault(
        "grid engine host",
        f"{name} lacks {' and '.join(missing)}: no job with a VM comes here",
        f"`qconf -aattr exechost complex_values {FEATURE}=true,vm=none {name}`",
    )


def queues(name: str, states: dict[str, str]) -> Check:
    """Whether the host's queues take jobs."""
    away = {queue: state for queue, state in states.items() if state}
    if not away:
        return ok("grid engine queues", ", ".join(sorted(states)))
    shown = ", ".join(f"{queue} ({state})" for queue, state in sorted(away.items()))
    return warning(
        "grid engine queues",
        f"{name}: {shown}",
        "d: `qmod -e`, or `wnodes host resume` if it was drained; E: see `qstat -f -explain E`,"
        " then `qmod -cq`",
    )
