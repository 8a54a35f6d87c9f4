"""Asks the verifier process about VOMS attributes, and starts another when it dies or hangs."""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from occi_bridge.identity import fqans
from occi_bridge.identity.voms_process import DEADLINE, LONGEST
from wnodes_lrms.errors import RejectedError, UnknownError

_PATIENCE = DEADLINE + 2.0  # seconds: with the time that a new process takes to start
_ANSWER = 65536  # bytes
_UNVERIFIED = "VOMS attributes can't be verified now: try again later"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attributes:
    """What a chain's attribute certificates say, all of them verified."""

    fqans: tuple[str, ...]  # the primary one first
    until: float  # epoch seconds


class _DiedError(UnknownError):
    """The process is gone."""


class Verifier:
    """The process, started when it is needed. One question at a time, within one event loop."""

    def __init__(self, voms_dir: str, ca_dir: str) -> None:
        self._argv = [
            sys.executable,
            "-I",
            "-m",
            "occi_bridge.identity.voms_process",
            voms_dir,
            ca_dir,
        ]
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link = socket.socket()

    async def ask(self, chain: Sequence[bytes]) -> Attributes:
        """The verified attributes in a chain (DER, leaf first).

        Raises RejectedError if any is not as it should be, UnknownError if there is no answer.
        """
        question = b"".join(len(der).to_bytes(4, "big") + der for der in chain) + bytes(4)
        if len(question) > LONGEST:
            raise RejectedError(f"certificates of more than {LONGEST} bytes")
        async with self._turn:
            try:
                answer = await self._answer(question)
            except _DiedError:  # maybe long ago
                log.warning("the VOMS verifier ended; starting another")
                answer = await self._answer(question)
        return _attributes(answer)

    async def end(self) -> None:
        """End the process, after the question that it has; the next one starts another."""
        async with self._turn:
            await self._end()

    async def _end(self) -> int:
        process, self._process = self._process, None
        self._link.close()
        return await asyncio.to_thread(_end, process) if process else 0

    async def _answer(self, question: bytes) -> bytes:
        """Raises _DiedError where the process did, UnknownError where it hung at the question."""
        loop = asyncio.get_running_loop()
        try:
            if not self._process:
                await self._start()
            async with asyncio.timeout(_PATIENCE):
                await loop.sock_sendall(self._link, question)
                answer = b""
                while not answer.endswith(b"\n"):
                    more = await loop.sock_recv(self._link, _ANSWER)
                    if not more or len(answer) > _ANSWER:
                        raise ConnectionError
                    answer += more
        except asyncio.CancelledError:  # or the next to ask would read this answer
            await asyncio.shield(self._end())
            raise
        except OSError as error:
            status = await self._end()
            if isinstance(error, TimeoutError) or status == -signal.SIGALRM:
                log.error("the VOMS verifier hung at a question")
                raise UnknownError(_UNVERIFIED) from error
            raise _DiedError(_UNVERIFIED) from error
        return answer

    async def _start(self) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            self._link.setblocking(False)
            process = await asyncio.to_thread(_start, self._argv, theirs)
        self._process = process
        log.info("VOMS verifier: process %d", process.pid)


def _start(argv: Sequence[str], link: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(argv, stdin=link.fileno(), cwd="/", env=_ENVIRONMENT)


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.kill()
    return process.wait()


def _attributes(answer: bytes) -> Attributes:
    """An answer as values, once more of the right VO. Raises RejectedError for a refusal."""
    said = json.loads(answer)
    if "refused" in said:
        reason = "".join(c if c.isprintable() else " " for c in str(said["refused"]))[:300]
        raise RejectedError(f"VOMS attributes: {reason}")
    try:
        found = [
            fqan
            for each in said["attributes"]
            for fqan in fqans.of_vo(fqans.vo(each["vo"]), each["fqans"])
        ]
        until = min(each["until"] for each in said["attributes"])
    except ValueError as error:
        raise RejectedError(f"VOMS attributes: {error}") from error
    return Attributes(tuple(dict.fromkeys(found)), until)
