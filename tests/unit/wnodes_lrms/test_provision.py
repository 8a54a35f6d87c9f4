"""What the VMs of batch jobs get."""

import pytest

from wnodes_lrms.config.load import Batch
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.provision import Provision, provision
from wnodes_lrms.rates import Rates

IMAGE, OTHER = "small_linux_x86_64", "large_linux_x86_64"
RULES = (
    Batch(image=IMAGE, partition="short", inbound=1),
    Batch(account="atlas", outbound=2, network="lan"),
    Batch(account="ops", scratch=0),
    Batch(partition="short", inbound=3, outbound=4, scratch=5, scratch_most=50),
    Batch(partition="long", scratch=5),
    Batch(partition="wide", scratch_most=50),
    Batch(partition="busy", disk_rate=100, disk_iops=2000),
)


@pytest.mark.parametrize(
    ("image", "partition", "account", "given"),
    [
        (IMAGE, "short", "atlas", Provision(rates=Rates(1, None))),  # the first that fits
        (OTHER, "short", "atlas", Provision("lan", Rates(None, 2))),  # and no other beside it
        (OTHER, "short", "ops", Provision()),
        (OTHER, "short", "cms", Provision(rates=Rates(3, 4), scratch=5)),
        (OTHER, "busy", "cms", Provision(disk_rate=100, disk_iops=2000)),
        (IMAGE, "night", "cms", Provision()),
        (IMAGE, "", "", Provision()),  # a batch system that tells neither
    ],
)
def test_the_first_rule_that_fits_counts(
    image: str, partition: str, account: str, given: Provision
) -> None:
    assert provision(RULES, image, partition, account) == given


@pytest.mark.parametrize(
    ("partition", "asked", "size"),
    [
        ("short", "", 5),
        ("short", "1", 1),
        ("short", "50", 50),
        ("long", "5", 5),
        ("long", "2", 2),
        ("wide", "", 0),
        ("wide", "50", 50),
        ("night", "", 0),
    ],
)
def test_a_scratch_disk_as_large_as_its_user_asks_for(
    partition: str, asked: str, size: int
) -> None:
    assert provision(RULES, OTHER, partition, "", asked).scratch == size


@pytest.mark.parametrize(
    ("partition", "asked", "said"),
    [
        ("short", "51", "WNODES_SCRATCH=51: of scratch disk such a job may have up to 50 GiB"),
        ("long", "6", "up to 5 GiB"),
        ("night", "1", "may have none"),
        *(
            ("short", text, "a whole number of GiB is needed")
            for text in (
                "0",
                "-1",
                "007",
                "1.5",
                "10G",
                "1e1",
                "123456",
                " 5",
                "5\n",
                "\u0665",
                "five",
            )
        ),
    ],
)
def test_what_can_not_be_had_is_refused_for_good(partition: str, asked: str, said: str) -> None:
    with pytest.raises(RejectedError, match=said) as caught:
        provision(RULES, OTHER, partition, "", asked)
    assert not caught.value.retry
