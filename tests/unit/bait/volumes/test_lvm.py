"""What is read in LVM's reports, and what of LVM's is never believed."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from bait.volumes.lvm import LogicalVolume, Lvm, contents
from tests.unit.bait.volumes.lvmprograms import FIELDS, GROUP, POOL, Programs, report
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError

RECORDED = Path(__file__).parents[2] / "data" / "lvm-2.03.16"
LVS = (RECORDED / "lvs.json").read_text()
ONE, TWO = (f"wnodes-{uuid.UUID(int=number)}" for number in (1, 2))
ROWS = {row.pop("lv_name"): row for row in json.loads(LVS)["report"][0]["lv"]}
# What a kernel would tell of it: none was there.
KERNEL = {"data_percent": "25.00", "metadata_percent": "11.52", "kernel_discards": "nopassdown"}
ACTIVE = {
    **ROWS,
    POOL: ROWS[POOL] | KERNEL | {"lv_active": "active", "lv_device_open": ""},
    ONE: ROWS[ONE] | {"lv_active": "active", "lv_device_open": "open"},
    TWO: ROWS[TWO] | {"lv_active": ""},
}


def test_a_pool_and_its_volumes() -> None:
    found = contents(report(ACTIVE), POOL)
    assert found.volumes == {
        ONE: LogicalVolume(ONE, 2 << 30, frozenset({"wnodes"}), True, True),
        TWO: LogicalVolume(TWO, 1 << 30, frozenset({"wnodes", "backed-up"}), False, False),
        "theirs": LogicalVolume("theirs", 1 << 30, frozenset(), False, False),
    }
    assert found.promised == 4 << 30
    pool = found.pool
    assert (pool.size, pool.metadata) == (4076863488, 11.52)
    assert pool.free == 4076863488 * 3 // 4
    assert (pool.zeroes, pool.fails, pool.discards) == (True, True, "nopassdown")
    other = report(ACTIVE | {POOL: ACTIVE[POOL] | {"zero": "", "lv_when_full": "queue"}})
    pool = contents(other, POOL).pool
    assert (pool.zeroes, pool.fails) == (False, False)


def test_the_programs_of_these_tests_speak_as_the_real_ones(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(ROWS) == LVS
    programs, lvm = Programs(tmp_path_factory.mktemp("lvm"), 10, monkeypatch), Lvm(GROUP, POOL)
    new = f"wnodes-{uuid.UUID(int=3)}"
    for name in (ONE, TWO):
        programs.put(name, **ROWS[name])
    acts: dict[str, Callable[[], None]] = {
        "lvcreate": lambda: lvm.create(ONE, 1 << 30, "wnodes"),
        "lvcreate-snapshot": lambda: lvm.snapshot(new, new, "wnodes"),
        "lvextend": lambda: lvm.extend(ONE, 1 << 30),
        "lvchange": lambda: lvm.activate(new),
        "lvrename": lambda: lvm.rename(TWO, ONE),
        "lvremove": lambda: lvm.remove(new),
    }
    for name, act in acts.items():
        *said, status = (RECORDED / f"{name}.refused").read_text().splitlines()
        assert status == "exit status 5"
        with pytest.raises(WnodesError) as caught:
            act()
        assert str(caught.value) == f"{name.partition('-')[0]}: {said[-1].strip()}"
        assert isinstance(caught.value, ConflictError) is ("already exists" in said[-1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "can't be read"),
        ("  WARNING: no JSON", "can't be read"),
        ("[]", "can't be read"),
        ('{"report": [{"lv": [{"lv_name": "volumes"}]}]}', "can't be read"),
        ('{"report": [{"lv": "volumes"}]}', "can't be read"),
        ('{"report": [{"lv": []}]}', "there is no thin pool volumes"),
        (report({POOL: ROWS["root"]}), "there is no thin pool volumes"),
        (LVS, "is not active"),
        (report({POOL: ACTIVE[POOL] | {"lv_size": "10.00g"}}), "can't be read"),
    ],
)
def test_what_is_no_such_report_is_no_answer(text: str, said: str) -> None:
    with pytest.raises(UnknownError, match=said):
        contents(text, POOL)


def test_every_field_is_asked_for(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(tmp_path_factory.mktemp("lvm"), 10, monkeypatch)
    programs.put("foreign", lv_size="1", segtype="thin", pool_lv=POOL)
    assert set(Lvm(GROUP, POOL).look().volumes) == {"foreign"}
    assert set(programs.rows["foreign"]) < set(FIELDS)


def test_faults_of_programs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Programs(tmp_path_factory.mktemp("lvm"), 10, monkeypatch)
    with pytest.raises(UnknownError, match="is not called so"):
        Lvm("elsewhere", POOL).look()
    lvm = Lvm(GROUP, POOL)
    lvm.create("one", 1 << 30, "wnodes")
    with pytest.raises(ConflictError, match="already exists"):
        lvm.create("one", 1 << 30, "wnodes")
    with pytest.raises(WnodesError, match="lvremove: Failed to find logical volume") as caught:
        lvm.remove("two")
    assert not isinstance(caught.value, ConflictError)
    assert caught.value.words("v").startswith("the site's storage has failed (")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnknownError):
        lvm.look()


def test_of_a_bait_in_its_units_sandbox_systemd_runs_them(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, lvm = Programs(tmp_path_factory.mktemp("lvm"), 10, monkeypatch), Lvm(GROUP, POOL)
    lvm.look()
    assert not programs.beside.exists()
    monkeypatch.setenv("INVOCATION_ID", "0123")
    lvm.create("one", 1 << 30, "wnodes")
    lvm.discard("one")
    assert set(lvm.look().volumes) == {"one"}
    # A question that hangs is ended there, too; a change that is ended may leave what hangs.
    said = [line.strip() for line in programs.beside.read_text().splitlines()]
    assert said == ["lvcreate", "blkdiscard", "lvs 60"]
    with pytest.raises(ConflictError, match=r"^lvcreate: Logical Volume"):
        lvm.create("one", 1 << 30, "wnodes")
