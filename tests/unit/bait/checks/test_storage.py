"""What the doctor says of users' volumes in Ceph. Of a real cluster: see cloud/test_rbd.py."""

import threading
from pathlib import Path

import pytest

from bait.checks import storage, verdicts
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
    check = verdicts.ceph("volumes", free << 30, written << 30, promised << 30)
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
        "virsh secret-define and secret-set-value: the manual, install-cloud, has the lines",
    ]


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
