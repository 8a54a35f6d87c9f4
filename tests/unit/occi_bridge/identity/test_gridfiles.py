"""The files of grid sites, as they are and as they break."""

import os
from pathlib import Path
from threading import Barrier, Thread

import pytest

from occi_bridge.identity import pools
from occi_bridge.identity.gridfiles import Bans, Maps
from wnodes_lrms.errors import RejectedError, UnknownError

ANN = "/C=IT/O=Box/CN=Ann"
BOB = "/C=IT/O=Box/CN=Bob B"


def replace(path: Path, text: str | bytes) -> None:
    """As careful programs do."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
    fresh.rename(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("text", "dn", "fqans", "banned"),
    [
        (f'"{ANN}"\n', ANN, (), True),
        (f"# all\n\n   {BOB}  \n", BOB, (), True),
        (f'"{BOB}" # since May\n', BOB, (), True),
        (f'"{ANN}"\n', f"{ANN}e", (), False),
        (f"{BOB}\n", "/C=IT/O=Box/CN=Bob", (), False),
        ("/C=IT/O=Box/*\n", ANN, (), True),
        ("/C=IT/*/CN=Ann\n", ANN, (), True),
        ("/C=DE/*\n", ANN, (), False),
        ("/vo\n", ANN, ("/x", "/vo"), True),
        ('"/vo/*"\n', ANN, ("/vo/g/Role=x",), True),
        ("/vo/prod\n", ANN, ("/vo/production",), False),
        ("/C=IT/Email=a@b\n", "/C=IT/emailAddress=a@b", (), True),
        ("/C=IT/CN=Ren\\xc3\\xa9*\n", "/C=IT/CN=Ren\\xC3\\xA9 M", (), True),
        ("CN=*,O=Box,C=IT\n", ANN, (), True),
        (f"{BOB} # since May\n", BOB, (), True),
        (f"{ANN} #1\n", f"{ANN} #1", (), True),
        ("https://a/#eve # left\n", "https://a/#eve", (), True),
        ('"https://a/#eve" # left\n', "https://a/#eve", (), True),
        ("https://a/#eve\t# left\n", "https://a/#Eve", (), False),
        ("/vo/bad # a group\n", ANN, ("/vo/bad",), True),
        ("/vo/bad/* #a group\n", ANN, ("/vo/bad/x",), True),
        (f"\ufeff{ANN}\n", ANN, (), True),
        (f"\ufeff# all\r\n{ANN}\r\n", ANN, (), True),
        ("", ANN, (), False),
    ],
)
def test_bans(file: Path, text: str, dn: str, fqans: tuple[str, ...], banned: bool) -> None:
    file.write_text(text)
    assert bool(Bans(str(file)).refusal(dn, fqans)) is banned


BROKEN = [
    b'"/C=IT/O=Box/CN=Bob B\n',
    b"Bob\n",
    b'"/C=IT/CN=x" y\n',
    b"/C=IT/CN=\xff\n",
    b"/vo/*/x\n",
    b"https://a/#*\n",
    b"https://a/#eve*\n",
    b"https://a/*#eve\n",
    b"https://a/#eve left\n",
    b"*\n",
    b"/CN=\\xff\n",
    b"/CN=\\xc3\n",
    b"/CN=a\\x00b\n",
    b"CN=Ann, UID=a\n",
    b"/XYZ=Ann\n",
    b"\xff\xfe/\0C\0\n",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_ban_file_opens_no_door(
    file: Path, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What was banned stays so, what is newly banned is; the line is told."""
    bans = Bans(str(file))
    file.write_text(f"{ANN}\n")
    assert bans.refusal(ANN, ())
    replace(file, f"{BOB}\n".encode() + broken)
    assert bans.refusal(ANN, ())
    assert bans.refusal(BOB, ())
    assert not bans.refusal("/CN=x", ())
    assert f"{file}:2: " in caplog.text
    replace(file, f"{BOB}\n")
    assert not bans.refusal(ANN, ())


@pytest.mark.parametrize("broken", BROKEN)
def test_one_that_was_never_good_lets_nobody_in(file: Path, broken: bytes) -> None:
    bans = Bans(str(file))
    file.write_bytes(broken)
    assert "nobody may enter" in (bans.refusal(ANN, ()) or "")
    replace(file, f"{BOB}\n")
    assert not bans.refusal(ANN, ())


