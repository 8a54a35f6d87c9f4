"""How much a card may carry."""

import pytest

from wnodes_lrms.rates import UNLIMITED, Rates


@pytest.mark.parametrize(
    ("rates", "most", "got"),
    [
        (Rates(5, 20), 10, Rates(5, 10)),
        (UNLIMITED, 10, Rates(10, 10)),
        (Rates(5, None), None, Rates(5, None)),
        (UNLIMITED, None, UNLIMITED),
    ],
)
def test_neither_way_is_above_the_most(rates: Rates, most: int | None, got: Rates) -> None:
    assert rates.within(most) == got
    assert bool(got) is (got != UNLIMITED)
