"""results.py, untar.py: what comes back from a machine that lies, and where it must not go."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

import untar
from results import receive

FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE

Member = tuple[str, bytes, str]  # name, type, content or target


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The working directory; beside it, and in it, is what nobody has declared."""
    node = tmp_path / "node"
    for folder in (node / ".ssh", node / "other"):
        folder.mkdir(parents=True)
    for secret in (tmp_path / "secret", node / "other" / "secret"):
        secret.write_text("mine")
    return node


def packed(*members: Member, form: int = tarfile.GNU_FORMAT) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, 0o7755, 1_000_000_000
            if kind in (LINK, HARD):
                info.linkname = value
            elif kind == FILE:
                info.size = len(value)
            tar.addfile(info, io.BytesIO(value.encode()))
    stream.seek(0)
    return stream


def state(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.lstat().st_nlink
        if path.is_file()
        else path.is_symlink()
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "members",
    [
        [("../secret", FILE, "evil")],
        [("out/../../secret", FILE, "evil")],
        [("/out", FILE, "evil")],
        [("undeclared", FILE, "evil")],
        [("out.more", FILE, "evil"), ("outer/x", FILE, "evil")],
        [("out\n../x", FILE, "evil")],
        [("out", LINK, ".ssh"), ("out/authorized_keys", FILE, "evil")],
        [("out", LINK, ".."), ("out/secret", FILE, "evil")],
        [("out", LINK, "../secret"), ("out", FILE, "evil")],
        [("out/a", LINK, "../other"), ("out/a/secret", FILE, "evil")],
        [("out", HARD, "../secret"), ("out", FILE, "evil")],
        [("out", HARD, "other/secret")],
        [("out", tarfile.CHRTYPE, ""), ("out", tarfile.FIFOTYPE, "")],
        [("out", tarfile.BLKTYPE, "")],
        [("", FOLDER, ""), (".", FOLDER, "")],
        [("other", FOLDER, ""), ("other/secret", FILE, "evil")],
    ],
    ids=str,
)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_was_not_declared_is_written_nowhere(
    node: Path, members: list[Member], form: int
) -> None:
    before = state(node.parent)
    said = receive(packed(*members, form=form), str(node), ["out"])
    assert said
    after = state(node.parent)
    written = {name for name in after if name not in before}
    assert all(name == "node/out" or name.startswith("node/out/") for name in written)
    assert {name: after[name] for name in before} == before
    assert (node.parent / "secret").read_text() == "mine"
    assert (node / "other" / "secret").read_text() == "mine"
    assert not any((node / name).is_symlink() for name in ("out", "out/a"))


def test_no_link_on_the_node_is_gone_through(node: Path) -> None:
    """An earlier job, or this one's own part on the node, has made them."""
    (node / "out").symlink_to(".ssh")
    (node / "in").mkdir()
    (node / "in" / "deep").symlink_to("../.ssh")
    (node / "in" / "file").symlink_to("../other/secret")
    (node / "top").symlink_to(".ssh")
    names = ("out/keys", "in/deep/keys", "in/file", "in/fine", "top/keys")
    members = [(name, FILE, "new") for name in names]
    said = receive(packed(*members), str(node), ["out", "in", "top/keys"])
    assert list((node / ".ssh").iterdir()) == []
    assert (node / "other" / "secret").read_text() == "mine"
    for name in names[:-1]:  # below a declared name, in the links' place
        assert (node / name).read_text() == "new"
    assert not any(path.is_symlink() for path in (node / "out", *(node / "in").iterdir()))
    (kept,) = node.glob(".wnodes-results-*")
    assert said == [
        "top: on the node that name is a link's or a file's, and no folder's",
        f"what has no place is kept in {kept}",
    ]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert (kept / "top" / "keys").read_text() == "new"


def test_neither_a_folder_nor_a_pipe_gives_way_to_a_file(node: Path) -> None:
    os.mkfifo(node / "pipe")
    said = receive(packed(("other", FILE, "x"), ("pipe", FILE, "x")), str(node), ["other", "pipe"])
    assert len(said) == 3
    assert (node / "other" / "secret").read_text() == "mine"
    assert stat.S_ISFIFO((node / "pipe").stat().st_mode)


