"""What is read in LVM's reports, and what of LVM's is never believed."""

import pytest

from bait.cloud.lvm import LogicalVolume, Lvm, contents
from tests.unit.bait.cloud.lvmprograms import FIELDS, GROUP, POOL, Programs, report
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError

MADE = {
    POOL: {
        "lv_size": "10737418240",
        "segtype": "thin-pool",
        "lv_active": "active",
        "data_percent": "25.00",
        "metadata_percent": "11.52",
        "zero": "zero",
        "lv_when_full": "queue",
        "kernel_discards": "nopassdown",
    },
    "one": {
        "lv_size": "2147483648",
        "segtype": "thin",
        "pool_lv": POOL,
        "lv_tags": "wnodes,backed-up",
        "lv_active": "active",
        "lv_device_open": "open",
        "data_percent": "12.50",
        "zero": "zero",
    },
    "two": {"lv_size": "1073741824", "segtype": "thin", "pool_lv": POOL, "zero": "unknown"},
    "three": {"lv_size": "1073741824", "segtype": "thin", "pool_lv": "another"},
    "root": {"lv_size": "4294967296", "segtype": "linear", "lv_active": "active"},
}


def test_a_pool_and_its_volumes() -> None:
    found = contents(report(MADE), POOL)
    assert found.volumes == {
        "one": LogicalVolume("one", 2 << 30, frozenset({"wnodes", "backed-up"}), True, True),
        "two": LogicalVolume("two", 1 << 30, frozenset(), False, False),
    }
    assert found.promised == 3 << 30
    pool = found.pool
    assert (pool.size, pool.free, pool.metadata) == (10 << 30, int(7.5 * (1 << 30)), 11.52)
    assert (pool.zeroes, pool.fails, pool.discards) == (True, False, "nopassdown")
    other = report(MADE | {POOL: MADE[POOL] | {"zero": "", "lv_when_full": "error"}})
    pool = contents(other, POOL).pool
    assert (pool.zeroes, pool.fails) == (False, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "can't be read"),
        ("  WARNING: no JSON", "can't be read"),
        ("[]", "can't be read"),
        ('{"report": [{"lv": [{"lv_name": "volumes"}]}]}', "can't be read"),
        ('{"report": [{"lv": "volumes"}]}', "can't be read"),
        ('{"report": [{"lv": []}]}', "there is no thin pool volumes"),
        (report({POOL: MADE["root"]}), "there is no thin pool volumes"),
        (report({POOL: MADE[POOL] | {"data_percent": ""}}), "is not active"),
        (report({POOL: MADE[POOL] | {"lv_size": "10.00g"}}), "can't be read"),
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
    assert programs.beside.read_text() == "\n" * 3
    with pytest.raises(ConflictError, match=r"^lvcreate: Logical Volume"):
        lvm.create("one", 1 << 30, "wnodes")
