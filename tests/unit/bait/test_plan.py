"""plan.py: every state against every evidence, and what must never follow from any."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bait.hypervisor import Domain
from bait.ledger import Row
from bait.plan import AT_REST, Act, Evidence, plan
from wnodes_lrms.model import Kind, State, machine_id

NOW = 1_000_000.0
GRACE = 60.0
NOTICE = 75.0
JOB = "7"
ID = machine_id("box", JOB, 0)

BATCH_STATES = (
    State.REQUESTED,
    State.BUILDING,
    State.BOOTING,
    State.READY,
    State.FAILED,
    State.ENDING,
)
MADE = (State.REQUESTED, State.BUILDING)
YES, NO, UNKNOWN = "yes", "no", "unknown"


def evidence(
    *rows: Row,
    domains: list[Domain] | None = None,
    live: set[str] | None = None,
    worked_on: frozenset[str] = frozenset(),
) -> Evidence:
    found = None if domains is None else {domain.id: domain for domain in domains}
    return Evidence(rows, found, live, worked_on, NOW, GRACE, NOTICE)


def row(state: State, age: float = 0.0, job: str = JOB, restart: int = 0) -> Row:
    return Row(machine_id("box", job, restart), job, restart, state, NOW - age)


def expected(state: State, domain: str, job: str, old: bool) -> Act | None:
    """The rule of plan.py, said once more and in another way: the first line that fits."""
    if state is State.ENDING:
        return Act.END
    if job == NO:
        return Act.END if old else None
    if state in MADE:
        return Act.RESUME
    if state is State.FAILED or domain == UNKNOWN:
        return None
    if domain == NO:
        return Act.LOST
    return Act.ADOPT if state is State.BOOTING else None


@pytest.mark.parametrize(
    ("state", "domain", "job", "old"),
    list(product(BATCH_STATES, (YES, NO, UNKNOWN), (YES, NO, UNKNOWN), (True, False))),
)
def test_every_state_against_every_evidence(state: State, domain: str, job: str, old: bool) -> None:
    given_row = row(state, age=GRACE if old else GRACE - 0.1)
    domains = {YES: [Domain(ID, JOB, 0)], NO: [], UNKNOWN: None}[domain]
    live = {YES: {JOB}, NO: {"8"}, UNKNOWN: None}[job]
    actions = plan(evidence(given_row, domains=domains, live=live))
    wanted = expected(state, domain, job, old)
    assert [(action.act, action.machine, action.job) for action in actions] == (
        [(wanted, ID, JOB)] if wanted else []
    )
    assert all(action.why for action in actions)


# The same table's most important lines, by hand: nothing computes what they say.
@pytest.mark.parametrize(
    ("state", "domains", "live", "age", "act"),
    [
        (State.READY, [], {JOB}, 0, Act.LOST),
        (State.READY, [Domain(ID, JOB, 0)], {JOB}, 999, None),
        (State.READY, [Domain(ID, JOB, 0)], set(), 61, Act.END),
        (State.READY, [Domain(ID, JOB, 0)], set(), 59, None),
        (State.READY, [], None, 999, Act.LOST),
        (State.READY, None, None, 999, None),
        (State.BOOTING, [Domain(ID, JOB, 0)], None, 0, Act.ADOPT),
        (State.REQUESTED, None, None, 0, Act.RESUME),
        (State.REQUESTED, [], set(), 61, Act.END),
        (State.FAILED, [], {JOB}, 999, None),
        (State.FAILED, [], set(), 61, Act.END),
        (State.ENDING, None, None, 0, Act.END),
    ],
)
def test_the_lines_that_matter_most(
    state: State,
    domains: list[Domain] | None,
    live: set[str] | None,
    age: float,
    act: Act | None,
) -> None:
    actions = plan(evidence(row(state, age), domains=domains, live=live))
    assert [action.act for action in actions] == ([act] if act else [])


CLOUD_STATES = [state for state in State if state is not State.BOOTING]
ENDS = {"far": NOW + NOTICE + 0.1, "near": NOW + NOTICE, "past": NOW - 1, "unknown": None}


def cloud_row(state: State, age: float = 0.0, ends: float | None = None) -> Row:
    rest = state in AT_REST
    job, lease = ("", "") if rest else (JOB, "lease")
    return Row(ID, job, 0, state, NOW - age, kind=Kind.CLOUD, lease=lease, ends=ends)


def expected_of_cloud(state: State, domain: str, job: str, old: bool, near: bool) -> Act | None:
    """The rule of plan.py for cloud machines, said once more and in another way."""
    if state in (State.STOPPED, State.HIBERNATED, State.FAILED):
        return None  # without a lease there is nothing to do, whatever libvirt or the LRMS say
    if state is State.ENDING:
        return Act.END
    if state is State.HIBERNATING:
        return Act.HIBERNATE
    if state is State.STOPPING:
        return Act.HALT if job == NO else Act.SHUT_DOWN
    if job == NO:
        return Act.HALT if old else None
    if state in MADE:
        return Act.RESUME
    if domain == NO:
        return Act.LOST
    return Act.SHUT_DOWN if near else None


@pytest.mark.parametrize("state", CLOUD_STATES)
def test_every_cloud_state_against_every_evidence(state: State) -> None:
    said = (YES, NO, UNKNOWN)
    for domain, job, old, ends in product(said, said, (True, False), ENDS):
        given_row = cloud_row(state, GRACE if old else GRACE - 0.1, ENDS[ends])
        domains = {YES: [Domain(ID, JOB, 0)], NO: [], UNKNOWN: None}[domain]
        live = {YES: {JOB}, NO: {"8"}, UNKNOWN: None}[job]
        actions = plan(evidence(given_row, domains=domains, live=live))
        wanted = expected_of_cloud(state, domain, job, old, ends in ("near", "past"))
        assert [(action.act, action.machine, action.job) for action in actions] == (
            [(wanted, ID, given_row.job)] if wanted else []
        ), (domain, job, old, ends)
        assert all(action.why for action in actions)


@pytest.mark.parametrize(
    ("state", "domains", "live", "age", "act"),
    [
        (State.READY, [Domain(ID, JOB, 0)], {JOB}, 999, None),
        (State.READY, [Domain(ID, JOB, 0)], None, 999, None),
        (State.READY, [Domain(ID, JOB, 0)], set(), 59, None),
        (State.READY, [Domain(ID, JOB, 0)], set(), 61, Act.HALT),
        (State.SUSPENDED, [Domain(ID, JOB, 0)], {JOB}, 999, None),
        (State.REQUESTED, None, None, 0, Act.RESUME),
        (State.STOPPING, [Domain(ID, JOB, 0)], {JOB}, 0, Act.SHUT_DOWN),
        (State.STOPPING, [Domain(ID, JOB, 0)], set(), 0, Act.HALT),
        (State.HIBERNATING, [], set(), 999, Act.HIBERNATE),
        (State.STOPPED, [], set(), 999, None),
        (State.ENDING, None, None, 0, Act.END),
    ],
)
def test_the_lines_of_cloud_machines_that_matter_most(
    state: State,
    domains: list[Domain] | None,
    live: set[str] | None,
    age: float,
    act: Act | None,
) -> None:
    actions = plan(evidence(cloud_row(state, age, NOW + 3600), domains=domains, live=live))
    assert [action.act for action in actions] == ([act] if act else [])


def test_no_cloud_machine_is_removed_that_its_user_has_not_deleted() -> None:
    every = product(CLOUD_STATES, ([], [Domain(ID, JOB, 0)], None), (set(), {JOB}, None), (0, 999))
    for state, domains, live, age in every:
        for action in plan(evidence(cloud_row(state, age, NOW), domains=domains, live=live)):
            assert action.act is not Act.DESTROY
            assert (action.act is Act.END) == (state is State.ENDING)


def test_a_machine_that_a_thread_has_in_hand_is_left_to_it() -> None:
    for state in State:
        found = evidence(row(state, 999), domains=[], live=set(), worked_on=frozenset({ID}))
        assert plan(found) == []


def test_a_domain_without_a_row_is_destroyed_once_its_job_is_over() -> None:
    orphan = Domain(ID, JOB, 0)
    assert [a.act for a in plan(evidence(domains=[orphan], live=set()))] == [Act.DESTROY]
    assert plan(evidence(domains=[orphan], live={JOB})) == []
    assert plan(evidence(domains=[orphan], live=None)) == []


def test_the_last_run_of_a_requeued_job_does_not_hide_this_one() -> None:
    earlier, now = row(State.ENDING, restart=0), row(State.BUILDING, restart=1)
    actions = plan(evidence(earlier, now, domains=[], live={JOB}))
    assert [(a.act, a.machine) for a in actions] == [(Act.END, earlier.id), (Act.RESUME, now.id)]


jobs = st.sampled_from([str(number) for number in range(6)])
rows = st.lists(
    st.builds(row, st.sampled_from(State), st.floats(-10, 1000), jobs, st.integers(0, 1)),
    unique_by=lambda each: each.id,
    max_size=6,
)
marked = st.lists(
    st.builds(lambda job, n: Domain(machine_id("box", job, n), job, n), jobs, st.integers(0, 1)),
    max_size=6,
)


@given(rows, st.none() | marked, st.none() | st.sets(jobs), st.sets(jobs))
def test_what_never_follows(
    found: list[Row], domains: list[Domain] | None, live: set[str] | None, busy: set[str]
) -> None:
    worked_on = frozenset(machine_id("box", job, 0) for job in busy)
    actions = plan(evidence(*found, domains=domains, live=live, worked_on=worked_on))
    known = {each.id: each for each in found}
    ours = known.keys() | {domain.id for domain in domains or ()}
    assert len({action.machine for action in actions}) == len(actions)
    for action in actions:
        each = known.get(action.machine)
        assert action.machine in ours
        assert each is None or action.machine not in worked_on
        begun = each is not None and each.state is State.ENDING
        if action.act is Act.END and not begun:
            assert live is not None
            assert action.job not in live
            assert each is not None
            assert NOW - each.since >= GRACE
        if action.act is Act.DESTROY:
            assert live is not None
            assert action.job not in live
            assert domains is not None
            assert each is None
        if action.act is Act.LOST:
            assert domains is not None
            assert live is None or action.job in live
