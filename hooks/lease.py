"""wnodes-lrms: the program of a lease job, whose allocation carries a cloud user's machine.

    lease.py SOCKET JOB NODE

The LRMS runs it on the node that it chose, as the account that the lease is charged to. It tells
this node's bait which lease it is (WNODES_LEASE in its environment), and stays until the machine
has ended that the bait makes for a bridge's order: as long as it lives, the allocation does. A
signal that announces the end of the allocation is told to the bait once, so that the guest can shut
down; this program then goes on waiting, until the machine has ended or the LRMS kills it.

SOCKET is the bait's control socket; %n in it is the node's name. The exit code is 0 if the machine
ended as it should; else 1, with the reason on standard error. Standard library only.
"""

import os
import signal
import sys
import threading
import time
from typing import NoReturn

if __name__ == "__main__":  # isolated, the interpreter does not look beside this file by itself
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from baitsocket import answers

BAIT_AWAY = 60.0  # seconds to wait for a bait that can't be reached, as in a restart
PAUSE = 1.0  # seconds between two tries at first; it grows to
CEILING = 10.0  # seconds

# What LRMSs send some time before KILL: TERM at the end of the walltime, at a cancel, at a
# preemption; USR1 where the job asked for it (sbatch --signal), USR1 and USR2 with qsub -notify.
ANNOUNCED = ("TERM", "USR1", "USR2", "XCPU", "INT", "HUP")


class Lease:
    """The job that this program is, on its node, before the node's bait."""

    def __init__(self, path: str, job: str, node: str) -> None:
        self.path = path
        self.job = job
        self.node = node
        self.ending = False  # the end of the allocation is announced
        for name in ANNOUNCED:
            signal.signal(getattr(signal, f"SIG{name}"), self.arrive)

    def say(self, text: str) -> None:
        """One line on the job's standard error, by one write: a signal may come in between."""
        os.write(2, f"wnodes: job {self.job or '?'}: {' '.join(text.split())}\n".encode())

    def give_up(self, reason: str) -> NoReturn:
        self.say(reason)
        sys.exit(1)

    def arrive(self, number: int, _frame: object) -> None:
        if not self.ending:
            self.ending = True
            self.say(f"{signal.Signals(number).name}: the lease is ending")
            # In a thread: the bait's answers go on being read, and it may just be away.
            threading.Thread(target=self.tell, daemon=True).start()

    def tell(self) -> None:
        """Tell the bait, once."""
        while True:
            try:
                for answer in answers(self.path, {"op": "lease-ending", "job": self.job}):
                    if answer.get("ok") or not answer.get("retry"):
                        return  # told; or there is no machine that could end
            except (OSError, ValueError):
                pass
            time.sleep(PAUSE)

    def wait(self, lease: str) -> NoReturn:
        """Wait for a machine and stay until it has ended; ends this process.

        Until the bait has answered, it may be away for BAIT_AWAY. From then on there may be a
        machine, which needs the allocation and not the bait: only the bait or the LRMS ends the
        wait.
        """
        request = {"op": "lease", "job": self.job, "lease": lease}
        since = time.monotonic()
        taken = False
        told = False
        pause = PAUSE
        while True:
            try:
                for answer in answers(self.path, request):
                    if "ended" in answer:
                        if answer.get("code") == 0:
                            sys.exit(0)
                        self.give_up(str(answer["ended"]))
                    if answer.get("ok") is False:
                        trouble = f"says: {answer.get('error')}"
                        if not answer.get("retry"):
                            self.give_up(str(answer.get("error")))
                        break
                    taken, told, pause = True, False, PAUSE
                else:
                    trouble = "closed the connection"
            except TimeoutError:
                trouble = f"does not answer at {self.path}: it hangs"
            except (OSError, ValueError) as error:
                trouble = (
                    f"can't be reached at {self.path}: {getattr(error, 'strerror', None) or error}"
                )
            if not taken and (self.ending or time.monotonic() - since > BAIT_AWAY):
                self.give_up(f"the bait on node {self.node} {trouble}")
            if not told:
                told = True
                self.say(f"the bait on node {self.node} {trouble}; trying again")
            time.sleep(pause)
            pause = min(2 * pause, CEILING)


def main(pattern: str, job: str, node: str) -> None:
    """See the head of this file."""
    lease = Lease(pattern.replace("%n", node), job, node)
    name = os.environ.get("WNODES_LEASE", "")
    if not job:
        lease.give_up("there is no job id: is this run by the batch system?")
    if not name:
        lease.give_up("WNODES_LEASE is not set: this is no lease, or its environment was lost")
    lease.wait(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
