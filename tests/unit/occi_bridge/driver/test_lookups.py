"""What follows from the answers about jobs that may be gone, and from none."""

import asyncio
from typing import Any

import pytest

from occi_bridge.driver import lookups
from occi_bridge.driver.lookups import Lookups
from tests.unit.occi_bridge.local_bridge import until
from wnodes_lrms.errors import UnknownError

pytestmark = pytest.mark.anyio


class Oracle:
    """A bait that says of each job what a test wants; `None`: that there is none."""

    def __init__(self, said: str | Exception | None = None) -> None:
        self.said = said
        self.asked = 0

    async def where(self, _job: str) -> str | None:
        self.asked += 1
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "PAUSE", 0.01)


def asking(**baits: Oracle) -> Lookups:
    mapped: Any = baits
    return Lookups(mapped, lambda: None)


@pytest.mark.parametrize("otherwise", ["", "hv1", UnknownError("away"), ValueError("a fault")])
async def test_a_job_is_gone_for_as_long_as_nothing_else_is_said(
    otherwise: str | Exception,
) -> None:
    bait = Oracle()
    looking = asking(one=bait)
    looking.want({"7": ("one",)})
    await until(lambda: looking.gone.get("7", 0) > 0.05)
    bait.said = otherwise
    await until(lambda: "7" not in looking.gone)
    bait.said = None
    await until(lambda: "7" in looking.gone)
    assert looking.gone["7"] < 0.05  # that begins anew
    looking.want({})


async def test_one_answer_stands_for_no_time_however_long_the_next_one_takes() -> None:
    class Hangs(Oracle):
        async def where(self, job: str) -> str | None:
            if self.asked:
                await asyncio.sleep(60)
            return await super().where(job)

    looking = asking(one=Hangs())
    looking.want({"7": ("one",)})
    await until(lambda: "7" in looking.gone)
    await asyncio.sleep(0.1)
    assert looking.gone == {"7": 0.0}
    looking.want({})


async def test_where_one_does_not_answer_another_is_asked() -> None:
    away, knows = Oracle(UnknownError("away")), Oracle()
    looking = asking(away=away, knows=knows)
    looking.want({"7": ("away", "knows")})
    await until(lambda: "7" in looking.gone)
    looking.want({})
    assert looking.gone == {}
    asked = knows.asked
    await asyncio.sleep(0.05)
    assert knows.asked == asked
