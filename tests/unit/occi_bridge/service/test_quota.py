"""What a user may have beside what they have."""

import pytest

from occi_bridge.service.quota import Amount, excess
from wnodes_lrms.config.load import Grant

GRANT = Grant(match="*", machines=2, cores=4, memory=4096, storage=10)


@pytest.mark.parametrize(
    ("used", "asked", "said"),
    [
        (Amount(), Amount(2, 4, 4096, 10), None),
        (Amount(2), Amount(1), "quota of machines: 2 used, 1 asked, 2 allowed"),
        (Amount(cores=3), Amount(1, 2), "quota of cores: 3 used, 2 asked, 4 allowed"),
        (
            Amount(memory=4000),
            Amount(1, 1, 97),
            "quota of memory: 4000 MiB used, 97 asked, 4096 allowed",
        ),
        (
            Amount(storage=10),
            Amount(storage=1),
            "quota of storage: 10 GiB used, 1 asked, 10 allowed",
        ),
        (Amount(machines=9), Amount(storage=1), None),  # it was lowered: other things still fit
        (Amount(cores=9), Amount(cores=-1), None),
    ],
)
def test_quota(used: Amount, asked: Amount, said: str | None) -> None:
    assert excess(GRANT, used, asked) == said
