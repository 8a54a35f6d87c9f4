"""A site of some size: its processes, brought up, and hurt."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from contrib.scale import configure, guests
from contrib.scale.plan import (
    BRIDGE,
    BRIDGE_PORTS,
    BRIDGES,
    PROGRAMS,
    Size,
)
from contrib.site.box import private
from contrib.site.box.errors import SiteError
from contrib.site.box.layout import REPOSITORY, Layout, Memory
from contrib.site.box.part import Part, bring_up, launch, listens, require_alive
from contrib.site.box.process import Processes, run, succeeds, wait_until
from contrib.site.box.report import step

_POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path())  # the newest
_AT_ONCE = 5  # daemons that start together: more would only wait for each other
_PATIENCE = 600.0  # seconds for a daemon to be ready: the machine may be busy


class Site:
    """The daemons of one size. What it is asked for raises SiteError where it can't be had."""

    def __init__(self, layout: Layout, size: Size, boot: float) -> None:
        """Nothing runs yet. A guest takes `boot` seconds to boot."""
        self.layout = layout
        self.size = size
        self.boot = boot
        self.layout.root.mkdir(parents=True, exist_ok=True)
        memory = Memory(layout.root / "state.json")
        self.processes = Processes(memory, layout.log)
        self._memory = memory
        self.env = {"SLURM_CONF": str(layout.slurm_conf)}

    def up(self) -> None:
        """Bring up all of it."""
        for folder in (self.layout.etc, self.layout.run, self.layout.spool, self.layout.log):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        with step("users, certificates, configuration"):
            # As packages have it: a process that compiles keeps 6 MiB of that.
            sources = [str(REPOSITORY / name) for name in ("wnodes_lrms", "bait", "occi_bridge")]
            run([str(PROGRAMS / "python"), "-m", "compileall", "-q", *sources])
            private.prepare(self.layout, self._memory)
            configure.write(self.layout, self.size)
            guests.write_ssh(self.layout.etc / "ssh")
            run(
                [str(PROGRAMS / "wnodes"), "hooks", "install", "--lrms", "slurm"],
                {"WNODES_CONFIG": str(configure.config_of(self.layout, BRIDGES[0]))} | self.env,
            )
        covers = {self.layout.etc / "ssh": Path("/usr/bin/ssh")}
        bring_up(private.part(self.layout, covers, self.processes), self.processes)
        self._make_database()
        for part in (self._munge(), self.postgres(), self._guests(), self.controller()):
            self.start(part)
        run(["createdb", "-h", str(self.layout.run / "postgres"), "-U", BRIDGE, "bridge"])
        self._start_all("baits", [self.bait(name) for name in self.size.names])
        self._start_all("slurmds", [self.slurmd(name) for name in self.size.names])
        self._start_all("bridges", [self.bridge(name) for name in BRIDGES])

    def down(self) -> None:
        """End all of it, whatever state it is in, and remove it but the logs."""
        with step("taking it down"):
            # Those that were told to stop too long ago can't hear.
            for name in self.processes.names():
                pid = self.processes.pid(name)
                if pid is not None and not name.startswith(private.NAME):
                    os.kill(pid, signal.SIGKILL)
            private.clear(self.processes)
            for name in self.processes.names():
                self.processes.stop(name)
            private.restore(self._memory)
            for entry in self.layout.root.iterdir():
                if entry.name != "log":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def start(self, part: Part) -> None:
        """Start a daemon, and wait until it is ready."""
        bring_up(part, self.processes, private.enter(self.processes))

    def pid(self, name: str) -> int:
        """The number of a daemon that must live."""
        found = self.processes.pid(name)
        if found is None:
            raise SiteError(f"{name} has ended", "see its log", self.processes.log(name))
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a daemon a signal."""
        os.kill(self.pid(name), number)

    def node_pids(self, name: str) -> Iterable[int]:
        """Of all that a node runs: its bait, its slurmd, and what belongs to its jobs."""
        stepd = f"slurmstepd: [{name}"
        yield from (self.pid(f"bait-{name}"), self.pid(f"slurmd-{name}"))
        for pid in private.members(self.processes):
            if stepd in _title(pid):
                yield pid

    def bait(self, name: str) -> Part:
        """A node's bait."""
        socket = self.layout.bait_socket(name)
        config = configure.config_of(self.layout, name)
        argv = [str(PROGRAMS / "wnodes-bait"), "--config", str(config), "--node", name]
        return Part(f"bait-{name}", argv, lambda: listens(socket), env=self.env, patience=_PATIENCE)

    def bridge(self, name: str) -> Part:
        """A bridge, whose driver is counted: see counted.py."""
        config = configure.config_of(self.layout, name)
        argv = [
            *("setpriv", f"--reuid={BRIDGE}", f"--regid={BRIDGE}", "--init-groups", "--"),
            *("env", f"--chdir={REPOSITORY}", f"WNODES_SCALE_COUNTS={self.counts(name)}"),
            *(str(PROGRAMS / "python"), "-m", "contrib.scale.counted", "--config", str(config)),
        ]
        port = BRIDGE_PORTS[name]
        url = f"https://localhost:{port}/-/"
        user = str(self.layout.root / "users" / "u001.pem")
        trust = ["--capath", str(self.layout.etc / "grid-security" / "certificates")]
        ask = ["curl", "--silent", "--fail", *trust, "--cert", user, "--key", user, url]
        return Part(name, argv, lambda: succeeds(ask), patience=_PATIENCE)

    def ask(self, query: str) -> list[str]:
        """What the bridges' database has: lines, columns parted by `|`."""
        sockets = str(self.layout.run / "postgres")
        argv = ["psql", "-h", sockets, "-U", BRIDGE, "-At", "-c", query, "bridge"]
        return run(argv).splitlines()

    def counts(self, bridge: str) -> str:
        """Where a bridge's driver writes what it has done."""
        return str(self.layout.spool / bridge / "counts.json")

    def _make_database(self) -> None:
        data, sockets = self.layout.spool / "postgres", self.layout.run / "postgres"
        for folder in (data, sockets):
            folder.mkdir()
            shutil.chown(folder, "postgres", "postgres")
        run(
            [
                *_as("postgres"),
                *(f"{_POSTGRES}/initdb", "-D", str(data), "-U", BRIDGE, "-A", "trust"),
            ],
        )

    def postgres(self) -> Part:
        """PostgreSQL."""
        sockets = str(self.layout.run / "postgres")
        return Part(
            "postgres",
            [
                *_as("postgres"),
                *(f"{_POSTGRES}/postgres", "-D", str(self.layout.spool / "postgres")),
                *("-k", sockets, "-c", "listen_addresses=", "-c", "max_connections=200"),
            ],
            lambda: succeeds([f"{_POSTGRES}/pg_isready", "-q", "-h", sockets]),
            patience=_PATIENCE,
        )

    def _munge(self) -> Part:
        folder = self.layout.munge_socket.parent
        return Part(
            "munged",
            [
                *("munged", "--foreground", "--num-threads=8"),
                *(f"--socket={self.layout.munge_socket}", f"--pid-file={folder}/pid"),
                *(f"--key-file={self.layout.etc}/munge.key", f"--seed-file={folder}/seed"),
                f"--log-file={folder}/log",
            ],
            lambda: succeeds(["munge", "--no-input", f"--socket={self.layout.munge_socket}"]),
        )

    def _guests(self) -> Part:
        argv = [
            *("env", f"--chdir={REPOSITORY}", str(PROGRAMS / "python")),
            *("-m", "contrib.scale.guests", str(self.boot)),
        ]
        # Whoever asks 127.0.0.1 is told at once that it answers.
        return Part("guests", argv, lambda: succeeds(["bash", "-c", ":</dev/tcp/127.0.0.1/22"]))

    def controller(self) -> Part:
        """slurmctld."""
        return Part(
            "slurmctld",
            ["slurmctld", "-D"],
            lambda: succeeds(["scontrol", "ping"], self.env),
            env=self.env,
            patience=_PATIENCE,
        )

    def slurmd(self, name: str) -> Part:
        idle = ("idle", "mixed", "allocated", "completing")

        def ready() -> bool:
            argv = ["sinfo", "--noheader", f"--nodes={name}", "--format=%T"]
            return run(argv, self.env).strip() in idle

        return Part(
            f"slurmd-{name}", ["slurmd", "-D", "-N", name], ready, env=self.env, patience=_PATIENCE
        )

    def _start_all(self, title: str, parts: list[Part]) -> None:
        """Start them all, some at a time, and wait until all are ready."""
        with step(f"{len(parts)} {title}"):
            for at in range(0, len(parts), _AT_ONCE):
                some = parts[at : at + _AT_ONCE]
                for part in some:
                    launch(part, self.processes, private.enter(self.processes))
                for part in some:
                    if not wait_until(part.ready, part.patience, pause=0.2):
                        require_alive(part, self.processes)
                        log = self.processes.log(part.name)
                        raise SiteError(f"{part.name} is not ready", part.remedy, log)


def _as(user: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read(64).decode(errors="replace")
    except OSError:
        return ""


def until(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait, looking five times a second; seconds that it took. Raises SiteError."""
    begun = time.monotonic()
    if not wait_until(true, seconds, pause=0.2):
        raise SiteError(f"{what}: not within {seconds:.0f} s", "see the logs")
    return time.monotonic() - begun
