"""What `wnodes doctor` finds in OpenPBS: judgements of its text, and what asks for that."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, ok, warning
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms import features, pbs
from wnodes_lrms.lrms.lease import FEATURE
from wnodes_lrms.lrms.openpbs.allocation import parse_drain, parse_node
from wnodes_lrms.lrms.openpbs.hookplan import CODE, EVENTS, HOOK, RESOURCES, Present
from wnodes_lrms.lrms.openpbs.installation import present, server
from wnodes_lrms.resources import sources
from wnodes_lrms.run import run

_DEADLINE = 10.0
_INSTALL = "run `wnodes hooks install` on the server's host, and give qmgr the lines that it prints"
_AVAILABLE = "resources_available."
_AWAY = frozenset(("down", "offline", "offline_by_mom", "stale", "state-unknown", "unresolvable"))
_EPILOGUE = Path("mom_priv/epilogue")


def of_site(config: Config) -> Iterator[Check]:
    """OpenPBS as a whole."""
    try:
        said = server()
        yield ok("openpbs", f"server {said.get('server_host')}: {said.get('server_state')}")
        if config.cloud.drmaa_library:
            yield history(said)
        if now := present():
            yield from resources(now)
            yield hook(now, sources([CODE])[CODE])
    except WnodesError as error:
        yield fault(
            "openpbs",
            f"does not answer: {error}",
            "see that pbs_server and pbs_comm run, and that PBS_SERVER in /etc/pbs.conf is right",
        )


def of_node(config: Config, name: str) -> Iterator[Check]:
    """A node, as OpenPBS has it."""
    try:
        listing = run(["pbsnodes", "-H", name], deadline=_DEADLINE, unknown=True)
        said = parse_node(name, listing)
        yield from node(name, said)
        has = [key for key in features.wanted(config) if "True" in said.get(_AVAILABLE + key, [])]
        yield from features.checks(config, name, has)
        some = [key for key in features.counted(config) if _AVAILABLE + key in said]
        yield from features.counts(config, name, some)
        yield rights(name, server())
    except WnodesError as error:
        yield fault(
            "openpbs node",
            f"node {name}: {error}",
            "give the vnode's name in PBS with --node; see that pbs_server answers",
        )
    else:
        yield classic(_home() / _EPILOGUE)


def history(said: Mapping[str, str]) -> Check:
    """Whether ended leases stay known for a while: pbs-drmaa takes an unknown job for a failed."""
    if said.get("job_history_enable") == "True":
        return ok("openpbs history", "job_history_enable=True")
    return fault(
        "openpbs history",
        "job_history_enable is not True: how a lease ended can't be told",
        "qmgr -c 'set server job_history_enable = True'",
    )


def resources(now: Present) -> Iterator[Check]:
    """The resources that say an image request, and that a node has a bait."""
    for name, wanted in RESOURCES.items():
        found = now.resources.get(name)
        if found and all(set(found.get(key, "")) == set(value) for key, value in wanted.items()):
            yield ok("openpbs resource", f"{name}, {found['type']}")
        else:
            seen = f"{name} is {dict(found)}" if found else f"{name} is not there"
            yield fault("openpbs resource", f"{seen}: no job gets a VM", _INSTALL)


def hook(now: Present, code: bytes) -> Check:
    """Whether PBS runs our hook, in this version, at all its events."""
    if now.hook is None:
        return fault(
            "openpbs hook", f"there is no hook {HOOK}: image requests are not seen", _INSTALL
        )
    if now.hook.get("enabled", "").lower() != "true":
        return fault("openpbs hook", f"the hook {HOOK} is not enabled", _INSTALL)
    if set(now.hook.get("event", "").split(",")) != set(EVENTS):
        return fault("openpbs hook", f"its events are {now.hook.get('event')}", _INSTALL)
    if now.code.rstrip() != code.rstrip():
        return fault("openpbs hook", f"PBS runs another version of {CODE} than this one", _INSTALL)
    return ok("openpbs hook", f"{HOOK} is enabled, in this version")


def node(name: str, said: Mapping[str, list[str]]) -> Iterator[Check]:
    """What `pbsnodes -H NAME` says: does PBS send it jobs, and jobs with VMs?"""
    if "True" in said.get(_AVAILABLE + FEATURE, []):
        yield ok("openpbs resource", f"node {name} has {FEATURE}=True")
    else:
        yield fault(
            "openpbs resource",
            f"node {name} lacks {FEATURE}=True: no job with a VM comes here",
            f"qmgr -c 'set node {name} resources_available.{FEATURE} = True'",
        )
    states = said["state"]
    if _AWAY.isdisjoint(",".join(states).split(",")):
        yield ok("openpbs node", f"node {name} is {states[0]}")
        return
    why = parse_drain(dict(said))
    yield warning(
        "openpbs node",
        f"node {name} is {states[0]}" + (f": {why}" if why else ""),
        "`wnodes host resume`"
        if why and why.startswith("wnodes:")
        else f"mend the cause, then `pbsnodes -r {name}`",
    )


def rights(name: str, said: Mapping[str, str]) -> Check:
    """Whether root on the node may see whose a job is, and set the node offline."""
    names = said.get("managers", "").replace(" ", "").split(",")
    hosts = [
        host for user, _, host in (name.partition("@") for name in names) if user in ("root", "*")
    ]
    if any(host.partition(".")[0] in (name, "*") for host in [said.get("server_host", ""), *hosts]):
        return ok("openpbs rights", f"root on {name} is a manager")
    return fault(
        "openpbs rights",
        f"root on {name} is no manager of PBS: the bait can't see whose a job is",
        f"qmgr -c 'set server managers += root@{name}'",
    )


def classic(path: Path) -> Check:
    """Whether the node has a classic epilogue, which PBS leaves out beside an epilogue hook."""
    if not path.exists():
        return ok("openpbs epilogue", f"no {path}")
    return warning(
        "openpbs epilogue",
        f"{path} is not run any more: PBS runs hooks or scripts at a job's end, not both",
        "make it a hook of its own with the event execjob_epilogue",
    )


def _home() -> Path:
    """PBS_HOME of this host, as pbs.conf(5) says."""
    return Path(dict(pbs.settings(Path("/etc/pbs.conf"))).get("PBS_HOME", "/var/spool/pbs"))
