"""All threads of a bait have one heap."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Eight threads that live at once, each with a piece of memory of its own from malloc(3).
_CODE = """
import ctypes, threading
from bait import heap
{first}
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
own, meet = [], threading.Barrier(8)
def take():
    own.append(malloc(4096))
    meet.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
print(len({{address >> 26 for address in own}}))  # an arena of a thread's is aligned to 64 MiB
"""


def _heaps(first: str) -> int:
    argv = [sys.executable, "-c", _CODE.format(first=first)]
    return int(subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_threads_share_the_heap() -> None:
    assert _heaps("") > 1
    assert _heaps("heap.have_one()") == 1
