"""Declared files, between a folder of the node and one that is the machine's."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from guestlink import Guest, stage_in, stage_out, why_none
from requeue import NoVmError

pytestmark = pytest.mark.integration


class Folder(Guest):
    """A machine whose commands run here: the working directory's name means another folder."""

    def __init__(self, node: Path, machine: Path, tar: str = "tar") -> None:
        self.tar = tar
        # Root may write anywhere; a machine's user may not.
        self.as_user = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
        self.folder = str(node.parent)
        self.names = (shlex.quote(str(node)), shlex.quote(str(machine)))

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        environment = {"PATH": "/usr/bin:/bin"}  # the machine's own
        command = command.replace(*self.names).replace("tar ", f"{self.tar} ", 1)
        words = [*self.as_user, "sh", "-c", command]
        return subprocess.Popen(words, env=environment, **streams)


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


HOLE = 64 << 20  # bytes


def a_file_with_a_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"begins")
        file.seek(HOLE)
        file.write(b"ends")


def is_whole(path: Path) -> bool:
    data = path.read_bytes()
    return len(data) == HOLE + 4 and data.strip(b"\0") == b"begins" + bytes(HOLE - 6) + b"ends"


class Counting(Folder):
    """Counts the bytes that go into the machine."""

    went = 0

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        if "tar -x" in command:
            data = streams["stdin"].read()
            self.went = len(data)
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.seek(0)
                return super().run(command, stdin=file)
        return super().run(command, **streams)


@pytest.mark.parametrize(("tar", "holes"), [("tar", True), ("busybox tar", False)])
def test_a_file_with_holes_travels_in_without_them_where_the_image_can_read_that(
    folders: tuple[Path, Path], tar: str, holes: bool
) -> None:
    node, machine = folders
    a_file_with_a_hole(node / "hole")
    (node / "other").write_bytes(b"x" * 5000)
    guest = Counting(node, machine, tar)
    stage_in(guest, str(node), ["hole", "other"])
    assert (guest.went < 100_000) is holes
    assert ((machine / "hole").stat().st_blocks < 1000) is holes
    assert is_whole(machine / "hole")
    assert (machine / "other").read_bytes() == b"x" * 5000
    assert stage_out(guest, str(node), ["hole"]) == []  # unchanged, it is still the one sent


@pytest.mark.parametrize("tar", ["tar", "busybox tar"])
def test_a_result_with_holes_has_them_on_the_node(folders: tuple[Path, Path], tar: str) -> None:
    node, machine = folders
    a_file_with_a_hole(machine / "hole")
    with (machine / "empty").open("wb") as file:
        file.truncate(HOLE)
    assert stage_out(Folder(node, machine, tar), str(node), ["hole", "empty"]) == []
    assert is_whole(node / "hole")
    assert (node / "empty").stat().st_size == HOLE
    assert (node / "hole").stat().st_blocks + (node / "empty").stat().st_blocks < 1000


