"""The revision of a service whose database is another process."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from occi_bridge.web.revisions import Revisions


class Counter:
    """Answers with how often it was asked, once it may."""

    remote = True

    def __init__(self) -> None:
        self.asked = 0
        self.begun = threading.Event()
        self.may = threading.Event()

    def revision(self) -> int:
        self.asked += 1
        found = self.asked
        self.begun.set()
        assert self.may.wait(60)
        return found


def test_who_comes_while_it_is_asked_gets_the_next_answer_and_all_the_same() -> None:
    counter = Counter()

    async def many() -> list[int]:
        revisions = Revisions(counter)
        first = asyncio.ensure_future(revisions.now())
        await asyncio.to_thread(counter.begun.wait, 60)
        later = [asyncio.ensure_future(revisions.now()) for _ in range(20)]
        await asyncio.sleep(0)
        counter.may.set()
        return [await first, *await asyncio.gather(*later), await revisions.now()]

    assert asyncio.run(many()) == [1, *[2] * 20, 3]


def test_one_who_goes_away_takes_nobody_s_answer() -> None:
    counter = Counter()

    async def two() -> int:
        revisions = Revisions(counter)
        gone, stays = (asyncio.ensure_future(revisions.now()) for _ in range(2))
        await asyncio.to_thread(counter.begun.wait, 60)
        gone.cancel()
        counter.may.set()
        return await stays

    assert asyncio.run(two()) == 1


def test_a_fault_is_had_once() -> None:
    class Faulty:
        remote = True
        answers: Iterator[int | Exception] = iter([ValueError("no"), 7])

        def revision(self) -> int:
            found = next(self.answers)
            if isinstance(found, Exception):
                raise found
            return found

    async def twice() -> int:
        revisions = Revisions(Faulty())
        with pytest.raises(ValueError, match="no"):
            await revisions.now()
        return await revisions.now()

    assert asyncio.run(twice()) == 7
