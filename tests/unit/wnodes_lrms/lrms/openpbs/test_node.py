"""Which server OpenPBS's commands are told; see test_behaviour.py for the rest."""

from pathlib import Path

import pytest

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.openpbs.node import OpenPBS


def test_the_server_is_the_nodes_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pbs.conf").write_text("PBS_EXEC=/opt/pbs\nPBS_SERVER=pbsserver\n")
    monkeypatch.setenv("PBS_CONF_FILE", str(tmp_path / "pbs.conf"))
    monkeypatch.delenv("PBS_SERVER", raising=False)
    node = OpenPBS("pbsbox")
    assert node._server() == "pbsserver"
    monkeypatch.setenv("PBS_SERVER", "other:15001")
    assert node._server() == "other:15001"
    monkeypatch.setenv("PBS_SERVER", "-Q")
    with pytest.raises(UnknownError, match="names no server"):
        node.allocation(OpenPBS.job_id("12"))
