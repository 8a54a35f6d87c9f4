"""tests/vm/byhand.py: a job's VM once more."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.vm import byhand

_JOBS = """<domain type='qemu' id='7'>
  <name>wnodes-mysite-7-0</name>
  <uuid>8d6e8e4e-0000-4000-8000-000000000001</uuid>
  <metadata><wnodes/></metadata>
  <devices>
    <disk type='file' device='disk'><source file='{seed}' index='1'/><target dev='vdb'/></disk>
    <interface type='network'><mac address='52:54:c0:a8:be:02'/><target dev='vnet3'/></interface>
    <serial type='pty'><source path='/dev/pts/1'/><log file='/run/console.log'/></serial>
  </devices>
  <seclabel type='dynamic' model='apparmor'><label>libvirt-8d6e8e4e</label></seclabel>
</domain>"""


def test_the_domain_made_by_hand_shares_nothing_with_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byhand, "FOLDER", tmp_path / "own")
    byhand.FOLDER.mkdir()
    seed = tmp_path / "seed.iso"
    seed.write_text("seed")
    jobs = ElementTree.fromstring(_JOBS.format(seed=seed))  # noqa: S314 (ours)
    made = byhand.like(jobs)
    for own in ("id=", "8d6e8e4e", "wnodes", "52:54", "vnet3", "pts/1", "console.log", str(seed)):
        assert own not in made
    assert "<name>byhand</name>" in made
    assert (byhand.FOLDER / "seed.iso").read_text() == "seed"
