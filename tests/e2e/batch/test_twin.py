"""The twins of tests/e2e/twin.py, in every batch system.

A VM's SSH server has its part in much of it: the script runs with the small image's, and with
OpenSSH's.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrib.site.box.layout import IMAGE
from tests.e2e import twin
from tests.e2e.box import GOOD, call, variant
from tests.e2e.lrms.interface import Job, Submit
from tests.e2e.lrms.systems import LRMS


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The good image with OpenSSH's server in the place of its own."""
    folder = tmp_path_factory.mktemp("image")
    raw, disk, steps = folder / "disk.raw", folder / "disk.qcow2", folder / "steps"
    call("qemu-img", "convert", "-O", "raw", GOOD.disk.source, str(raw))
    texts = {
        "/etc/inittab": "::respawn:/bin/sh -c 'mkdir -p /run/sshd; exec /usr/sbin/sshd -D'\n"
        "::once:/etc/init.d/late\n::ctrlaltdel:/sbin/reboot\n::shutdown:/etc/init.d/stop\n",
        "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM no\nPidFile none\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n",
        "/etc/passwd": call("debugfs", "-R", "cat /etc/passwd", str(raw))
        + "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
    }
    files = {}
    for number, (name, text) in enumerate(texts.items()):
        files[name] = folder / str(number)
        files[name].write_text(text)
    path = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    assert path, "the package openssh-server is missing"
    files["/usr/bin/sshd"] = Path(path)
    for word in call("ldd", path).split():
        if word.startswith("/lib/"):
            files[f"/usr{word}"] = Path(word)
    steps.write_text(
        "mkdir /etc/ssh/sshd_config.d\n"
        + "".join(
            f"rm {name}\nwrite {path.resolve()} {name}\nset_inode_field {name} mode 0100755\n"
            for name, path in files.items()
        )
    )
    subprocess.run(["debugfs", "-w", "-f", steps, raw], check=True, capture_output=True)
    call("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    digest = call("sha256sum", str(disk)).split()[0]
    with variant("openssh_debian_x86_64", disk={"source": str(disk), "sha256": digest}) as tag:
        yield tag


@pytest.fixture
def images(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, twin.Differs]]]:
    """The image that was asked for, or else both of these; with what differs in each."""
    with twin.image_of(request.config) as given:
        yield (
            {given: {}}
            if given
            else {
                IMAGE: twin.LOGIN,
                request.getfixturevalue("openssh"): {},
            }
        )


def test_a_job_can_not_tell_its_vm_from_the_node(
    submit: Submit, home: Path, images: dict[str, dict[str, twin.Differs]]
) -> None:
    def run(image: str | None, folder: Path) -> Job:
        array = submit(
            twin.SCRIPT,
            *LRMS.twin,
            image=image,
            env=twin.VARIABLES,
            folder=folder,
            args=twin.ARGUMENTS,
            node="hv1",
            tasks="5-5",
            joined="",
        )
        job = array.of_task(5).wait(seconds=twin.PATIENCE)
        assert job.end == f"exit {twin.EXIT}", job.output
        return job

    group = rf"(\S+ ){{6}}{LRMS.group} "
    mark = {"identity": twin.Differs(group, r"(\S+ ){6}", "it marks a job's processes")}
    more = mark if LRMS.group else {}
    twin.compare(run, home, {image: differs | more for image, differs in images.items()})
