"""The client of the baits' API: what a bait says wrongly, or without an end."""

import asyncio
import contextlib
import gzip
import time
import uuid

import pytest

from occi_bridge.driver.bait_client import Bait
from tests.unit.occi_bridge.fake_baits import FakeBait
from wnodes_lrms.errors import RejectedError, UnknownError

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_what_baits_say_wrongly(baits: list[FakeBait]) -> None:
    fake = baits[0]
    bait = Bait(fake.url, context=False)
    with pytest.raises(RejectedError, match="order refused"):
        await bait.submit("nonsense")
    fake.lrms.away = True
    with pytest.raises(UnknownError, match=f"bait {fake.url}: the batch system does not answer"):
        await bait.leases()
    good = {"id": str(uuid.UUID(int=1)), "state": "running"}
    for change in (
        {"state": "on fire"},
        {"id": "../../x"},
        {"lease": "all"},
        {"job": "-f"},
        {"since": -1},
        {"since": 1e300},
        {"since": "nan"},
        {"nics": [{"id": good["id"], "address": "192.0.2.1 or so"}]},
        {"nics": [{"id": good["id"], "mac": "52:54:00:zz:00:01"}]},
        {"volumes": [{"id": good["id"], "device": "vda\nvdb"}]},
    ):
        fake.machines["x"] = good | change
        with pytest.raises(UnknownError, match=r"the answer makes no sense: machines\.0\."):
            await bait.look()
    fake.machines["x"] = good | {"since": 4e9, "reason": "two\nlines" + "!" * 5000}
    (seen,) = (await bait.look()).machines.values()
    assert seen.since <= time.time()
    assert seen.reason.startswith("two lines!")
    assert len(seen.reason) == 1000
    fake.node = "hv 1"
    with pytest.raises(UnknownError, match=r"the answer makes no sense: node"):
        await bait.look()
    await bait.close()
    nobody = Bait("http://127.0.0.1:9", context=False)
    with pytest.raises(UnknownError, match=r"bait http://127\.0\.0\.1:9"):
        await nobody.look()
    await nobody.close()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("status", [200, 500])
async def test_of_a_bait_that_has_no_end_little_is_read(told: bool, status: int) -> None:
    sent = 0

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        length = f"Content-Length: {1 << 30}\r\n" if told else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{length}\r\n".encode() + b'{"node": "')
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    bait = Bait(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", context=False)
    with pytest.raises(UnknownError, match="the answer has more than 4194304 bytes"):
        await bait.look()
    await bait.close()
    server.close()
    assert sent < 32 << 20


async def test_a_packed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(b'{"node": "hv1", "machines": []' + b" " * (64 << 20) + b"}")

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)
        await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    bait = Bait(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", context=False)
    with pytest.raises(UnknownError, match="makes no sense"):
        await bait.look()
    await bait.close()
    server.close()
