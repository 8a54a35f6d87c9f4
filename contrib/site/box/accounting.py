"""Slurm's accounting: a MariaDB of the site's own, slurmdbd, and who charges which account."""

import pwd
import shutil
from pathlib import Path

from . import people
from .errors import SiteError
from .layout import Layout, Memory
from .part import Part
from .ports import port
from .process import run, succeeds, wait_until

DATABASE_USER = "mysql"  # of the package; mariadbd does not run as root
_DATABASE = "slurm"
# Which account each user charges, unless they say otherwise.
CHARGES = {"grid": (people.USER,), "cloud": people.CLOUD_USERS}

CONFIGURATION = """\
# Slurm's accounting on the site in a box; written by `site up` each time.
DbdHost=localhost
DbdPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge_socket}
PidFile={run}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc={database}
"""


def configure(site: Layout, memory: Memory) -> None:
    """Write slurmdbd.conf; make an empty database, in one step, where there is none."""
    path = site.slurm_conf.with_name("slurmdbd.conf")
    path.touch(mode=0o600)
    path.write_text(
        CONFIGURATION.format(
            port=port(memory, "slurmdbd"),
            munge_socket=site.munge_socket,
            run=site.run,
            database=_DATABASE,
        )
    )
    owner = pwd.getpwnam(DATABASE_USER)
    # Whoever reaches the socket is its root, without a password: so only root does.
    socket_folder = _socket_folder(site)
    socket_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.chown(socket_folder, owner.pw_uid)
    if not _data(site).exists():
        fresh = _data(site).with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        run(
            [
                *("mariadb-install-db", "--no-defaults", f"--user={DATABASE_USER}"),
                *(f"--datadir={fresh}", f"--tmpdir={socket_folder}", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ]
        )
        fresh.rename(_data(site))


def database(site: Layout) -> Part:
    """MariaDB: no network, and no log but its own of changes not yet in their place.

    It is ready once it has Slurm's database. If slurmdbd had to make it, it would go on with the
    connection that failed for want of it, and that has lost its options (Slurm's mysql_common.c):
    libmariadb 11.8.9 (Debian 13) then takes no answer on it, since it may have no columns (5027).
    """
    run_dir = _socket_folder(site)
    socket = f"--socket={run_dir}/socket"
    create = f"--execute=CREATE DATABASE IF NOT EXISTS {_DATABASE}"
    return Part(
        "mariadbd",
        [
            *("mariadbd", "--no-defaults", f"--user={DATABASE_USER}", f"--datadir={_data(site)}"),
            *(socket, f"--pid-file={run_dir}/pid", f"--tmpdir={run_dir}"),
            *("--skip-networking", "--skip-log-bin"),
            *("--performance-schema=off", "--innodb-flush-log-at-trx-commit=2"),
            # What slurmdbd wants, or it complains in its log.
            *("--innodb-lock-wait-timeout=900", "--innodb-buffer-pool-size=128M"),
        ],
        ready=lambda: succeeds(["mariadb", "--no-defaults", socket, create]),
    )


def daemon(site: Layout) -> Part:
    """slurmdbd: between Slurm and the database."""
    return Part(
        "slurmdbd",
        ["slurmdbd", "-D"],
        ready=lambda: succeeds([*_manager(), "show", "cluster"], _env(site)),
        env={**_env(site), "MYSQL_UNIX_PORT": f"{_socket_folder(site)}/socket"},
    )


def admit(site: Layout) -> None:
    """Make the accounts, and let the users charge them.

    Raises SiteError if slurmctld does not tell slurmdbd of its cluster within 20 s.
    """
    clusters = [*_manager(), "show", "cluster", "format=cluster"]
    if not wait_until(lambda: bool(run(clusters, _env(site)).strip()), 20, pause=0.1):
        raise SiteError("slurmdbd does not know the cluster", "see the log of slurmctld")
    shown = run([*_manager(), "show", "associations", "format=account,user"], _env(site))
    known = {tuple(line.split("|")) for line in shown.splitlines()}
    accounts = [account for account in CHARGES if (account, "") not in known]
    if accounts:
        run([*_manager(), "add", "account", ",".join(accounts)], _env(site))
    for account, users in CHARGES.items():
        new = [user for user in users if (account, user) not in known]
        if new:
            run([*_manager(), "add", "user", ",".join(new), f"account={account}"], _env(site))


def _manager() -> list[str]:
    return ["sacctmgr", "--immediate", "--noheader", "--parsable2"]


def _env(site: Layout) -> dict[str, str]:
    return {"SLURM_CONF": str(site.slurm_conf)}


def _data(site: Layout) -> Path:
    return site.spool / "mariadb"


def _socket_folder(site: Layout) -> Path:
    return site.run / "mariadb"
