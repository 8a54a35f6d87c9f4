"""What administrators see of what users and their guests have written: words, and nothing that a
terminal obeys, that begins a line of a log, or that is markup."""

import logging

import pytest

from wnodes_lrms import log
from wnodes_lrms.cli import out

LIES = "x\n<2>job=7 gone\x1b]0;title\x07 \x1b[31mred[/red] [bold]y[/] \x85z\u2028"


def test_a_table_shows_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    out.listing([{"id": 1, "reason": LIES}], ("id", "reason"), as_json=False)
    _head, row, *rest = capsys.readouterr().out.splitlines()
    assert rest == []
    assert row.split(None, 1)[1].strip() == (
        "x?<2>job=7 gone?]0;title? ?[31mred[/red] [bold]y[/] ?z?"
    )


def test_lines_and_faults_are_as_plain(capsys: pytest.CaptureFixture[str]) -> None:
    out.line(LIES)
    out.error(LIES)
    out.progress(LIES)
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert printed.err.count("\n") == 2  # no line of a fault is of another's making
    assert printed.err.replace("\n", "").isprintable()


def test_a_line_of_the_log_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("bait").warning("%s", LIES, extra={"job": "7", "machine": "m"})
    (record,) = caplog.records
    said = log._Format("%(message)s").format(record)
    assert "\n" not in said
    assert "\x1b" not in said
    assert said.startswith("<4>job=7 machine=m x <2>job=7 gone")


def test_a_fault_is_logged_with_its_lines(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("bait").exception("internal fault")
    (record,) = caplog.records
    lines = log._Format("%(message)s").format(record).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)