def test_a_ban_file_that_goes_or_can_not_be_read(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bans = Bans(str(file))
    assert not bans.refusal(ANN, ())  # there was never one
    file.write_text(f"{ANN}\n")
    assert bans.refusal(ANN, ())
    file.unlink()
    assert bans.refusal(ANN, ())
    assert "is gone" in caplog.text
    file.mkdir()
    assert bans.refusal(ANN, ())
    assert "can't be read: Is a directory" in caplog.text
    file.rmdir()
    file.touch()
    assert not bans.refusal(ANN, ())
    another = Bans(str(file.parent))
    assert "nobody may enter" in (another.refusal(ANN, ()) or "")


def test_maps(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_text(
        f"# the site's\n"
        f'"{ANN}" ann,annb\n'
        f'"{ANN}" second\n'
        f'"{BOB}" .pool # a pool\n'
        f"/C=IT/CN=c\tcarl\n"
        f'"/C=IT/USERID=d/E=d@x" dan\n'
        f'"/C=IT/CN=\\"e\\"" eva\n'
        f"nonsense\n"
        f'"/C=IT/CN=f"\n'
        f'"/C=IT/CN=g" Root!\n'
        f'"/C=IT/CN=h" root\n'
        f'"/C=IT/CN=i" ..x\n'
    )
    maps = Maps(str(file))

    def account(dn: str) -> str | None:
        mapping = maps.account(dn, ())
        return mapping.account if mapping else None

    assert (account(ANN), account(BOB), account("/C=IT/CN=c")) == ("ann", ".pool", "carl")
    assert account("/C=IT/UID=d/emailAddress=d@x") == "dan"
    assert account('/C=IT/CN="e"') == "eva"
    assert account("/C=IT/CN=nobody") is None
    assert [account(f"/C=IT/CN={name}") for name in "fghi"] == ["", "", "", ""]
    assert [f"{file}:{number}: " in caplog.text for number in (8, 9, 10, 11, 12)] == [True] * 5
    replace(file, f'"{ANN}" other\n')
    assert (account(ANN), account(BOB)) == ("other", None)
    file.unlink()
    assert account(ANN) is None


def test_voms_maps_take_the_first_line_for_the_first_fqan(file: Path) -> None:
    file.write_text(
        '"/vo/Role=pilot" pilot\n"/vo/prod/*" .prod\n"/vo/broken" -\n"/vo/*" member\n"/vo" never\n'
    )
    maps = Maps(str(file))

    def account(*fqans: str) -> str | None:
        mapping = maps.account("", fqans)
        return mapping.account if mapping else None

    assert account("/vo/Role=pilot", "/vo") == "pilot"
    assert account("/vo", "/vo/Role=pilot") == "member"
    assert account("/vo/prod/x/Role=y") == ".prod"
    assert account("/vo/production") == "member"
    assert account("/vo/broken") == ""
    assert account("/other", "/vo") == "member"
    assert account("/other") is None
    assert account() is None


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("vo001", "vo002", "voprd001", "vo", "other"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_name_of_a_link_is_as_others_write_it() -> None:
    """Of the DN in lower case; from the description of gridmapdir."""
    expected = "%2fc%3dit%2fo%3dbox%2fcn%3dann%20s%c3%b8ren"
    assert pools.link_name("/C=IT/O=Box/CN=Ann Søren") == expected
    assert pools.link_name("/CN=a", "vo") == "%2fcn%3da:vo"
    assert pools.link_name("https://a/#aBc") == "https%3a%2f%2fa%2f%23a%42c"
    subjects = ("https://a/#AbC", "https://a/#aBC", "https://a/#abc", "https://a/#%41bC")
    assert len({pools.link_name(subject) for subject in subjects}) == 4


def test_each_user_has_an_account_of_his_own_for_ever(pool: Path) -> None:
    def account(dn: str) -> str:
        return pools.account(str(pool), "vo", dn, by_vo=False)

    assert (account(ANN), account(BOB)) == ("vo001", "vo002")
    assert (account(BOB), account(ANN)) == ("vo002", "vo001")
    with pytest.raises(RejectedError, match="no account of the pool vo is free"):
        account("/CN=c")
    (pool / pools.link_name(ANN)).unlink()  # as an administrator takes it back
    assert account("/CN=c") == "vo001"
    by_vo = pools.account(str(pool), "voprd", ANN, by_vo=True)
    assert (by_vo, (pool / f"{pools.link_name(ANN)}:voprd").stat().st_nlink) == ("voprd001", 2)


def test_an_account_given_out_by_another_program(pool: Path) -> None:
    os.link(pool / "vo001", pool / pools.link_name(BOB))
    assert pools.account(str(pool), "vo", ANN, by_vo=False) == "vo002"
    os.utime(pool / pools.link_name(BOB), (0, 0))
    assert pools.account(str(pool), "vo", BOB, by_vo=False) == "vo001"
    assert (pool / "vo001").stat().st_mtime > 0  # of use to who expires accounts
    (pool / pools.link_name("/CN=c")).touch()
    with pytest.raises(RejectedError, match="no account of this pool"):
        pools.account(str(pool), "vo", "/CN=c", by_vo=False)


def test_an_account_that_was_given_under_another_spelling(pool: Path) -> None:
    rene = "/C=IT/CN=Ren\\xC3\\xA9"
    os.link(pool / "vo002", pool / pools.link_name("/C=IT/CN=René"))
    assert pools.account(str(pool), "vo", rene, by_vo=False) == "vo002"
    assert not (pool / pools.link_name(rene)).exists()


def test_many_at_once_never_share_an_account(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"vo{number:02}").touch()
    ready, found = Barrier(10), []

    def take(number: int) -> None:
        ready.wait()
        found.append(pools.account(str(tmp_path), "vo", f"/CN={number}", by_vo=False))

    threads = [Thread(target=take, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 10


def test_a_pool_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownError, match="No such file"):
        pools.account(str(tmp_path / "no"), "vo", ANN, by_vo=False)
