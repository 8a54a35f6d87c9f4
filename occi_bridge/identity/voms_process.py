"""The verifier: a process of its own that tells whose attribute certificates are good.

`python -m occi_bridge.identity.voms_process VOMS_DIR CA_DIR`, with a socket as standard input. A
question is a chain; a whole number of four bytes goes before each certificate (DER) and, zero,
after the last. The answer is a line of JSON: {"attributes": [{"vo", "fqans", "until"}]} or
{"refused": "why"}.

It belongs to nobody if it can, sees no files but those folders, writes none, starts no process, and
ends itself, if need be by the kernel, when a question takes too long or its memory grows. Whoever
asks starts another, also when anything in those folders has changed.
"""

import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

from occi_bridge.identity import sandbox
from occi_bridge.identity.voms import Judge
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.tls import context

LONGEST = 1 << 20  # bytes of a question
DEADLINE = 3.0  # seconds for an answer; it usually takes milliseconds
_REASON = 300  # characters of a refusal: it may quote what a user has sent
_MEMORY = 1 << 30  # bytes of addresses


def main() -> int:
    """Answer questions until the one who asks is gone."""
    _, voms_dir, ca_dir = sys.argv
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also inside OpenSSL
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is for who started us
    logging.disable()  # what is wrong with the folders of CAs is in the bridge's own log
    try:
        sandbox.become_nobody()
        judge = Judge(voms_dir, ca_dir, crls=context.has_crls(ca_dir))
        sandbox.read_only([voms_dir, ca_dir])
        sandbox.limit(_MEMORY)
    except (OSError, WnodesError) as error:
        print(f"VOMS verifier: {error}", file=sys.stderr)
        return 1
    with socket.socket(fileno=0) as link, link.makefile("rb") as asked:
        while chain := list(_question(asked.read)):
            signal.setitimer(signal.ITIMER_REAL, DEADLINE)
            link.sendall(json.dumps(_answer(judge, chain)).encode() + b"\n")
            signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _question(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while length := int.from_bytes(read(4), "big"):
        yield read(length)


def _answer(judge: Judge, chain: list[bytes]) -> dict[str, object]:
    try:
        return {"attributes": [asdict(each) for each in judge.verify(chain)]}
    except RejectedError as error:
        return {"refused": str(error)[:_REASON]}


if __name__ == "__main__":
    sys.exit(main())
