"""A node is emptied and comes back; and why a job or a machine is where it is."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from contrib.site.box.layout import NODES
from tests.chaos.site import Box
from tests.e2e.box import call, machines, wait_until
from tests.e2e.lrms.slurm import Submit, leases
from tests.e2e.occi import Cloud, Key


@pytest.fixture(autouse=True)
def _nodes_come_back(_nothing_is_left: None) -> Iterator[None]:
    """After each test, however it ends, both nodes take jobs."""
    yield
    call("wnodes", "host", "resume")
    for node in NODES:
        if "drain" in state_of(node):
            call("scontrol", "update", f"NodeName={node}", "State=RESUME")


def state_of(node: str) -> str:
    """Slurm's word for a node's state, and why: `drained new kernel`."""
    text = call("sinfo", "--noheader", f"--nodes={node}", "--format=%T %E", "--partition=main")
    return text.strip().replace("*", "")


def host(node: str) -> dict[str, Any]:
    """`wnodes host show --json` of a node."""
    (shown,) = json.loads(call("wnodes", "host", "show", "--json", "--node", node))
    found: dict[str, Any] = shown
    return found


def drain(node: str, *options: str) -> str:
    return call("wnodes", "host", "drain", "--node", node, "--reason", "new kernel", *options)


def why(name: str) -> dict[str, Any]:
    """`wnodes why --json` where one node knows the name."""
    (said,) = json.loads(call("wnodes", "why", name, "--json"))
    found: dict[str, Any] = said
    return found


def test_a_drained_node_gets_no_jobs_and_what_runs_ends_by_itself(
    submit: Submit, daemons: Box
) -> None:
    running = submit("echo up; sleep 25; echo ran", "--nodelist=hv1")
    running.in_state("ready")
    said = drain("hv1")
    assert re.match(r"node hv1 is draining since \S+Z: new kernel\n  1 left, for as long", said)
    assert state_of("hv1").startswith("draining wnodes: new kernel")
    assert (host("hv1")["state"], host("hv2")["state"]) == ("draining", "up")

    other = submit("echo ran")
    assert other.wait().state == "COMPLETED", other.error
    assert other.field("NodeList") == "hv2"

    with daemons.down("bait-hv1"):
        pass
    assert running.wait().state == "COMPLETED", running.error
    assert running.output == "up\nran\n"
    wait_until(lambda: host("hv1")["state"] == "drained", 15, "drained")
    assert host("hv1")["machines"] == []

    said = call("wnodes", "host", "resume", "--node", "hv1")
    assert said == "node hv1 takes VMs; it has 0\n"
    assert submit("true", "--nodelist=hv1").wait(seconds=60).state == "COMPLETED"


def test_by_a_set_time_the_guest_is_told_and_its_job_goes_elsewhere(submit: Submit) -> None:
    job = submit(
        'echo "cores $(cat "$JOBFEATURES/allocated_cpu" "$MACHINEFEATURES/total_cpu")"\n'
        '[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0\n'
        'until [ -s "$MACHINEFEATURES/shutdowntime" ]; do sleep 1; done\n'
        'echo "told $(cat "$MACHINEFEATURES/shutdowntime" "$JOBFEATURES/shutdowntime_job")"\n'
        'until ! [ -e "$MACHINEFEATURES/shutdowntime" ]; do sleep 1; done\n'
        "echo taken back\n"
        'until [ -s "$MACHINEFEATURES/shutdowntime" ]; do sleep 1; done\n'
        "echo told again\n"
        "sleep 300",
        "--open-mode=append",
    )
    node = str(job.in_state("ready")["node"])
    assert node in NODES
    drain(node, "--by", "+10min")
    by = host(node)["by"]
    wait_until(lambda: "told" in job.output, 30, "told of its end")
    told = re.fullmatch(r"cores 1\n1\ntold (\d{10})\n\1\n", job.output)
    assert told, job.output
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(told[1]))) == by[:19]

    call("wnodes", "host", "resume", "--node", node)
    wait_until(lambda: "taken back" in job.output, 30, "told that it does not end")
    drain(node, "--by", "+15s")
    wait_until(lambda: job.field("Restarts") == "1", 60, "requeued")
    assert job.wait().state == "COMPLETED", job.error
    assert "the node is drained: new kernel" in job.error
    assert job.field("NodeList") == next(name for name in NODES if name != node)


def test_a_cloud_machine_is_shut_down_in_time_and_starts_again(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("echo kept >/root/kept; sync")
    (row,) = machines()
    node = str(row["node"])
    drain(node, "--by", "+35s")
    machine.wait("inactive", saying="to be empty soon")
    wait_until(lambda: host(node)["state"] == "drained", 30, "drained")
    (row,) = machines()
    assert (row["id"], row["state"], row["node"]) == (machine.id, "stopped", node)
    assert "`wnodes host resume`" in why(machine.id)["next"][1]

    machine.act("start")
    wait_until(lambda: len(leases()) == 1, 30, "its new lease")
    time.sleep(5)
    assert machine.state == "inactive"  # its disk is on the drained node
    call("wnodes", "host", "resume", "--node", node)
    machine.wait("active", 90)
    assert machine.ssh("cat /root/kept") == "kept\n"


def test_an_administrators_own_drain_stays(submit: Submit) -> None:
    call("scontrol", "update", "NodeName=hv1", "State=DRAIN", "Reason=bad disk")
    assert "drained by somebody else, which stays: bad disk" in drain("hv1")
    assert state_of("hv1") == "drained bad disk"
    assert "bad disk" in call("wnodes", "host", "resume", "--node", "hv1")
    assert state_of("hv1") == "drained bad disk"
    assert submit("true").wait().field("NodeList") == "hv2"


def test_a_batch_system_that_is_away_hears_of_it_later(daemons: Box) -> None:
    with daemons.frozen("slurmctld"):
        assert "the batch system: not told yet: " in drain("hv1")
    wait_until(lambda: state_of("hv1") == "drained wnodes: new kernel", 60, "drained in Slurm")
    # An administrator who lifts it by hand sees it come back until `host resume`.
    call("scontrol", "update", "NodeName=hv1", "State=RESUME")
    wait_until(lambda: state_of("hv1") == "drained wnodes: new kernel", 30, "drained again")
    call("wnodes", "host", "resume", "--node", "hv1")
    wait_until(lambda: state_of("hv1") == "idle none", 30, "idle")
    time.sleep(20)  # more than one reconciliation
    assert state_of("hv1") == "idle none"


@pytest.mark.parametrize("by", ["2020-01-01T00:00", "yesterday"])
def test_a_time_that_is_none_changes_nothing(by: str) -> None:
    with pytest.raises(AssertionError, match=r"over already|is needed"):
        drain("hv1", "--by", by)
    assert host("hv1")["state"] == "up"


def test_why_a_job_is_where_it_is(submit: Submit) -> None:
    job = submit("sleep 600")
    machine = str(job.in_state("ready")["id"])
    for name in (job.number, machine, machine[:8]):
        said = why(name)
        assert (said["job"], said["machine"], said["state"]) == (job.number, machine, "ready")
    text = call("wnodes", "why", job.number)
    assert "asked for a VM from image small_debian_x86_64" in text
    assert f"when the batch system does not list job {job.number} any more: the VM and" in text
    job.cancel()
    wait_until(lambda: why(job.number)["state"] == "gone", 30, "gone")

    small = submit("true", "--mem=150")
    wait_until(lambda: small.field("Reason") == "job_requeued_in_held_state", 60, "held")
    wait_until(lambda: why(small.number)["state"] in ("failed", "gone"), 30, "failed")
    assert any("MiB" in text for text in [e["what"] for e in why(small.number)["history"]])
    with pytest.raises(AssertionError, match="nothing is known"):
        why("999999")


def timeless(said: dict[str, object]) -> str:
    """An answer without what the clock changes from one to the next."""
    return re.sub(r"ran for [^\"]*; counted at [^\"]*", "", json.dumps(said, sort_keys=True))


def test_why_a_cloud_machine_is_where_it_is(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    said = why(machine.id)
    lease = said["lease"]
    assert timeless(why(lease)) == timeless(said | {"name": lease})
    assert "CN=Alice" in said["asked"][0]
    assert any("told to shut down" in text for text in said["next"])
    machine.delete()
    wait_until(lambda: why(machine.id)["state"] == "gone", 30, "gone")
    assert any("exit code 0" in text for text in why(lease)["decided"])
