"""What the doctor says of users' volumes in Ceph and LVM. Of a real cluster: see
volumes/test_rbd.py."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bait.checks import storage, storage_verdicts
from bait.volumes.lvm import Contents, LogicalVolume, ThinPool
from tests.unit.bait.volumes.lvmprograms import GROUP, POOL, Programs
from tests.unit.conftest import settings
from wnodes_lrms.config import load as config
from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Status
from wnodes_lrms.errors import UnknownError

SECRET = "7c0f0c6e-62f5-4bb1-9e10-0d2e5f0c9a11"


@pytest.fixture
def configured(tmp_path: Path) -> Config:
    file = tmp_path / "wnodes.toml"
    pool = f'[cloud.pool]\nkind = "rbd"\nsecret = "{SECRET}"\n[api]\nclients = ["/CN=bridge"]\n'
    file.write_text(settings(tmp_path) + pool)
    return config.load(file, "hv1")


@pytest.mark.parametrize(
    ("free", "written", "promised", "expected", "said"),
    [
        (10, 0, 0, Status.OK, "10 GiB free, of which 0 are promised"),
        (10, 2, 8, Status.OK, "10 GiB free, of which 6 are promised"),
        (10, 9, 8, Status.OK, "10 GiB free, of which 0 are promised"),
        (5, 2, 8, Status.WARNING, "of which 6 are promised: no new one is made"),
    ],
)
def test_room(free: int, written: int, promised: int, expected: Status, said: str) -> None:
    check = storage_verdicts.ceph("volumes", free << 30, written << 30, promised << 30)
    assert check.status is expected
    assert said in check.seen


def test_files_and_nodes_without_a_cloud_need_none_of_it(configured: Config) -> None:
    assert list(storage.checks(configured.model_copy(update={"api": config.Api()}))) == []
    files = configured.cloud.model_copy(update={"pool": config.Pool()})
    assert list(storage.checks(configured.model_copy(update={"cloud": files}))) == []


def test_what_a_node_lacks_has_a_remedy(
    configured: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "qemu-img"
    qemu.write_text("#!/bin/sh\necho \"qemu-img: Unknown protocol 'rbd'\" >&2\nexit 1\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(storage, "has_secret", lambda _uri, _secret: False)
    found = list(storage.checks(configured))
    assert {check.status for check in found} == {Status.FAULT}
    assert [check.remedy.partition(" (")[0] for check in found] == [
        "install ceph-common",
        "install qemu-block-extra",
        "virsh secret-define and secret-set-value: docs/install-cloud.md has the lines",
    ]


FIT = ThinPool(10 << 30, 25.0, 10.0, zeroes=True, fails=True, discards="passdown")


def in_lvm(configured: Config) -> Config:
    pool = config.Pool(kind="lvm", group=GROUP, name=POOL)
    cloud = configured.cloud.model_copy(update={"pool": pool, "wipe": True})
    return configured.model_copy(update={"cloud": cloud})


@pytest.mark.parametrize(
    ("changes", "gib", "expected", "said"),
    [
        ({}, 4, Status.OK, "data/volumes has 10 GiB, of which 4 are promised and 2 are taken"),
        ({}, 10, Status.WARNING, "of which 10 are promised and 2 are taken: no new one is made"),
        ({"zeroes": False}, 4, Status.FAULT, "users would read each other's data"),
        ({"fails": False}, 4, Status.WARNING, "hang for a minute when it is full"),
        ({"metadata": 80.0}, 4, Status.WARNING, "is full to 80 %"),
        ({"discards": "nopassdown"}, 4, Status.WARNING, "wipe does nothing to the disks"),
    ],
)
def test_a_thin_pool(changes: dict[str, object], gib: int, expected: Status, said: str) -> None:
    volume = LogicalVolume("one", gib << 30, frozenset(), True, False)
    found = Contents(replace(FIT, **changes), {"one": volume})  # type: ignore[arg-type]
    checks = list(storage_verdicts.thin_pool("data/volumes", found, wipe=True))
    assert len(checks) == (2 if changes else 1)
    assert (checks[-1].status, bool(checks[-1].remedy)) == (expected, expected is not Status.OK)
    assert said in checks[-1].seen
    if "discards" in changes:
        assert len(list(storage_verdicts.thin_pool("data/volumes", found, wipe=False))) == 1


def test_a_thin_pool_is_looked_at(
    configured: Config,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = Programs(tmp_path_factory.mktemp("lvm"), 10, monkeypatch)
    monkeypatch.setattr(storage, "_OF_LVM", {"lvs": "lvm2"})
    folder = tmp_path_factory.mktemp("rules.d")
    monkeypatch.setattr(storage, "_RULES", (str(folder), "/nowhere"))
    pool, rule = storage.checks(in_lvm(configured))
    assert (pool.status, rule.status) == (Status.OK, Status.WARNING)
    (folder / "58-wnodes.rules").touch()
    assert [check.status for check in storage.checks(in_lvm(configured))] == [Status.OK] * 2
    programs.put(POOL, data_percent="")
    (check,) = storage.checks(in_lvm(configured))
    assert check.status is Status.FAULT
    assert "thin pool data/volumes: lvs: thin pool volumes is not active" in check.seen


def test_what_a_node_lacks_for_lvm_has_a_remedy(
    configured: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (check,) = storage.checks(in_lvm(configured))
    assert check.status is Status.FAULT
    assert check.remedy == "install lvm2 util-linux thin-provisioning-tools"


def test_what_hangs_keeps_nothing_else_from_being_looked_at(
    configured: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a cluster or a libvirt may."""
    for name in ("rbd", "rados", "ceph", "qemu-img"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 300\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(storage, "_SHORT", 0.2)
    monkeypatch.setattr(storage, "LIBVIRT", 0.2)
    answer = threading.Event()
    monkeypatch.setattr(storage, "has_secret", lambda *_: answer.wait(300))
    found = storage.checks(configured)
    try:
        assert "does not answer: ceph: no answer within" in next(found).seen
        driver = next(found)
        assert (driver.name, driver.status) == ("volumes in QEMU", Status.UNKNOWN)
        assert "no answer within 0.2 s" in driver.seen
        with pytest.raises(UnknownError, match="no answer within"):  # see node.checks
            next(found)
    finally:
        answer.set()
