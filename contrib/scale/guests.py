"""The guests, which are simulated: an SSH server's greeting, and what ssh does with a payload.

libvirt's test driver runs no guest. What the product sees of one is played by two things.

This program listens on port 22 of all guests' addresses, which are of the loopback network, and
greets as an SSH server once a guest has had its time to boot, counted from the first who asks.

In the place of ssh the nodes have the shell script beside this file, of the smallest process that
there is. It takes the tar with the job, and its payload is to wait as many seconds as the first
line of the script says that begins with `sleep`.
"""

import asyncio
import ipaddress
import shutil
import sys
import time
from pathlib import Path

_FIRST = ipaddress.IPv4Address("127.64.0.0")  # of the first node's subnet; each is a /24
_FORGOTTEN = 5.0  # seconds that nobody has asked: its address may be another guest's by now


def subnet(number: int) -> ipaddress.IPv4Network:
    """That of a node's guests, counted from 0."""
    return ipaddress.IPv4Network((_FIRST + 256 * number, 24))


def write_ssh(path: Path) -> None:
    """What the nodes have in the place of ssh."""
    shutil.copyfile(Path(__file__).with_name("ssh"), path)
    path.chmod(0o755)


class Guests:
    """When each guest was first asked, and last."""

    def __init__(self, boot: float) -> None:
        """`boot` is in seconds."""
        self._boot = boot
        self._asked: dict[str, tuple[float, float]] = {}

    def ready(self, address: str, now: float) -> bool:
        """Whether the guest has booted by now, in seconds of any clock."""
        first, last = self._asked.get(address, (now, now))
        if now - last > _FORGOTTEN:
            first = now
        self._asked[address] = first, now
        return now - first >= self._boot


async def serve(boot: float) -> None:
    """Listen until killed."""
    guests = Guests(boot)

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("sockname")[0]
        if guests.ready(address, time.monotonic()):
            writer.write(b"SSH-2.0-simulated\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "0.0.0.0", 22, backlog=1024)  # noqa: S104
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
