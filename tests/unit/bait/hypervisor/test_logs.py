"""libvirt's logs of VMs that have ended go after a week."""

import os
import time
from pathlib import Path

from bait.hypervisor import logs

WEEK = 7 * 86400


def log(folder: Path, name: str, age: float) -> None:
    path = folder / name
    path.write_text("a last word\n")
    os.utime(path, (time.time() - age,) * 2)


GOES = (
    "wnodes-box-1-0.log",
    "wnodes-box-1-0.log.2",
    "wnodes-box-1-0-fs0-virtiofsd.log",
    "wnodes-box-12.3-1.log",
    "wnodes-box-7[3].pbs-2.example.org-0.log",
    "wnodes-box-7[].pbs-2.example.org-0-fs0-virtiofsd.log.1",
    "wnodes-box-42830be1-e63b-5316-ad86-9cf7a3034a5f.log",
)


def test_what_goes_is_old_and_of_a_vm_that_has_ended(tmp_path: Path) -> None:
    for name in GOES:
        log(tmp_path, name, WEEK + 60)
    stays = [
        ("wnodes-box-2-0.log", WEEK - 60),
        ("wnodes-box-3-0.log", WEEK * 9),  # it lives, and has nothing to say
        ("wnodes-box-3-0-fs11-virtiofsd.log", WEEK * 9),
        ("wnodes-other-1-0.log", WEEK * 9),
        ("wnodes-box-2-1-0.log", WEEK * 9),  # of cluster box-2
        ("wnodes-box-2-42830be1-e63b-5316-ad86-9cf7a3034a5f.log", WEEK * 9),
        ("wnodes-boxes-1-0.log", WEEK * 9),
        ("unmarked.log", WEEK * 9),
        ("wnodes-box-notes.txt", WEEK * 9),
    ]
    for name, age in stays:
        log(tmp_path, name, age)
    logs.sweep(tmp_path, "box", {"wnodes-box-3-0"})
    assert {path.name for path in tmp_path.iterdir()} == {name for name, _ in stays}


def test_a_node_whose_libvirt_has_written_nothing_yet(tmp_path: Path) -> None:
    logs.sweep(tmp_path / "qemu", "box", set())
    assert not list(tmp_path.iterdir())
