"""`wnodes-bridge`, unchanged, whose driver's rounds and requests to baits are counted.

It writes them to the file that $WNODES_SCALE_COUNTS names, every second, as long as it leads.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from occi_bridge import __main__ as bridge
from occi_bridge.driver.bait_connection import BaitConnection
from occi_bridge.driver.driver import Driver

_OUT = Path(os.environ["WNODES_SCALE_COUNTS"])
_EVERY = 1.0  # seconds
_counts = {"rounds": 0, "seconds": 0.0, "cpu": 0.0, "requests": 0, "listings": 0}
_written = 0.0


def _write() -> None:
    global _written
    now = time.monotonic()
    if now > _written + _EVERY:
        _written = now
        new = _OUT.with_suffix(".new")
        new.write_text(json.dumps(_counts | {"at": time.time(), "pid": os.getpid()}))
        new.replace(_OUT)


def main() -> int:
    """As `wnodes-bridge`."""
    whole_round, whole_call = Driver._round, BaitConnection.call

    async def round_(driver: Driver) -> None:
        before, used = time.monotonic(), time.process_time()
        await whole_round(driver)
        _counts["rounds"] += 1
        _counts["seconds"] += time.monotonic() - before
        _counts["cpu"] += time.process_time() - used
        _write()

    async def call(link: BaitConnection, verb: str, path: str, *args: Any, **kwargs: Any) -> Any:
        _counts["requests"] += 1
        _counts["listings"] += path == "/leases" and verb == "GET"
        return await whole_call(link, verb, path, *args, **kwargs)

    setattr(Driver, "_round", round_)  # noqa: B010 (a method, which mypy holds to be fixed)
    setattr(BaitConnection, "call", call)  # noqa: B010
    return bridge.main()


if __name__ == "__main__":
    sys.exit(main())
