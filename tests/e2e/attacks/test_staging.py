"""Files that come back from an image that the site does not trust, and links among them."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.box import CATALOGUE, GOOD, call, variant
from tests.e2e.lrms.slurm import Submit

# Packs what its author wants, whoever asks; it unpacks as any other.
LYING = '#!/bin/sh\ncase $1 in -c) cat /evil.tar ;; *) exec busybox tar "$@" ;; esac\n'


@pytest.fixture
def work(home: Path) -> Iterator[Path]:
    """A working directory with a folder of keys in it, as a home has one."""
    folder = home / "staging"
    for path in (folder, folder / ".ssh"):
        path.mkdir()
        shutil.chown(path, "griduser", "griduser")
    yield folder
    shutil.rmtree(folder)


def test_an_image_whose_tar_lies_writes_nowhere_else(
    submit: Submit, work: Path, tmp_path: Path
) -> None:
    """The image's author wants a key of theirs in the user's home."""
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, value in (
            ("results", tarfile.SYMTYPE, ".ssh"),
            ("results/authorized_keys", tarfile.REGTYPE, "the author's key"),
            ("undeclared", tarfile.REGTYPE, "here"),
            ("log.txt", tarfile.REGTYPE, "an honest line"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o4755
            if kind == tarfile.SYMTYPE:
                info.linkname = value
            info.size = len(value) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(value.encode()))
    disk = _disk(tmp_path, {"/usr/bin/tar": LYING.encode(), "/evil.tar": evil.getvalue()})
    with variant("lying_debian_x86_64", trusted=False, disk=disk) as tag:
        job = submit(
            "true", image=tag, folder=work, env={"WNODES_STAGE_OUT": "results,log.txt"}
        ).wait()
    assert list((work / ".ssh").iterdir()) == [], job.error
    assert not (work / "undeclared").exists()
    assert not (work / "results").is_symlink()
    assert (work / "log.txt").exists(), job.error
    assert (work / "log.txt").read_text() == "an honest line"
    assert (work / "log.txt").stat().st_mode & 0o7000 == 0
    assert job.exit_code == "1:0"
    assert "WNODES_STAGE_OUT: results: a link" in job.error
    assert "undeclared" in job.error


def test_what_a_link_leads_to_travels_both_ways(submit: Submit, work: Path) -> None:
    """No attack: a user whose declared names are links wants their content."""
    (work / "far").mkdir()
    (work / "far" / "file").write_text("card\n")
    (work / "deck").symlink_to("far")
    (work / "card").symlink_to(work / "far" / "file")
    with variant("untrusted_debian_x86_64", trusted=False) as tag:
        job = submit(
            "cat deck/file card; mkdir /tmp/far all; echo result >/tmp/far/text; "
            "ln -s /tmp/far folder; ln -s /tmp/far/text file; "
            "ln -s /tmp/far all/folder; ln -s ../file all/file",
            image=tag,
            folder=work,
            env={"WNODES_STAGE_IN": "deck,card", "WNODES_STAGE_OUT": "folder,file,all"},
        ).wait()
    assert job.output == "card\ncard\n"
    assert job.exit_code == "0:0", job.error
    for result in ("folder/text", "file", "all/folder/text", "all/file"):
        assert (work / result).read_text() == "result\n"
    links = {path.name for path in work.rglob("*") if path.is_symlink()}
    assert links == {"deck", "card"}


def _disk(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """The good image's disk with these files in it, for the catalogue."""
    raw, disk = folder / "disk.raw", CATALOGUE.parent / "lying.qcow2"
    call("qemu-img", "convert", "-O", "raw", GOOD.disk.source, str(raw))
    commands = "cd /usr/bin\nrm sh\nsymlink sh bash\n"  # busybox has a tar of its own within
    for number, (name, content) in enumerate(files.items()):
        (folder / str(number)).write_bytes(content)
        at, _, leaf = name.rpartition("/")
        commands += f"cd {at or '/'}\nrm {leaf}\nwrite {folder / str(number)} {leaf}\n"
        commands += f"set_inode_field {leaf} mode 0100755\n"
    subprocess.run(["debugfs", "-w", "-f", "-", str(raw)], input=commands.encode(), check=True)
    call("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    raw.unlink()
    return {"source": str(disk), "sha256": hashlib.sha256(disk.read_bytes()).hexdigest()}
