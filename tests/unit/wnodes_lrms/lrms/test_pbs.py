"""What Torque and OpenPBS have in common."""

import pytest

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.pbs import is_gone, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("512b", 512),
        ("1kb", 1024),
        ("1536000kb", 1500 * 1024**2),
        ("204800KB", 200 * 1024**2),
        ("2g", 2 * 1024**3),
        ("1tb", 1024**4),
        ("131072w", 1024**2),
        ("64kw", 512 * 1024),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "lots", "mb", "1.5gb", "-1kb", "12xb", "1 gb"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UnknownError):
        parse_size(text)


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("qstat: qstat: Unknown Job Id 12.pbs", True),
        ("qstat: qstat: 12.pbs Job has finished, use -x or -H to obtain historical", True),
        ("qstat: qstat: Unknown Job Id Error 12.tqhost", True),  # Torque's words
        ("qstat: Connection refused", False),
        ("qstat: no answer within 10 s", False),
    ],
)
def test_no_such_job_is_told_apart_from_no_answer(said: str, gone: bool) -> None:
    assert is_gone(UnknownError(said)) == gone