def test_folders_are_joined_and_files_replaced(node: Path) -> None:
    (node / "other").chmod(0o2750)
    members = [
        ("other", FOLDER, ""),
        ("other/secret", FILE, "new"),
        ("other/more/deep", FILE, "x"),
        ("alone", FOLDER, ""),
    ]
    umask = os.umask(0o027)
    try:
        assert receive(packed(*members), str(node), ["other", "alone"]) == []
    finally:
        os.umask(umask)
    secret = node / "other" / "secret"
    assert secret.read_text() == "new"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o750  # less the umask, and no setuid
    assert secret.stat().st_mtime == 1_000_000_000
    assert (node / "other").stat().st_mode & 0o7777 == 0o2750  # as it was
    assert (node / "other" / "more" / "deep").read_text() == "x"
    assert stat.S_IMODE((node / "alone").stat().st_mode) == 0o750
    assert {path.name for path in node.iterdir()} == {".ssh", "other", "alone"}


def test_a_file_that_came_before_under_another_name_or_the_same(node: Path) -> None:
    """tar packs a file's second name as a hard link, also where a link led to it."""
    members = [
        ("out/a", FILE, "text"),
        ("out/b", HARD, "out/a"),
        ("out/a", HARD, "out/a"),
        ("out/c", HARD, "other/secret"),
    ]
    assert receive(packed(*members), str(node), ["out"]) == [
        "out/c: the same as a file that was not declared: not taken"
    ]
    assert (node / "out" / "a").read_text() == (node / "out" / "b").read_text() == "text"
    assert receive(packed(("out/a", FILE, "1"), ("out/a", FILE, "2")), str(node), ["out"]) == []
    assert (node / "out" / "a").read_text() == "2"


def test_the_working_directory_itself_may_be_declared(node: Path) -> None:
    assert receive(packed(("./", FOLDER, ""), ("./a/b", FILE, "x")), str(node), ["."]) == []
    assert (node / "a" / "b").read_text() == "x"


def test_what_has_not_come_is_said_and_the_rest_is_there(node: Path) -> None:
    members = [("a", FILE, "x"), ("b\x1b[31m", LINK, "a")]
    said = receive(packed(*members), str(node), ["a", "b\x1b[31m", "c/d"])
    assert said == ["b?[31m: a link: not taken", "c/d: has not come"]
    assert (node / "a").read_text() == "x"


def test_many_troubles_are_counted(node: Path) -> None:
    said = receive(packed(*((f"x{n}", FILE, "") for n in range(30))), str(node), ["out"])
    assert len(said) == 11
    assert said[-1] == "and 21 more of that kind"


def test_too_many_and_too_deep_is_refused_whole(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untar, "MEMBERS", 3)
    (said,) = receive(packed(*((f"out/{n}", FILE, "") for n in range(4))), str(node), ["out"])
    assert "more than 3 files and folders" in said
    deep = "/".join(["out"] + ["d"] * untar.DEPTH)
    assert receive(packed((deep, FILE, "")), str(node), ["out"]) == []
    members = [("file", FILE, ""), (f"{deep}/d", FILE, "")]
    (said,) = receive(packed(*members), str(node), ["out", "file"])
    assert "a link to a folder around it?" in said
    assert not list(node.glob(".wnodes*"))


def long_name(size: int) -> bytes:
    """A header that announces a name of that many bytes, and the name's beginning."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024


def sparse() -> bytes:
    """A file that says it has an exabyte, and has nothing."""
    info = tarfile.TarInfo("out")
    info.type, info.pax_headers = (
        FILE,
        {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "out",
            "GNU.sparse.realsize": str(2**60),
        },
    )
    info.size = 512
    return info.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0")


GOOD = packed(("out", FILE, "text")).getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 10240,
        b"no tar" * 1000,
        GOOD[:700],
        GOOD[:514],
        GOOD + b"\0" * 2 * 1024**2,
        long_name(10**10),
        long_name(1024) * 2000,
        sparse(),
        GOOD[:124] + b"\xff" * 12 + GOOD[136:],  # a negative size
        GOOD[:1024] + b"garbage" * 1000,
    ],
    ids=lambda data: f"{len(data)}",
)
def test_no_stream_breaks_it(node: Path, data: bytes) -> None:
    receive(io.BytesIO(data), str(node), ["out"])
    assert not list(node.glob(".wnodes*"))
    assert not (node / "out").exists() or (node / "out").read_text() == "text"


def test_a_name_that_the_node_can_not_have_hinders_no_other(node: Path) -> None:
    members = [(f"out/{'x' * 300}", FILE, "x"), ("out/a", FOLDER, ""), ("out/a", FILE, "x")]
    said = receive(packed(*members, ("out/b", FILE, "x")), str(node), ["out"])
    assert len(said) == 2
    assert (node / "out" / "b").read_text() == "x"


def test_a_working_directory_that_can_not_be_written(node: Path) -> None:
    with pytest.raises(OSError, match="none"):
        receive(packed(), str(node / "none"), ["out"])
