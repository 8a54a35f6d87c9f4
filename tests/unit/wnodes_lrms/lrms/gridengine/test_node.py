"""What only Grid Engine has: owners as clients say, drains in a file. See test_behaviour.py too."""

import json
import re
from pathlib import Path

import pytest

from tests.unit.conftest import NOBODY
from tests.unit.wnodes_lrms.lrms.gridengine.test_allocation import DATA, number_in, recorded
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.gridengine.node import GridEngine
from wnodes_lrms.lrms.gridengine.system import SYSTEM
from wnodes_lrms.lrms.interface import Failure


@pytest.mark.parametrize(
    ("owner", "uid", "gid", "why"),
    [
        ("nobody", "0", str(NOBODY.pw_gid), "has the number 0, on this node it is"),
        ("nobody", str(NOBODY.pw_uid), "0", "not in the job's group 0"),
        ("*", str(NOBODY.pw_uid), str(NOBODY.pw_gid), r"knows no user '\*'"),
        ("-help", "0", "0", "knows no user '-help'"),
    ],
)
def test_who_a_client_says_it_is_must_be_a_user_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, uid: str, gid: str, why: str
) -> None:
    said = recorded("plain.job")
    for name, value in {"JB_owner": owner, "JB_uid": uid, "JB_gid": gid}.items():
        said = re.sub(f"<{name}>.*?<", f"<{name}>{value}<", said)
    (tmp_path / "said").write_text(said, "utf-8", "surrogateescape")
    (tmp_path / "qstat").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncat {tmp_path}/said\n'
    )
    (tmp_path / "qstat").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    job = GridEngine.job_id(number_in("plain"))
    with pytest.raises(RejectedError, match=why):
        GridEngine("hv1", (), tmp_path / "notes").allocation(job)
    assert (tmp_path / "asked").read_text() == f"-xml -j {job}\n"


def test_only_its_own_drain_is_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are a shell that answers with the recording, and writes down what is done."""
    done = tmp_path / "done"
    for name, text in {
        "qstat": f"cat {DATA}/queues.listing",
        "qmod": f'echo "$@" >>{done}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    notes = tmp_path / "notes.json"
    lrms = GridEngine("hv1", (), notes)
    assert lrms.drain("a test") == "disabled: grid@hv1"  # by somebody else, before
    assert json.loads(notes.read_text()) == ["main@hv1"]
    assert done.read_text() == "-d main@hv1\n"
    notes.write_text('["grid@hv1"]')
    assert lrms.resume() == ""
    assert done.read_text().splitlines()[-1] == "-e grid@hv1"
    assert not notes.exists()


def test_restarts_are_times_and_tell_no_number_of_tries() -> None:
    failed = Failure("12", retry=True, restart=1_795_737_483, retries=2)
    assert SYSTEM.after_failure(failed).startswith("its job is tried 3 times in all")
