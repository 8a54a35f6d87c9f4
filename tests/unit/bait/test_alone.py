"""A second bait on a node's state."""

import subprocess
import sys
from pathlib import Path

import pytest

from bait import alone
from wnodes_lrms.errors import WnodesError

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


def test_a_second_bait_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_PATIENCE", 0.2)
    code = "import sys; from pathlib import Path; from bait import alone; "
    code += "alone.hold(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "state")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with first:
        assert first.stdout
        assert first.stdout.readline() == b"\n"
        with pytest.raises(WnodesError, match=f"another bait works with .* process {first.pid}: "):
            alone.hold(tmp_path / "state")
        first.kill()
    alone.hold(tmp_path / "state")


def test_no_link_in_its_place_is_followed(tmp_path: Path) -> None:
    (tmp_path / "bait.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WnodesError, match=r"bait\.lock"):
        alone.hold(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