def test_options_that_a_user_has_for_tar_leave_nothing_out(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, machine = folders
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=*.o")
    (node / "a.o").write_text("x")
    stage_in(Folder(node, machine), str(node), ["."])
    assert (machine / "a.o").read_text() == "x"


@pytest.mark.parametrize("tar", ["tar", "busybox tar"])
def test_what_is_read_only_or_declared_twice_travels_in(
    folders: tuple[Path, Path], tar: str
) -> None:
    node, machine = folders
    (node / "in" / "sub").mkdir(parents=True)
    (node / "in" / "sub" / "file").write_text("x")
    (node / "in" / "sub" / "file").chmod(0o440)
    (node / "in" / "sub").chmod(0o555)
    names = ["./in/", "in//sub", "in", "in/sub/file"]
    stage_in(Folder(node, machine, tar), str(node), names)
    assert (machine / "in" / "sub" / "file").read_text() == "x"
    assert (machine / "in" / "sub" / "file").stat().st_mode & 0o777 == 0o440
    assert (machine / "in" / "sub").stat().st_mode & 0o777 == 0o555


def test_what_the_job_has_not_changed_comes_over_nothing_newer(
    folders: tuple[Path, Path],
) -> None:
    """Seen: a folder that went both ways brought back the job's own output, empty as it was."""
    node, machine = folders
    for name in ("job.out", "neighbours", "both", "ours", "same", "gone"):
        (node / name).write_text("old")
        os.utime(node / name, (1e9, 1e9))
    guest = Folder(node, machine)
    stage_in(guest, str(node), ["."])
    for name in ("job.out", "neighbours", "both"):
        (node / name).write_text("of the node")
    for name in ("both", "ours", "new"):
        (machine / name).write_text("of the job")
    (node / "gone").unlink()
    assert stage_out(guest, str(node), ["."]) == []
    assert {path.name: path.read_text() for path in node.iterdir()} == {
        "job.out": "of the node",
        "neighbours": "of the node",
        "both": "of the job",
        "ours": "of the job",
        "new": "of the job",
        "same": "old",
        "gone": "old",
    }


def test_the_jobs_own_output_stays_the_file_that_is_open(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    guest = Folder(node, machine)
    (node / "job.err").write_text("so far\n")
    number = os.dup(2)
    try:
        with (node / "job.err").open("ab") as errors:
            os.dup2(errors.fileno(), 2)
        stage_in(guest, str(node), ["."])
        assert stage_out(guest, str(node), ["."]) == []
        os.write(2, b"one more\n")
    finally:
        os.dup2(number, 2)
        os.close(number)
    assert (node / "job.err").read_text() == "so far\none more\n"


def test_a_declared_file_that_is_not_there_is_refused_for_good(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    with pytest.raises(NoVmError, match="WNODES_STAGE_IN") as caught:
        stage_in(Folder(node, machine), str(node), ["none"])
    assert not caught.value.retry


@pytest.mark.parametrize("target", [".", "..", "../loop"])
def test_a_link_to_a_folder_around_it_is_refused_and_not_followed_for_ever(
    folders: tuple[Path, Path], target: str
) -> None:
    node, machine = folders
    (node / "loop").mkdir()
    (node / "loop" / "again").symlink_to(target)
    with pytest.raises(NoVmError, match="WNODES_STAGE_IN"):
        stage_in(Folder(node, machine), str(node), ["loop"])
    assert list(machine.iterdir()) == []


def test_what_a_link_leads_to_travels_both_ways(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    for folder, far in ((node, node.parent / "far1"), (machine, node.parent / "far2")):
        far.mkdir()
        (far / "text").write_text(far.name)
        for at in (folder, folder / "all"):
            at.mkdir(exist_ok=True)
            (at / f"folder{far.name}").symlink_to(far)
            (at / f"file{far.name}").symlink_to(far / "text")
    names = ["all", "folder{}", "file{}"]
    stage_in(Folder(node, machine), str(node), [name.format("far1") for name in names])
    assert stage_out(Folder(node, machine), str(node), [n.format("far2") for n in names]) == []
    for folder, name in ((machine, "far1"), (node, "far2"), (node, "far1")):
        for at in (folder, folder / "all"):
            assert (at / f"file{name}").read_text() == name
            assert (at / f"folder{name}" / "text").read_text() == name
    assert not [path for path in (node / "all").rglob("*") if path.is_symlink()]


def test_declared_files_come_back_and_no_others(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "out put").write_text("x")
    (machine / "dir").mkdir()
    (machine / "dir" / "deep").write_text("y")
    (machine / "other").write_text("z")
    assert stage_out(Folder(node, machine), str(node), ["out put", "./dir/"]) == []
    assert (node / "out put").read_text() == "x"
    assert (node / "dir" / "deep").read_text() == "y"
    assert {path.name for path in node.iterdir()} == {"out put", "dir"}


def test_a_result_that_is_not_there_is_said(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    assert stage_out(Folder(node, machine), str(node), ["none"]) == ["none: has not come"]


def test_results_named_like_options_come_back(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "--help").write_text("x")
    assert stage_out(Folder(node, machine), str(node), ["--help"]) == []
    assert (node / "--help").read_text() == "x"


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (
            255,
            "u@10.0.0.2: Permission denied (publickey).",
            "its SSH server does not know the job's",
        ),
        (255, "ssh: connect to host 10.0.0.2 port 22: Connection refused", "does not run"),
        (255, "ssh: connect to host 10.0.0.2 port 22: Connection timed out", "can't be reached"),
        (255, "kex_exchange_identification: banner line 1", "does not let the job in"),
        (127, "", "needs sh and tar"),
    ],
)
def test_why_there_is_no_session_is_told_in_words(status: int, said: str, words: str) -> None:
    told = why_none(status, said)
    assert words in told
    assert not said or said not in told


class Hostile(Guest):
    """A machine whose root answers with a stream of their own making."""

    folder = "/nowhere"

    def __init__(self, command: str) -> None:
        self.command = command

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:  # noqa: ARG002
        return subprocess.Popen(["sh", "-c", f"exec {self.command}"], **streams)


def test_a_stream_without_end_is_cut_off(tmp_path: Path) -> None:
    (said,) = stage_out(Hostile("cat /dev/zero"), str(tmp_path), ["out"])
    assert said.startswith("refused: ")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_end_is_cut_off() -> None:
    assert Hostile("yes").text("end") == "y\n" * 511 + "y"


def test_a_packer_that_ends_badly_is_said(folders: tuple[Path, Path]) -> None:
    node, machine = folders
    (machine / "out").mkdir()
    (machine / "out" / "dangling").symlink_to("nowhere")
    said = stage_out(Folder(node, machine), str(node), ["out"])
    assert said == ["not all files could be copied back"]
    assert list((node / "out").iterdir()) == []
