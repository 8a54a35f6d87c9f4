"""The site in a box knows its own processes again, and no others."""

from pathlib import Path

from contrib.site.box.layout import Memory
from contrib.site.box.process import Processes, wait_until


def test_one_that_ended_at_once_does_not_live(tmp_path: Path) -> None:
    processes = Processes(Memory(tmp_path / "state.json"), tmp_path)
    processes.start("brief", ["true"], {})
    assert wait_until(lambda: processes.pid("brief") is None, 10)
    record = {"pid": 2**22 + 1, "started": None}  # it was gone before it was looked at
    Memory(tmp_path / "state.json").set("processes", {"brief": record})
    assert Processes(Memory(tmp_path / "state.json"), tmp_path).pid("brief") is None
