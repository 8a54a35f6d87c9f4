"""The page of the core hours: from what a node accounts to what its user reads."""

import datetime
import time
from dataclasses import replace

import pytest

from occi_bridge.page.usage import chart
from occi_bridge.service.usage import Day
from occi_bridge.store import usage
from occi_bridge.store.usage import Usage
from tests.unit import ca, issuers
from tests.unit.occi_bridge.fake_baits import FakeBait
from tests.unit.occi_bridge.local_bridge import until
from tests.unit.occi_bridge.page import browser
from tests.unit.occi_bridge.page.browser import Site

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]

grid, issuer, site = ca.grid, issuers.issuer, browser.site_of_two_nodes
DAY = 86400.0


async def test_what_the_nodes_account_is_shown_to_its_user(
    site: Site, baits: list[FakeBait]
) -> None:
    yesterday = time.time() // DAY * DAY - DAY
    mine = f"{site.issuer.url}#grace"

    def row(number: int, dn: str, cores: int, began: float) -> dict[str, object]:
        times = {"began": began, "wall": 1800.0, "held": 0.0}
        return {"number": number, "dn": dn, "cores": cores, **times}

    baits[0].usages = [row(1, mine, 5, yesterday), row(2, "another", 64, yesterday)]
    baits[1].usages = [row(1, mine, 2, yesterday + 7200), row(2, mine, 64, yesterday - 90 * DAY)]
    user = await site.user("grace")
    grace = site.browser("grace")
    assert "None in these days" in (await grace.read("/usage")).text
    async with site.bridge.driving():
        await until(
            lambda: sum(day.core_hours for day in site.bridge.service.usage(user, time.time())) > 3
        )
    answer = await grace.get("/usage")
    day = time.strftime("%Y-%m-%d", time.gmtime(yesterday))
    assert f'<th scope="row">{day}</th><td>3.50</td>' in answer.text
    assert "<strong>3.5</strong> in the last 30 days" in answer.text
    assert answer.text.count("<rect") == 1
    assert "None in these days" in (await site.browser("oscar").read("/usage")).text


async def test_a_node_of_an_older_release_is_left_out(site: Site, baits: list[FakeBait]) -> None:
    baits[0].usages = None
    mine = f"{site.issuer.url}#grace"
    times = {"began": time.time() - 3600, "wall": 3600.0, "held": 0.0}
    baits[1].usages = [{"number": 1, "dn": mine, "cores": 1, **times}]
    user = await site.user("grace")
    async with site.bridge.driving():
        await until(
            lambda: sum(day.core_hours for day in site.bridge.service.usage(user, time.time())) > 0
        )


async def test_what_is_kept_under_both_of_somebodys_names(site: Site) -> None:
    """They have linked a token's subject to a DN, under which all is kept since."""
    user = replace(await site.user("grace"), key="/C=IT/CN=Grace")
    began = time.time() - 60
    rows = [Usage(1, user.key, 1, began, 36.0, 0.0), Usage(2, user.subject, 1, began, 36.0, 0.0)]
    usage.keep(site.bridge.db, "hv1", rows, 0.0)
    found = site.bridge.service.usage(user, time.time())
    assert sum(day.core_hours for day in found) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("hours", "top"), [(0.0, 1.0), (0.4, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (7201.0, 1e4)]
)
async def test_the_drawing_has_room_for_the_highest(hours: float, top: float) -> None:
    date = datetime.date(2026, 11, 28)
    drawn = chart([Day(date, hours), Day(date, 0.0)])
    assert drawn.top == top
    assert [bar.height for bar in drawn.bars] == [round(160 * hours / top, 1), 0.0]
    assert all(bar.y + bar.height == pytest.approx(drawn.height) for bar in drawn.bars)
