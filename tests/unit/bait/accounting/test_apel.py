"""Cloud usage records, held against the published field list."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bait.accounting.apel import MOST, Publisher, message, record
from bait.ledger.records import Clock, Usage
from tests.unit.bait.accounting.apelrecords import FIELDS, records
from wnodes_lrms.model import Kind

SITE = Publisher("INFN-BOX", "occi.box.example", "wnodes-lrms 0.3.0")
RUNS = Usage(
    number=7,
    id="f9d9a0f0-98de-4cf5-8a5c-3b0e2c5f1d11",
    machine="42830be1-e63b-5316-ad86-9cf7a3034a5f",
    kind=Kind.CLOUD,
    job="123",
    restart=0,
    uid=1501,
    tag="small_debian_x86_64",
    cores=2,
    memory=512,
    dn="/C=IT/O=Box/CN=Alice",
    fqan="/box/Role=pilot",
    began=1_790_000_000.4,
    wall=3600.7,
    held=0.2,
    clock=Clock.RUNS,
    at=1_790_003_601.3,
    disk=10,
    inbound=3 * 2**30 - 1,
    outbound=2**30,
)
ENDED = replace(RUNS, clock=Clock.CLOSED, held=59.6, ended=1_790_003_660.7)


def one(usage: Usage) -> dict[str, str]:
    (found,) = records(message([usage], {1501: "cloudpilot"}, SITE))
    return found


def test_all_fields_of_a_machine_that_has_ended() -> None:
    assert one(ENDED) == {
        "RecordCreateTime": "1790003661",
        "VMUUID": ENDED.id,
        "SiteName": "INFN-BOX",
        "CloudComputeService": "occi.box.example",
        "MachineName": ENDED.machine,
        "LocalUserId": "cloudpilot",
        "GlobalUserName": "/C=IT/O=Box/CN=Alice",
        "FQAN": "/box/Role=pilot",
        "Status": "completed",
        "StartTime": "1790000000",
        "EndTime": "1790003661",
        "SuspendDuration": "60",
        "WallDuration": "3601",
        "CpuCount": "2",
        "NetworkInbound": "2",
        "NetworkOutbound": "1",
        "Memory": "512",
        "Disk": "10",
        "ImageId": "small_debian_x86_64",
        "CloudType": "wnodes-lrms 0.3.0",
    }


@pytest.mark.parametrize(("clock", "status"), [(Clock.RUNS, "started"), (Clock.HELD, "suspended")])
def test_an_open_one_has_no_end(clock: Clock, status: str) -> None:
    found = one(replace(RUNS, clock=clock))
    assert found["Status"] == status
    assert "EndTime" not in found
    assert found["RecordCreateTime"] == "1790003601"


def test_the_measurement_never_goes_back() -> None:
    """Whatever the calendar's clock did: `at` does not count."""
    steps = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1.4, 0.5), (1.4, 1.5), (99.9, 1.5)]
    times, walls = [], []
    for step, (wall, held) in enumerate(steps):
        found = record(replace(RUNS, wall=wall, held=held, at=2e9 - step * 1e6), {}, SITE)
        times.append(found["RecordCreateTime"])
        walls.append(found["WallDuration"])
    assert times == sorted(times)
    assert walls == sorted(walls)


def test_what_is_not_known_is_not_there() -> None:
    bare = replace(RUNS, uid=None, dn="", fqan="", disk=0)
    (found,) = records(message([bare], {}, replace(SITE, service="")))
    absent = {"LocalUserId", "GlobalUserName", "FQAN", "Disk", "CloudComputeService"}
    assert not absent & set(found)
    assert one(replace(RUNS, uid=4711))["LocalUserId"] == "4711"  # a user without a name


def test_wallclock_only() -> None:
    assert "CpuDuration" in [field["name"] for field in FIELDS]
    assert "CpuDuration" not in one(ENDED)


def test_a_name_that_is_not_ascii_is_written_as_in_certificates() -> None:
    assert one(replace(RUNS, dn="/CN=Zoë"))["GlobalUserName"] == "/CN=Zo\\xC3\\xAB"


def test_a_user_with_a_token_is_told_whole() -> None:
    """As long as a subject may be: two users never have one name here."""
    subject = "https://issuer.example/vo#".ljust(255, "x")
    found = one(replace(RUNS, dn=subject, fqan="/vo/group"))
    assert (found["GlobalUserName"], found["FQAN"]) == (subject, "/vo/group")


def test_a_value_longer_than_its_column_is_cut() -> None:
    assert len(one(replace(RUNS, fqan="/" + "ö" * 300))["FQAN"]) == 255


def test_many_records_make_a_message() -> None:
    usages = [replace(RUNS, id=f"id-{number}") for number in range(MOST)]
    found = records(message(usages, {}, SITE))
    assert [each["VMUUID"] for each in found] == [usage.id for usage in usages]


@given(st.text(), st.text(alphabet="%\n\r\x0b\x0c\x1c\x85\u2028: =a"))
def test_no_text_breaks_a_message(dn: str, fqan: str) -> None:
    usage = replace(RUNS, dn=f"/CN={dn}.", fqan=f"/{fqan}.")
    assert len(records(message([usage, usage], {}, SITE))) == 2
