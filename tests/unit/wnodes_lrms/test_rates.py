"""How much a card may carry."""

import pytest

from wnodes_lrms.config.load import Throughput
from wnodes_lrms.rates import UNLIMITED, Rates, by_rule

IMAGE, OTHER = "small_linux_x86_64", "large_linux_x86_64"
RULES = (
    Throughput(image=IMAGE, partition="short", inbound=1),
    Throughput(account="atlas", outbound=2),
    Throughput(partition="short", inbound=3, outbound=4),
)


@pytest.mark.parametrize(
    ("image", "partition", "account", "rates"),
    [
        (IMAGE, "short", "atlas", Rates(1, None)),  # the first that fits
        (OTHER, "short", "atlas", Rates(None, 2)),
        (OTHER, "short", "cms", Rates(3, 4)),
        (IMAGE, "long", "cms", UNLIMITED),
        (IMAGE, "", "", UNLIMITED),  # a batch system that tells neither
    ],
)
def test_the_first_rule_that_fits_counts(
    image: str, partition: str, account: str, rates: Rates
) -> None:
    assert by_rule(RULES, image, partition, account) == rates


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
