"""What a job pays that asks for no VM, and what a starter costs before it asks for one."""

import os
import re
import shlex
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from contrib.bench.site import HOOKS, NODE, SLURM_CONF, USER, sh, wait_until

_RUNS = 400
_STARTS = 100
_JOBS = 200
_ROUNDS = 7
# What slurmd gives a prolog of a plain job: enough for the guard, which looks at one variable.
_PLAIN = {"SLURM_JOB_ID": "1", "SLURM_JOB_UID": "1000", "SLURMD_NODENAME": "hv1"}


def hooks() -> dict[str, list[float]]:
    """Milliseconds of prolog and epilog, each against /bin/true, in turns."""
    programs = {"/bin/true": "/bin/true", "prolog": f"{HOOKS}/prolog", "epilog": f"{HOOKS}/epilog"}
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(_RUNS):
        for name, program in programs.items():
            begun = time.perf_counter()
            pid = os.posix_spawn(program, [program], _PLAIN)
            os.waitpid(pid, 0)
            samples[name].append((time.perf_counter() - begun) * 1000)
    return samples


def starter() -> dict[str, list[float]]:
    """Milliseconds from a starter's start until its bait has its question, against an interpreter
    of the same flags that does nothing, in turns."""
    samples: dict[str, list[float]] = {"python3 -c pass": [], "starter to its question": []}
    interpreter = shlex.split((HOOKS / "starter").read_text().splitlines()[0].removeprefix("#!"))
    environment = _PLAIN | {"PATH": "/usr/bin:/bin"}
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder) / "bait.sock")
        listener.bind(path)
        listener.listen()
        words = ("slurm", path, "0", "1", NODE, "command", "/bin/true")
        code = f"import sys; sys.path.insert(0, {str(HOOKS)!r}); import starter; starter.main"
        for _ in range(_STARTS):
            begun = time.perf_counter()
            subprocess.run([*interpreter, "-c", "pass"], env=environment, check=True)
            samples["python3 -c pass"].append((time.perf_counter() - begun) * 1000)
            begun = time.perf_counter()
            with subprocess.Popen([*interpreter, "-c", f"{code}{words!r}"], env=environment) as run:
                link, _ = listener.accept()
                with link, link.makefile() as lines:
                    lines.readline()
                    samples["starter to its question"].append((time.perf_counter() - begun) * 1000)
                    run.kill()
    return samples


def throughput() -> dict[str, list[float]]:
    """Seconds for 200 plain jobs, from the first submission to the last end."""
    samples: dict[str, list[float]] = {"hooks /bin/true": [], "hooks of wnodes-lrms": []}
    original = SLURM_CONF.read_text()
    bare = re.sub(r"^(Prolog|Epilog)=.*$", r"\1=/bin/true", original, flags=re.MULTILINE)
    try:
        for _ in range(_ROUNDS):
            for name, text in zip(samples, (bare, original), strict=True):
                SLURM_CONF.write_text(text)
                sh("scontrol", "reconfigure")
                time.sleep(3)  # both nodes have read it
                samples[name].append(_jobs())
    finally:
        SLURM_CONF.write_text(original)
        sh("scontrol", "reconfigure")
    return samples


def _jobs() -> float:
    begun = time.perf_counter()
    script = f"for i in $(seq {_JOBS}); do sbatch -Q -o /dev/null --mem=1 --wrap=true; done"
    subprocess.run(["runuser", "-u", USER, "--", "sh", "-c", f"cd /; {script}"], check=True)
    wait_until(lambda: not sh("squeue", "-h", "-o", "%i"), 600)
    return time.perf_counter() - begun
