"""What the doctor, who is root, says of files that the bridge's own user can't get at."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from occi_bridge import permissions
from occi_bridge.store.database import sqlite_file
from tests.unit.conftest import needs_root
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.doctor import Status

pytestmark = [needs_root, pytest.mark.integration]
OWN = pwd.getpwnam("daemon")  # stands for the bridge's user: it has the database
FILES = ("certificate", "key", "order_key", "grid_mapfile", "voms_mapfile", "ban_file")


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """All files are root's, and may be read by the group of the bridge's user."""
    # Other users can't come into pytest's own folders.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    paths = {name: folder / "etc" / name for name in FILES}
    folders = {name: folder / name for name in ("ca_dir", "voms_dir")}
    state = folder / "state"
    for made in (folder / "etc", state, *folders.values()):
        made.mkdir(mode=0o750)
        shutil.chown(made, group=OWN.pw_gid)
    os.chown(state, OWN.pw_uid, OWN.pw_gid)
    for path in paths.values():
        path.write_text("")
        path.chmod(0o640)
        shutil.chown(path, group=OWN.pw_gid)
    values: dict[str, Any] = {name: str(path) for name, path in {**paths, **folders}.items()}
    values["database"] = f"sqlite:///{state}/bridge.sqlite"
    yield Bridge.model_construct(**values)
    shutil.rmtree(folder)


def seen(bridge: Bridge) -> list[tuple[Status, str, str]]:
    found = list(permissions.checks(bridge))
    assert all(check.name == "own user" for check in found)
    return [(check.status, check.seen, check.remedy) for check in found]


def test_all_can_be_used(bridge: Bridge) -> None:
    assert seen(bridge) == [(Status.OK, "daemon may use all that [bridge] names", "")]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_only_root_can_read(bridge: Bridge, name: str) -> None:
    path = Path(getattr(bridge, name))
    path.chmod(0o600)
    ((status, text, remedy),) = seen(bridge)
    assert (status, text) == (
        Status.FAULT,
        f"{path}: daemon, whom the bridge runs as, may not read it",
    )
    assert "let them read it" in remedy
    subprocess.run(["setfacl", "-m", f"u:{OWN.pw_name}:r", path], check=True)
    assert [status for status, *_ in seen(bridge)] == [Status.OK]


def test_a_folder_on_the_way_is_named(bridge: Bridge) -> None:
    folder = Path(bridge.key).parent
    folder.chmod(0o700)
    found = seen(bridge)
    assert {status for status, *_ in found} == {Status.FAULT}
    assert len(found) == len(FILES)
    assert all(text.endswith(f"may not read it, nor enter {folder}") for _, text, _ in found)
    assert {remedy for *_, remedy in found} == {f"setfacl -m u:daemon:x {folder}"}


def test_a_folder_of_authorities_that_can_not_be_listed(bridge: Bridge) -> None:
    Path(bridge.ca_dir).chmod(0o710)
    ((status, text, _),) = seen(bridge)
    assert status is Status.FAULT
    assert text.startswith(f"{bridge.ca_dir}: daemon, whom the bridge runs as, may not read it")


def test_a_database_that_root_has_made_by_mistake(bridge: Bridge) -> None:
    file = sqlite_file(bridge.database)
    assert file
    file.touch(mode=0o600)
    ((status, text, _),) = seen(bridge)
    assert status is Status.FAULT
    assert text == f"{file}: daemon, whom the bridge runs as, may not write it"


def test_a_user_that_is_not_known(bridge: Bridge) -> None:
    bridge = bridge.model_copy(update={"database": "postgresql:///wnodes"})
    ((status, text, _),) = seen(bridge)
    assert status is Status.UNKNOWN
    assert "names no user" in text


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        ('[ -z "$PGPASSWORD" ]', Status.OK),
        ('printf "%s\\0" -r', Status.UNKNOWN),
        ('printf "%s\\0" -r /etc', Status.UNKNOWN),
        ("exit 1", Status.UNKNOWN),
    ],
)
def test_that_user_reads_nothing_of_roots_and_is_not_believed_blindly(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, ask: str, status: Status
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hush")
    monkeypatch.setattr(permissions, "_ASK", ask)
    assert [found for found, _, _ in seen(bridge)] == [status]
