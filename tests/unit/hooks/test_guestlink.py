"""guestlink.py: declared files, between a folder of the node and one that is the machine's."""

import io
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hooks.batch import NoMachineError
from hooks.guestlink import Guest, stage_in, stage_out

pytestmark = pytest.mark.integration


class Folder(Guest):
    """A machine whose commands run here: the working directory's name means another folder."""

    def __init__(self, node: Path, machine: Path) -> None:
        self.names = (shlex.quote(str(node)), shlex.quote(str(machine)))

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", command.replace(*self.names)], **streams)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("node", "machine"):
        (tmp_path / name).mkdir()
    return tmp_path / "node", tmp_path / "machine"


def test_declared_files_travel_in(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (node / "sub").mkdir()
    (node / "sub" / "a b").write_text("x")
    (node / "-rf").write_text("y")
    (node / "other").write_text("z")
    stage_in(Folder(node, machine), str(node), ["sub/a b", "-rf"])
    assert (machine / "sub" / "a b").read_text() == "x"
    assert (machine / "-rf").read_text() == "y"
    assert not (machine / "other").exists()


def test_a_declared_file_that_is_not_there_is_refused_for_good(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    with pytest.raises(NoMachineError, match="WNODES_STAGE_IN") as caught:
        stage_in(Folder(node, machine), str(node), ["none"])
    assert not caught.value.retry


def test_declared_files_come_back_and_no_others(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "out put").write_text("x")
    (machine / "dir").mkdir()
    (machine / "dir" / "deep").write_text("y")
    (machine / "other").write_text("z")
    assert stage_out(Folder(node, machine), str(node), ["out put", "dir"])
    assert (node / "out put").read_text() == "x"
    assert (node / "dir" / "deep").read_text() == "y"
    assert not (node / "other").exists()


def test_a_result_that_is_not_there_is_said(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    assert not stage_out(Folder(node, machine), str(node), ["none"])


def test_results_named_like_options_come_back(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "--help").write_text("x")
    assert stage_out(Folder(node, machine), str(node), ["--help"])
    assert (node / "--help").read_text() == "x"


class Hostile(Guest):
    """A machine whose root answers with a tar of his own making."""

    def __init__(self, tar: bytes) -> None:
        self.tar = tar

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:  # noqa: ARG002
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(self.tar)
        process.stdin.close()
        return process


def hostile_tar(*members: tuple[str, str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o4777
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, value
                tar.addfile(info)
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, value
                tar.addfile(info)
            else:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value.encode()))
    return packed.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("../secret", "file", "evil")],
        [("out/../../secret", "file", "evil")],
        [("out", "link", ".."), ("out/secret", "file", "evil")],
        [("out", "link", "../secret"), ("out", "file", "evil")],
        [("undeclared", "file", "evil")],
        [("out", "hard", "../secret")],
    ],
)
def test_a_hostile_machine_writes_nowhere_else(
    tmp_path: Path, members: list[tuple[str, str, str]]
) -> None:
    node = tmp_path / "node"
    node.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    stage_out(Hostile(hostile_tar(*members)), str(node), ["out"])
    assert secret.read_text() == "mine"
    assert secret.stat().st_nlink == 1
    assert {path.name for path in node.iterdir()} <= {"out"}
