"""What users read when a program or a library has failed: words, and where the whole is."""

import re
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from bait.hypervisor import causes
from bait.hypervisor.domains import Hypervisor
from bait.machine.images import refuse_references
from tests.unit.bait.hypervisor.test_domains import NOWHERE, URI, xml
from tests.unit.bait.machine.test_images import image, qemu_img
from tests.unit.conftest import part_of
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms import refusals
from wnodes_lrms.run import run


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "internal error: Unexpected enum value 0 for virStorageEncryptionEngine",
            "can't start: its disk is encrypted, and a VM here can't open that",
        ),
        (
            "internal error: process exited while connecting to monitor: qemu-system-x86_64:"
            " -blockdev {…}: Could not open '/var/lib/x': No space left on device",
            "can't start: the node's disk is full",
        ),
        (
            "internal error: process exited while connecting to monitor: qemu-system-x86_64:"
            " cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "can't start: the node has too little memory for it",
        ),
        ('Failed to get "write" lock', "can't start: another program of the node uses its disk"),
        ("an error that nobody knows", "can't start"),
    ],
)
def test_libvirts_errors_in_words(said: str, words: str) -> None:
    assert causes.told("can't start", said) == words


@pytest.fixture
def ours(libvirt_test: libvirt.virConnect) -> Iterator[Hypervisor]:  # noqa: ARG001
    one = Hypervisor(URI, "box", "hv1", Network(), NOWHERE)
    yield one
    one.on_stop(lambda _machine, _how: None)


def test_what_libvirt_says_is_in_the_log_and_not_a_users(ours: Hypervisor) -> None:
    with pytest.raises(WnodesError, match="libvirt can't start") as caught:
        ours.create(xml().replace("<memory>1024</memory>", ""))
    assert caught.value.words("7") == (
        "the node's libvirt can't start the VM"
        " (the node's administrator finds more in the bait's log, under 7)"
    )


def test_a_program_that_fails_is_a_users_matter_in_words_alone(tmp_path: Path) -> None:
    with pytest.raises(WnodesError, match="No such file") as caught:
        run(["ls", str(tmp_path / "secret")], deadline=10)
    assert re.match(r"ls has failed on the node \(.*under 7\)$", caught.value.words("7"))
    with pytest.raises(UnknownError) as unknown:
        run([str(tmp_path / "squeue")], deadline=10, unknown=True)
    assert unknown.value.words("7").startswith("squeue can't be run on the node (")


def test_our_own_sentences_stay_as_they_are() -> None:
    assert RejectedError("no image x here\nnor y").words("7") == "no image x here; nor y"


@pytest.mark.integration
def test_an_image_that_cant_be_used_is_told_by_its_name(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"<html>" * 1000)
    with pytest.raises(WnodesError) as caught:
        refuse_references(disk, image(part_of(disk), "qcow2"), None)
    said = caught.value.words("7")
    assert "its disk is damaged, or not in the format qcow2" in said
    assert str(disk) not in said
    disk.unlink()
    # Not LUKS: qemu-img times its key derivation, and gives up where the CPU's clock is coarse.
    secret = ("--object", "secret,id=s,data=hush", "-o", "encrypt.format=aes,encrypt.key-secret=s")
    qemu_img("create", "-q", *secret, "-f", "qcow2", disk, "1M")
    with pytest.raises(RejectedError, match="its disk is encrypted"):
        refuse_references(disk, image(part_of(disk), "qcow2"), None)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("Invalid account or account/partition combination specified", "can't be charged"),
        ("Requested node configuration is not available", "can hold a VM of this size"),
        (
            "DRMAA: DeniedByDrmException: code 17: Job violates queue resource limits",
            "one of its limits",
        ),
        ("Job violates accounting/QOS policy (job submit limit, user's size)", "one of its limits"),
        ("something new", ""),
    ],
)
def test_a_batch_systems_refusal_in_words(said: str, cause: str) -> None:
    told = refusals.told(said)
    assert told.startswith("the batch system refuses the lease")
    assert cause in told
    assert said not in told
