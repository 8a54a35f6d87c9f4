"""The stages of an installation's life: commands of the documentation, and what they show."""

import re
from collections.abc import Callable

from tests.install import credentials, pages
from tests.install.inside import FailedError, Inside

USER = "griduser"
_PROXY = f"home/{USER}/proxy.pem"
_GRID = f"export X509_USER_PROXY=/{_PROXY} X509_CERT_DIR=/etc/grid-security/certificates\n"
PACKAGES = "/usr/src/packages"  # where ours are
_RUNS = ("RUNNING", "COMPLETING")
# Where a job stays. Between two states it may show one of them for a moment.
_OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_SSH = 255  # ssh's exit code where the fault is its own, and not the command's
# The pages' `occi`, but for what it does with a refusal: here it fails, and says what was said.
_FAILS = 'eval "$(declare -f occi | sed "s/curl -sS/& --fail-with-body/")"\n'


def needs(inside: Inside, suite: str) -> None:
    """The distribution's packages that the documentation names."""
    inside.shell("apt-get update")
    for script in _needed(suite):
        inside.shell(script)


def needs_recipe(suite: str) -> str:
    """Follows from all that `needs` does."""
    return "\n".join(_needed(suite))


def _needed(suite: str) -> list[str]:
    page = pages.blocks("install.md")
    names = ["needs", "image packages", *(["needs-13"] if suite != "bookworm" else [])]
    return [page[name] for name in names]


