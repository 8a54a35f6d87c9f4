"""contrib/bench/report.py: figures come as they are measured; what fails costs its own alone."""

import json
from pathlib import Path

import pytest

from contrib.bench.report import Samples, Section, run


def test_figures_come_as_they_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build" / "bench.json"
    seen: list[str] = []

    def measured() -> Samples:
        return {"bare": [1.0, 2.0, 3.0], "ours": [4.0]}

    def failing() -> Samples:
        seen.extend(json.loads(out.read_text())["results"])
        raise RuntimeError("no network")

    sections: dict[str, Section] = {
        "first": (measured, "bare"),
        "second": (failing, ""),
        "third": (measured, ""),
        "other": (measured, ""),
    }
    assert run(sections, ["first", "second", "third"], out) == 1
    assert seen == ["first"]
    results = json.loads(out.read_text())["results"]
    assert list(results) == ["first", "third"]
    assert results["first"]["ours"]["ratio"] == 2.0
    assert "ratio" not in results["third"]["ours"]
    said = capsys.readouterr()
    assert "failed: second" in said.out
    assert "no network" in said.err
    assert run(sections, ["third"], out) == 0
