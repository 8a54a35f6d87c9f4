"""When a guest's words of a crash are a flood."""

from bait.hypervisor.floods import MOST, WITHIN, Floods


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_few_are_none_and_one_more_is() -> None:
    floods = Floods(Clock())
    assert not any(floods.begins("vm") for _ in range(MOST))
    assert floods.begins("vm")


def test_a_flood_begins_once_and_again_where_it_does_not_end() -> None:
    clock = Clock()
    floods = Floods(clock)
    assert [floods.begins("vm") for _ in range(1000)].count(True) == 1
    clock.now += WITHIN
    assert [floods.begins("vm") for _ in range(1000)].count(True) == 1


def test_those_of_long_ago_do_not_count() -> None:
    clock = Clock()
    floods = Floods(clock)
    for _ in range(10 * MOST):
        assert not floods.begins("vm")
        clock.now += WITHIN / MOST


def test_each_vm_is_counted_alone() -> None:
    floods = Floods(Clock())
    for _ in range(MOST):
        assert not floods.begins("one")
        assert not floods.begins("other")
    assert floods.begins("other")
    assert floods.begins("one")
