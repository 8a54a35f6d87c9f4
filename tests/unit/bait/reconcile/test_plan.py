"""Every state against every evidence, and what must never follow from any."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bait.hypervisor.domain import FULL, Domain
from bait.ledger.records import Row
from bait.ledger.states import AT_REST, MOVES
from bait.reconcile.plan import Act, Action, Evidence, grounds, plan
from wnodes_lrms.model import Kind, State, machine_id

NOW = 1_000_000.0
NOTICE = 75.0
JOB = "7"
ID = machine_id("box", JOB, 0)
DOMAIN = Domain(ID, JOB, 0)
STUCK = Domain(ID, JOB, 0, stuck=True)
HELD = Domain(ID, JOB, 0, held=True)
ASLEEP = Domain(ID, JOB, 0, asleep=True)
PANICKED = Domain(ID, JOB, 0, panicked=True)

MADE = (State.REQUESTED, State.BUILDING, State.STARTING)
ACTIVE = (State.BOOTING, State.READY, State.PAUSED, State.SUSPENDED, State.ASLEEP)
STATES = {
    kind: [state for state in State if any(state in move for move in moves)]
    for kind, moves in MOVES.items()
}


def evidence(
    *rows: Row,
    domains: Iterable[Domain] | None = None,
    live: set[str] | None = None,
    suspended: Iterable[str] = (),
    moving: Iterable[str] = (),
    heard: Iterable[str] = (),
    processes: Iterable[str] = (),
    folders: Mapping[str, bool] | None = None,
    worked_on: Iterable[str] = (),
    drain_by: float | None = None,
) -> Evidence:
    return Evidence(
        rows=rows,
        domains=None if domains is None else {domain.id: domain for domain in domains},
        live_jobs=None if live is None else {job: job in suspended for job in live},
        heard=frozenset(heard),
        moving=frozenset(moving),
        processes=frozenset(processes),
        folders=dict(folders or {}),
        worked_on=frozenset(worked_on),
        now=NOW,
        notice=NOTICE,
        drain_by=drain_by,
    )


def row(state: State, job: str = JOB, restart: int = 0) -> Row:
    return Row(machine_id("box", job, restart), job, restart, state, NOW - 999)


def cloud_row(state: State, ends: float | None = None, job: str = JOB) -> Row:
    at_rest = state in AT_REST
    held, lease = ("", "") if at_rest else (job, f"lease {job}")
    id_ = machine_id("box", job, 0)
    return Row(id_, held, 0, state, NOW - 999, kind=Kind.CLOUD, lease=lease, ends=ends)


def a_row(kind: Kind, state: State, ends: float | None = None) -> Row:
    return cloud_row(state, ends) if kind is Kind.CLOUD else row(state)


def found(actions: Iterable[Action]) -> list[tuple[Act, bool]]:
    return [(action.act, action.doubtful) for action in actions]


# -- the rule, said once more ----------------------------------------------------------------------

# What libvirt says of the VM, and the kernel; what the LRMS says of its job, and the job.
DOMAINS: dict[str, list[Domain] | None] = {
    "runs": [DOMAIN],
    "stuck": [STUCK],
    "held": [HELD],
    "asleep": [ASLEEP],
    "panicked": [PANICKED],
    "none": [],
    "away": None,
}
LIVE: dict[str, set[str] | None] = {
    "listed": {JOB},
    "suspended": {JOB},
    "not listed": {"8"},
    "away": None,
}
ENDS = {"far": NOW + NOTICE + 0.1, "near": NOW + NOTICE, "past": NOW - 1, "unknown": None}
DRAINS = {"no": None, "later": NOW + NOTICE + 0.1, "soon": NOW + NOTICE, "now": NOW}

Wanted = tuple[Act, bool] | None


def expected(
    kind: Kind,
    state: State,
    libvirt: str,
    process: bool,
    lrms: str,
    heard: bool,
    moving: bool,
    drained: bool,
    near: bool,
) -> Wanted:
    """The rule of plan.py in other words: the first line that fits.

    `moving`: a process of the job is seen that is not stopped;
    `drained`: the node is to be empty; `near`: the walltime of its lease is nearly over.
    """
    batch = kind is Kind.BATCH
    at_rest = not batch and state in (State.STOPPED, State.HIBERNATED, State.FAILED)
    not_listed = lrms == "not listed" and not at_rest
    unseen = libvirt == "none" and state in ACTIVE
    # First what was begun: nobody's silence or word takes that back.
    if state is State.ENDING:
        return Act.END, False
    if state is State.HIBERNATING:
        return Act.HIBERNATE, False
    if state is State.STOPPING:
        return (Act.HALT if not_listed and not heard else Act.SHUT_DOWN), False
    # Then where the sources contradict each other.
    if (not_listed and heard) or (unseen and process):
        return Act.REPORT, False
    if not_listed:
        return (Act.END if batch else Act.HALT), True
    if at_rest or state is State.FAILED:
        return (Act.SWEEP, False) if libvirt not in ("none", "away") else None
    if drained:
        return (Act.EVICT if batch else Act.SHUT_DOWN), False
    if batch and state is State.STARTING and libvirt != "none":
        return None if libvirt == "away" else (Act.ADOPT, False)
    if state in MADE:
        return Act.RESUME, False
    if unseen:
        return Act.LOST, False
    if near and not batch:
        return Act.SHUT_DOWN, False
    if libvirt == "panicked" and (state is State.READY or (batch and state is State.PAUSED)):
        return Act.PANIC, False
    if state is State.BOOTING:
        return None if libvirt == "away" else (Act.ADOPT, False)
    if state is State.READY and lrms == "suspended":
        return Act.PAUSE, moving
    if state is State.PAUSED and lrms == "listed":
        return Act.CONTINUE, False
    if state is State.PAUSED:
        return (Act.PAUSE, False) if libvirt == "runs" else None
    if state is State.SUSPENDED:
        return (Act.HOLD, False) if libvirt == "runs" else None
    if state is State.ASLEEP:
        return None if libvirt in ("asleep", "away") else (Act.FOLLOW, False)
    if state is not State.READY:
        return None
    if not batch and libvirt == "asleep":
        return Act.FOLLOW, False
    if not batch and libvirt == "stuck":
        return Act.FULL, False
    waits = ("stuck", "held", "asleep") if batch else ("held",)
    return (Act.WAKE, False) if libvirt in waits else None


@pytest.mark.parametrize(
    ("kind", "state"), [(kind, state) for kind in Kind for state in STATES[kind]]
)
def test_every_state_against_every_evidence(kind: Kind, state: State) -> None:
    yes_no = (True, False)
    every = product(DOMAINS, yes_no, LIVE, yes_no, yes_no, ENDS, DRAINS)
    for libvirt, process, lrms, heard, moving, ends, drain in every:
        given_row = a_row(kind, state, ENDS[ends])
        actions = plan(
            evidence(
                given_row,
                domains=DOMAINS[libvirt],
                live=LIVE[lrms],
                suspended={JOB} if lrms == "suspended" else (),
                moving={JOB} if moving else (),
                heard={JOB} if heard else (),
                processes={ID} if process else (),
                folders={ID: True},
                drain_by=DRAINS[drain],
            )
        )
        # A notice is for guests that can shut down: those of cloud VMs.
        drained = drain == "now" or (drain == "soon" and kind is Kind.CLOUD)
        near = ends in ("near", "past")
        wanted = expected(kind, state, libvirt, process, lrms, heard, moving, drained, near)
        case = (libvirt, process, lrms, heard, moving, ends, drain)
        assert found(actions) == ([wanted] if wanted else []), case
        for action in actions:
            assert (action.machine, action.job) == (ID, given_row.job)
            assert action.why


# -- its most important lines, by hand: nothing computes what they say -----------------------------


@pytest.mark.parametrize(
    ("state", "domains", "live", "wanted"),
    [
        (State.REQUESTED, None, None, (Act.RESUME, False)),
        (State.REQUESTED, [], set(), (Act.END, True)),
        (State.STARTING, None, {JOB}, None),
        (State.STARTING, [], {JOB}, (Act.RESUME, False)),
        (State.STARTING, [DOMAIN], None, (Act.ADOPT, False)),
        (State.BOOTING, [DOMAIN], None, (Act.ADOPT, False)),
        (State.READY, [DOMAIN], {JOB}, None),
        (State.READY, [STUCK], {JOB}, (Act.WAKE, False)),
        (State.READY, [ASLEEP], {JOB}, (Act.WAKE, False)),
        (State.READY, [PANICKED], None, (Act.PANIC, False)),
        (State.READY, [], {JOB}, (Act.LOST, False)),
        (State.READY, [], None, (Act.LOST, False)),
        (State.READY, [DOMAIN], set(), (Act.END, True)),
        (State.READY, None, None, None),
        (State.FAILED, [], {JOB}, None),
        (State.FAILED, [DOMAIN], {JOB}, (Act.SWEEP, False)),
        (State.FAILED, [], set(), (Act.END, True)),
        (State.ENDING, None, None, (Act.END, False)),
    ],
)
def test_the_lines_that_matter_most(
    state: State, domains: list[Domain] | None, live: set[str] | None, wanted: Wanted
) -> None:
    actions = plan(evidence(row(state), domains=domains, live=live))
    assert found(actions) == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    ("state", "domains", "live", "wanted"),
    [
        (State.REQUESTED, None, None, (Act.RESUME, False)),
        (State.STARTING, None, None, (Act.RESUME, False)),
        (State.READY, [DOMAIN], {JOB}, None),
        (State.READY, [DOMAIN], None, None),
        (State.READY, [STUCK], {JOB}, (Act.FULL, False)),
        (State.READY, [DOMAIN], set(), (Act.HALT, True)),
        (State.READY, [], {JOB}, (Act.LOST, False)),
        (State.SUSPENDED, [DOMAIN], {JOB}, (Act.HOLD, False)),
        (State.SUSPENDED, [HELD], {JOB}, None),
        (State.READY, [HELD], {JOB}, (Act.WAKE, False)),
        (State.READY, [ASLEEP], {JOB}, (Act.FOLLOW, False)),
        (State.ASLEEP, [ASLEEP], {JOB}, None),
        (State.ASLEEP, [DOMAIN], {JOB}, (Act.FOLLOW, False)),
        (State.ASLEEP, [], {JOB}, (Act.LOST, False)),
        (State.SUSPENDED, [ASLEEP], {JOB}, None),
        (State.STOPPING, [DOMAIN], {JOB}, (Act.SHUT_DOWN, False)),
        (State.STOPPING, [DOMAIN], set(), (Act.HALT, False)),
        (State.HIBERNATING, [], set(), (Act.HIBERNATE, False)),
        (State.STOPPED, [], set(), None),
        (State.STOPPED, [DOMAIN], {JOB}, (Act.SWEEP, False)),
        (State.ENDING, None, None, (Act.END, False)),
    ],
)
def test_the_lines_of_cloud_machines_that_matter_most(
    state: State, domains: list[Domain] | None, live: set[str] | None, wanted: Wanted
) -> None:
    actions = plan(evidence(cloud_row(state, NOW + 3600), domains=domains, live=live))
    assert found(actions) == ([wanted] if wanted else [])


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("state", "domain", "suspended", "wanted"),
    [
        (State.READY, DOMAIN, True, (Act.PAUSE, False)),
        (State.READY, DOMAIN, None, None),
        (State.READY, HELD, False, (Act.WAKE, False)),
        (State.PAUSED, HELD, True, None),
        (State.PAUSED, DOMAIN, True, (Act.PAUSE, False)),
        (State.PAUSED, STUCK, True, None),
        (State.PAUSED, HELD, False, (Act.CONTINUE, False)),
        (State.PAUSED, HELD, None, None),
        (State.PAUSED, DOMAIN, None, (Act.PAUSE, False)),
    ],
)
def test_a_machine_stands_still_while_its_job_is_suspended(
    kind: Kind, state: State, domain: Domain, suspended: bool | None, wanted: Wanted
) -> None:
    """None: the batch system does not answer."""
    live, still = (None if suspended is None else {JOB}), ({JOB} if suspended else set[str]())
    seen = evidence(a_row(kind, state, NOW + 3600), domains=[domain], live=live, suspended=still)
    assert found(plan(seen)) == ([wanted] if wanted else [])


def test_a_job_that_has_notice_of_its_suspension_has_it_in_its_machine_too() -> None:
    seen = evidence(row(State.READY), domains=[DOMAIN], live={JOB}, suspended={JOB}, moving={JOB})
    assert found(plan(seen)) == [(Act.PAUSE, True)]


def test_a_paused_machine_whose_job_is_over_ends() -> None:
    for kind, act in ((Kind.BATCH, Act.END), (Kind.CLOUD, Act.HALT)):
        seen = evidence(a_row(kind, State.PAUSED), domains=[HELD], live=set())
        assert found(plan(seen)) == [(act, True)]
        lost = evidence(a_row(kind, State.PAUSED), domains=[], live={JOB}, suspended={JOB})
        assert found(plan(lost)) == [(Act.LOST, False)]


@pytest.mark.parametrize("kind", Kind)
def test_a_job_that_was_heard_is_not_over_whatever_the_batch_system_says(kind: Kind) -> None:
    given_row = a_row(kind, State.READY)
    actions = plan(evidence(given_row, domains=[DOMAIN], live=set(), heard={JOB}))
    assert found(actions) == [(Act.REPORT, False)]


@pytest.mark.parametrize("kind", Kind)
def test_a_machine_that_libvirt_lost_sight_of_is_not_lost(kind: Kind) -> None:
    given_row = a_row(kind, State.READY)
    actions = plan(evidence(given_row, domains=[], live={JOB}, processes={ID}))
    assert found(actions) == [(Act.REPORT, False)]
    assert "libvirtd" in actions[0].why


def test_a_drain_ends_batch_machines_at_its_time_and_cloud_machines_with_a_notice() -> None:
    rows = (row(State.READY, "7"), cloud_row(State.READY, None, "8"))
    domains = [Domain(each.id, each.job, 0) for each in rows]

    def acts(by: float) -> list[Act]:
        return [
            action.act
            for action in plan(evidence(*rows, domains=domains, live={"7", "8"}, drain_by=by))
        ]

    assert acts(NOW + NOTICE + 1) == []
    assert acts(NOW + NOTICE) == [Act.SHUT_DOWN]
    assert acts(NOW) == [Act.EVICT, Act.SHUT_DOWN]


def test_what_is_being_made_when_the_node_is_to_be_empty_is_not_made() -> None:
    for state in MADE:
        for given_row, act in ((row(state), Act.EVICT), (cloud_row(state), Act.SHUT_DOWN)):
            seen = evidence(given_row, domains=[], live={JOB}, drain_by=NOW)
            assert found(plan(seen)) == [(act, False)]


@pytest.mark.parametrize(
    ("live", "heard", "act"),
    [
        ({JOB}, (JOB,), Act.SHUT_DOWN),
        (set(), (JOB,), Act.SHUT_DOWN),  # politely, as long as its lease's process lives
        (set(), (), Act.HALT),
        (None, (), Act.SHUT_DOWN),
    ],
)
def test_a_shutdown_that_was_begun_goes_on(
    live: set[str] | None, heard: tuple[str, ...], act: Act
) -> None:
    for domains in ([], [DOMAIN], None):
        seen = evidence(cloud_row(State.STOPPING), domains=domains, live=live, heard=heard)
        assert found(plan(seen)) == [(act, False)]


def test_a_machine_that_a_thread_has_in_hand_is_left_to_it() -> None:
    for kind, drain_by in product(Kind, (None, NOW)):
        for state in STATES[kind]:
            for domains in ([], [STUCK]):
                seen = evidence(
                    a_row(kind, state, NOW),
                    domains=domains,
                    live=set(),
                    folders={ID: False},
                    worked_on={ID},
                    drain_by=drain_by,
                )
                assert plan(seen) == []


def test_the_last_run_of_a_requeued_job_does_not_hide_this_one() -> None:
    earlier, now = row(State.ENDING, restart=0), row(State.BUILDING, restart=1)
    actions = plan(evidence(earlier, now, domains=[], live={JOB}))
    assert [(a.act, a.machine) for a in actions] == [(Act.END, earlier.id), (Act.RESUME, now.id)]


def test_what_one_source_says_of_one_machine_does_nothing_to_another() -> None:
    rows = [row(State.READY, str(number)) for number in range(4)]
    seen = evidence(
        *rows,
        domains=[Domain(each.id, each.job, 0) for each in rows[1:]],
        live={"0", "1", "3"},
        heard={"3"},
    )
    assert [(a.act, a.job) for a in plan(seen)] == [(Act.LOST, "0"), (Act.END, "2")]


# -- what no row of the ledger knows ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "heard", "wanted"),
    [
        (set(), (), (Act.DESTROY, True)),
        ({JOB}, (), (Act.REPORT, False)),
        (set(), (JOB,), (Act.REPORT, False)),
        (None, (), None),
        (None, (JOB,), None),
    ],
)
def test_a_domain_that_no_row_knows(
    live: set[str] | None, heard: tuple[str, ...], wanted: Wanted
) -> None:
    actions = plan(evidence(domains=[DOMAIN], live=live, heard=heard, folders={ID: True}))
    assert found(actions) == ([wanted] if wanted else [])
    assert [(action.machine, action.job) for action in actions] == ([(ID, JOB)] if wanted else [])


@pytest.mark.parametrize(
    ("precious", "processes", "wanted", "word"),
    [
        (False, (), (Act.DESTROY, True), "no ledger row"),
        (True, (), (Act.REPORT, False), "by hand"),
        (False, (ID,), (Act.REPORT, False), "QEMU process"),
        (True, (ID,), (Act.REPORT, False), "QEMU process"),
    ],
)
def test_files_that_no_row_knows(
    precious: bool, processes: tuple[str, ...], wanted: Wanted, word: str
) -> None:
    seen = {"folders": {ID: precious}, "processes": processes}
    actions = plan(evidence(domains=[], live=set(), **seen))  # type: ignore[arg-type]
    assert found(actions) == [wanted]
    assert word in actions[0].why
    assert plan(evidence(domains=None, live=set(), **seen)) == []  # type: ignore[arg-type]
    assert plan(evidence(domains=[], live=None, **seen)) == []  # type: ignore[arg-type]


def test_files_of_a_machine_that_is_known_are_nobodys_business() -> None:
    assert plan(evidence(row(State.READY), domains=[DOMAIN], live={JOB}, folders={ID: False})) == []
    seen = evidence(domains=[], live=set(), folders={ID: False}, worked_on={ID})
    assert plan(seen) == []


# -- what must never follow, whatever the sources say together -------------------------------------

jobs = st.sampled_from([str(number) for number in range(5)])
restarts = st.integers(0, 1)
machines = st.builds(lambda job, n: machine_id("box", job, n), jobs, restarts)
times = st.none() | st.sampled_from([NOW - 1, NOW, NOW + NOTICE, NOW + 3600])
rows = st.lists(
    st.builds(row, st.sampled_from(STATES[Kind.BATCH]), jobs, restarts)
    | st.builds(cloud_row, st.sampled_from(STATES[Kind.CLOUD]), times, jobs),
    unique_by=lambda each: each.id,
    max_size=6,
)
marked = st.lists(
    st.builds(lambda job, n, *s: Domain(machine_id("box", job, n), job, n, *s), jobs, restarts,
              st.booleans(), st.booleans()),
    max_size=6,
)  # fmt: skip
evidences = st.builds(
    lambda found, *others: evidence(
        *found,
        **dict(
            zip(
                (
                    *("domains", "live", "suspended", "moving", "heard", "processes", "folders"),
                    *("worked_on", "drain_by"),
                ),
                others,
                strict=True,
            )
        ),
    ),
    rows,
    st.none() | marked,
    st.none() | st.sets(jobs),
    st.sets(jobs),
    st.sets(jobs),
    st.sets(jobs),
    st.sets(machines),
    st.dictionaries(machines, st.booleans()),
    st.sets(machines, max_size=2),
    times,
)


@given(evidences)
def test_what_never_follows(seen: Evidence) -> None:
    actions = plan(seen)
    known = {each.id: each for each in seen.rows}
    ours = known.keys() | (seen.domains or {}).keys() | seen.folders.keys()
    assert len({action.machine for action in actions}) == len(actions)
    for action in actions:
        each = known.get(action.machine)
        assert action.machine in ours
        assert action.machine not in seen.worked_on
        assert action.why
        if action.doubtful:
            assert action.act in (Act.END, Act.HALT, Act.DESTROY, Act.PAUSE)
        if action.act in (Act.END, Act.HALT):
            assert each
            # Begun before, or: the LRMS does answer, does not list the job, and nobody heard it.
            begun = State.ENDING if action.act is Act.END else State.STOPPING
            assert action.doubtful == (each.state is not begun)
            assert each.kind is Kind.BATCH or action.act is Act.HALT or not action.doubtful
        if action.act is Act.DESTROY:
            assert each is None
            assert action.doubtful
            assert seen.domains is not None
            assert action.machine in seen.domains or not seen.folders[action.machine]
            assert action.machine in seen.domains or action.machine not in seen.processes
        if action.act in (Act.PAUSE, Act.CONTINUE):
            assert each
            assert each.state in (State.READY, State.PAUSED)
            # Who is not paused is paused at the LRMS's word alone, and goes on at it alone.
            wanted = (each.state is State.READY, action.act is Act.CONTINUE)
            if any(wanted):
                assert seen.live_jobs is not None
                assert wanted == (seen.live_jobs[each.job], not seen.live_jobs[each.job])
        elif action.doubtful or action.act is Act.HALT:
            assert seen.live_jobs is not None
            assert action.job not in seen.live_jobs
            assert action.job not in seen.heard
        if action.act is Act.LOST:
            assert seen.domains is not None
            assert action.machine not in seen.domains
            assert action.machine not in seen.processes
        if action.act is Act.SWEEP:
            assert seen.domains is not None
            assert action.machine in seen.domains
            assert each
            assert each.state in AT_REST
        if action.act is Act.EVICT:
            assert each
            assert each.kind is Kind.BATCH
            assert seen.drain_by is not None
            assert seen.now >= seen.drain_by


@given(evidences)
def test_sources_that_are_all_away_end_nothing_that_was_not_begun(seen: Evidence) -> None:
    blind = evidence(*seen.rows, folders=seen.folders, processes=seen.processes)
    for action in plan(blind):
        each = next(row for row in seen.rows if row.id == action.machine)
        if action.act is Act.SHUT_DOWN:
            over = each.ends is not None and each.ends <= NOW + NOTICE
            assert each.state is State.STOPPING or over
        else:
            assert action.act in (Act.RESUME, Act.HIBERNATE) or each.state is State.ENDING


# -- what each source says, in words ---------------------------------------------------------------


def test_grounds_when_all_answer() -> None:
    seen = evidence(
        row(State.READY),
        domains=[DOMAIN],
        live={JOB},
        heard={JOB},
        processes={ID},
        folders={ID: False},
    )
    assert grounds(ID, JOB, seen) == {
        "ledger": "batch, ready for 999 s",
        "LRMS": "lists job 7",
        "job's process": "heard just now",
        "libvirt": "lists its domain",
        "QEMU": "runs",
        "files": "here",
    }


def test_grounds_of_what_nobody_knows_and_of_what_nobody_tells() -> None:
    assert grounds(ID, JOB, evidence(domains=[], live=set())) == {
        "ledger": "no row",
        "LRMS": "lists no such job here",
        "job's process": "not heard",
        "libvirt": "lists no such domain",
        "QEMU": "no process",
        "files": "none",
    }
    silent = grounds(ID, JOB, evidence(row(State.READY)))
    assert silent["LRMS"] == silent["libvirt"] == "does not answer"


@given(evidences)
def test_each_action_has_its_grounds(seen: Evidence) -> None:
    for action in plan(seen):
        said = grounds(action.machine, action.job, seen)
        assert all(said.values())
        if action.act is Act.PAUSE and action.doubtful:
            assert said["LRMS"] == f"lists job {action.job}, suspended"
        elif action.doubtful:
            assert said["LRMS"] == "lists no such job here"
            assert said["job's process"] == "not heard"


@pytest.mark.parametrize(
    ("reason", "domain", "wanted"),
    [
        ("", PANICKED, [(Act.PANIC, False)]),
        ("the guest's kernel has panicked", PANICKED, []),
        ("the guest's kernel has panicked", DOMAIN, [(Act.PANIC, False)]),
        ("it could not be hibernated", DOMAIN, []),
        ("", STUCK, [(Act.FULL, False)]),
        (FULL, STUCK, [(Act.WAKE, False)]),
        (FULL, DOMAIN, [(Act.FULL, False)]),
    ],
)
def test_why_a_cloud_vm_stands_still_is_written_down_once_and_taken_back(
    reason: str, domain: Domain, wanted: list[tuple[Act, bool]]
) -> None:
    ready = replace(cloud_row(State.READY), reason=reason)
    assert found(plan(evidence(ready, domains=[domain], live={JOB}))) == wanted