class Stages:
    """Those of one Debian, in one container."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self._batch = pages.blocks("install.md")
        self._cloud = pages.blocks("install-cloud.md")
        self._occi = pages.blocks("occi.md")
        self._drain = pages.blocks("drain.md")
        self._vm = ""

    def all(self) -> list[tuple[str, Callable[[], None]]]:
        """In order, with their names."""
        return [
            ("install", self.install),
            ("job", self.job),
            ("cloud service", self.cloud),
            ("cloud VM", self.create),
            ("reboot", self.reboot),
            ("upgrade", self.upgrade),
            ("drain", self.drain),
            ("remove", self.remove),
        ]

    def site(self) -> None:
        """A Slurm that works, and what the site has from its CA."""
        self.inside.shell("tests/install/site")
        self.inside.put(credentials.make(_PROXY))
        self.inside.shell(f"chown {USER}: /{_PROXY}")
        self._as_user(
            "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519", before="mkdir ~/.ssh\n"
        )

    def install(self) -> None:
        """Package, configuration, image, hooks, bait; nothing that doctor calls a fault is left."""
        self._type(self._batch, "package", PACKAGES)
        for name in ("configuration", "image", "hooks", "slurm.conf", "bait"):
            self._type(self._batch, name)
        self._type(self._batch, "doctor")

    def job(self) -> None:
        """A job has a kernel and a host name of its own, and its owner's name."""
        said = self._as_user(self._batch["job"])
        if f"({USER})" not in said or "\nhv1\n" in said:
            raise FailedError(f"the job did not run in a VM:\n{said}")
        self.inside.until("no VM is left", lambda: self._vms() == 0)

    def measure(self) -> str:
        """Start and end of VMs, beside the bare tools; a table for each."""
        python = "/usr/lib/wnodes/bin/python3"
        return self.inside.shell(
            f"SLURM_CONF=/etc/slurm/slurm.conf {python} -m contrib.bench.installed", deadline=1800
        )

    def cloud(self) -> None:
        """The bridge on the same host, for economy."""
        self._type(self._cloud, "package", PACKAGES)
        for name in ("key", "nodes", "bridge", "users", "start"):
            self._type(self._cloud, name)
        self._as_user(self._cloud["whoami"], before=_GRID)

    def create(self) -> None:
        """A cloud VM, from the user's request to a login."""
        self._create()
        self._used()

    def _create(self) -> None:
        """Asked for."""
        self._type_occi("look")
        said = self._type_occi("create", after='echo "VM: $VM"')
        self._vm = re.findall("^VM: (.+)$", said, re.MULTILINE)[-1]

    def _used(self) -> None:
        """Its user logs in, and leaves a file."""
        self._until_active()
        self._login("touch /root/file")

    def reboot(self) -> None:
        """A job and a cloud VM run: the job runs again, the VM comes back with its disk."""
        job = self._submit("sleep 15; echo done")
        self._until_job(job, *_RUNS)
        self.inside.until("the job's VM runs", lambda: self._vms() == 2)
        self.inside.machine.reboot()
        self.inside.until("doctor finds no fault", lambda: self._succeeds("wnodes doctor"))
        self.inside.until("Slurm has noticed", lambda: self._noticed(job))
        self._until_job(job, "COMPLETED")
        self._until_down()
        self._type_occi("start")
        self._until_active()
        self._login("test -e /root/file")

    def _noticed(self, job: str) -> bool:
        """Whether the job was requeued. Slurm would know by the node's uptime, which is the
        machine's in a container: so it is told to look, until it believes that jobs are gone."""
        told = f"systemctl restart slurmd; sleep 5; scontrol show job {job}"
        return "Restarts=0" not in self._told(told)

    def _succeeds(self, script: str) -> bool:
        try:
            self.inside.shell(script)
        except FailedError:
            return False
        return True

    def upgrade(self) -> None:
        """Under a running job and a cloud VM, which notice nothing."""
        booted = self._login("cat /proc/sys/kernel/random/boot_id")
        job = self._submit("sleep 30; echo done")
        self._until_job(job, *_RUNS)
        self.inside.until("the job's VM runs", lambda: self._vms() == 2)
        self._type(self._batch, "upgrade", PACKAGES)
        self._until_job(job, "COMPLETED")
        restarts = self._told(
            f"sacct --noheader --allocations --duplicates --jobs={job} --format=state"
        )
        if restarts.split() != ["COMPLETED"]:
            raise FailedError(f"job {job} was: {restarts}")
        if self._login("cat /proc/sys/kernel/random/boot_id") != booted:
            raise FailedError("the cloud VM is another one after the upgrade")

    def drain(self) -> None:
        """No more jobs; what runs is ended in time. And back, for the last steps."""
        self._type(self._drain, "drain")
        self.inside.until("the node is drained", lambda: "drain" in self._node_state())
        self._type(self._drain, "show")
        self._type(self._drain, "resume")
        self.inside.until("the node is back", lambda: "drain" not in self._node_state())
        self._type_occi("stop")
        self.inside.until("the VM is stopped", lambda: self._vms() == 0)
        self._type_occi("delete")
        self.inside.until("no lease is left", lambda: not self._told("squeue --noheader").strip())

    def remove(self) -> None:
        """Nothing is left; what the site had before goes on working."""
        self._type(self._batch, "remove slurm.conf")
        self._type(self._cloud, "remove")
        self._type(self._batch, "remove")
        self._as_user("srun true")

    def _type(self, page: dict[str, str], name: str, folder: str = "/root") -> str:
        return self.inside.shell(f"cd {folder}\n{page[name]}")

    def _type_occi(self, name: str, after: str = "") -> str:
        before = f"{_GRID}{self._occi['shell']}{_FAILS}VM={self._vm}\n"
        return self._as_user(f"{self._occi[name]}{after}", before=before)

    def _as_user(self, script: str, before: str = "") -> str:
        return self.inside.shell(before + script, user=USER)

    def _told(self, script: str) -> str:
        return self.inside.shell(script)

    def _submit(self, script: str, *options: str) -> str:
        words = "WNODES_IMAGE=small_debian_x86_64 sbatch --parsable"
        words += f" {' '.join(options)} --wrap='{script}'"
        return self._as_user(words).strip()

    def _until_job(self, job: str, *states: str) -> None:
        before = False

        def so() -> bool:
            nonlocal before
            said = self._told(f"scontrol show job {job}")
            if job_state(said) in states:
                return True
            if before and is_stuck(said):
                raise FailedError(f"job {job} never is {' or '.join(states)}:\n{said}")
            before = is_stuck(said)
            return False

        self.inside.until(f"job {job} is {' or '.join(states)}", so)

    def _until_active(self) -> None:
        def so() -> bool:
            said = self._type_occi("show")
            if 'compute.state="error"' in said:
                raise FailedError(f"the cloud VM has failed:\n{said}")
            return 'compute.state="active"' in said

        self.inside.until("the cloud VM is active", so)

    def _until_down(self) -> None:
        """The bridge answers, and has heard that the cloud VM does not run any more."""

        def so() -> bool:
            try:
                return 'compute.state="inactive"' in self._type_occi("show")
            except FailedError:
                return False

        self.inside.until("the cloud VM is down", so)

    def _address(self) -> str:
        """Of the cloud VM; empty while it is not told."""
        found = re.search(r'networkinterface\.address="([\d.]+)', self._type_occi("show"))
        return found[1] if found else ""

    def _login(self, command: str) -> str:
        """What a command says in the cloud VM, logged into as root from the node.

        Raises FailedError, at once if the command fails there.
        """
        self.inside.until("the cloud VM has an address", lambda: self._address() != "")
        address = self._address()
        options = "-F none -o BatchMode=yes -o LogLevel=ERROR -o UserKnownHostsFile=/dev/null"
        options += f" -o StrictHostKeyChecking=no -o ConnectTimeout={5 * self.inside.patience:g}"
        last = ""

        def logged_in() -> bool:
            nonlocal last
            try:
                last = self._as_user(f"ssh {options} root@{address} '{command}'")
            except FailedError as error:
                if error.code != _SSH:
                    raise
                return False
            return True

        self.inside.until(f"«{command}» works in the cloud VM", logged_in)
        return last

    def _vms(self) -> int:
        return len(self._told("virsh list --name").split())

    def _node_state(self) -> str:
        return self._told("sinfo --noheader --format=%T").strip()


def job_state(said: str) -> str:
    """A job's state, from `scontrol show job`; empty if that does not tell. Pure."""
    found = re.search(r"\bJobState=(\w+)", said)
    return found[1] if found else ""


def is_stuck(said: str) -> bool:
    """Whether a job stays as it is: over, or held. Pure."""
    held = re.search(r"\bReason=\w*[Hh]eld", said)
    return job_state(said) in _OVER or held is not None
