"""With real QEMU: a guest that boots, one that does not, and a memory of the answer."""

import json
import time
from pathlib import Path

import pytest

from bait.hypervisor import kvm

needs_qemu = pytest.mark.skipif(
    not Path("/usr/bin/qemu-system-x86_64").exists() or kvm._kernel() is None,
    reason="needs QEMU and a kernel in /boot",
)


def qemu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A stand-in for QEMU, where what a real one does can't be had at will."""
    program = folder / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(kvm, "QEMU", str(program))


def device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where KVM's device is to be, which is not there yet."""
    path = folder / "dev-kvm"
    monkeypatch.setattr(kvm, "DEVICE", path)
    return path


def answers(monkeypatch: pytest.MonkeyPatch, works: bool, why: str) -> list[str]:
    """Have each probe end like that; the list of those that were asked for."""
    asked: list[str] = []

    def run_guest(accel: str) -> tuple[bool, str]:
        asked.append(accel)
        return works, why

    monkeypatch.setattr(kvm, "run_guest", run_guest)
    return asked


@needs_qemu
@pytest.mark.integration
def test_an_emulated_guest_comes_to_its_end() -> None:
    assert kvm.run_guest("tcg", deadline=300) == (True, "a probe guest ran to its end")


@needs_qemu
@pytest.mark.integration
def test_the_deadline_ends_a_guest() -> None:
    began = time.monotonic()
    works, why = kvm.run_guest("tcg", deadline=0.3)
    assert (works, why) == (False, "a probe guest hung for 0.3 s")
    assert time.monotonic() - began < 30


@needs_qemu
@pytest.mark.integration
def test_an_accelerator_that_is_not_there_says_so() -> None:
    works, why = kvm.run_guest("no-such-accelerator")
    assert not works
    assert "no-such-accelerator" in why


def test_qemu_is_where_the_distribution_has_it(tmp_path: Path) -> None:
    of_el = tmp_path / "qemu-kvm"
    assert kvm.qemu(of_el) == "qemu-system-x86_64"
    of_el.touch()
    assert kvm.qemu(of_el) == str(of_el)


def test_no_qemu_is_an_answer_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kvm, "QEMU", str(tmp_path / "none"))
    monkeypatch.setattr(kvm, "_kernel", lambda: tmp_path / "kernel")
    assert kvm.run_guest("tcg") == (False, f"{tmp_path}/none: No such file or directory")
    monkeypatch.setattr(kvm, "_kernel", lambda: None)
    assert "no kernel" in kvm.run_guest("tcg")[1]


def test_a_guest_that_ends_early_has_not_worked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kvm, "_kernel", lambda: tmp_path / "kernel")
    qemu(tmp_path, monkeypatch, "echo 'Booting from ROM..'; exit 1")
    works, why = kvm.run_guest("tcg")
    assert not works
    assert why.endswith("ended with 1")


def test_the_answer_is_remembered_until_something_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = answers(monkeypatch, True, "it ran")
    qemu(tmp_path, monkeypatch, "echo QEMU emulator version 7.2")
    device(tmp_path, monkeypatch).touch()
    memory = tmp_path / "kvm.json"
    assert kvm.kvm_works(memory)
    assert kvm.kvm_works(memory)
    assert asked == ["kvm"]
    assert json.loads(memory.read_text())["why"] == "it ran"
    qemu(tmp_path, monkeypatch, "echo QEMU emulator version 8.0")
    assert kvm.kvm_works(memory)
    assert asked == ["kvm", "kvm"]


def test_without_the_device_no_qemu_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    qemu(tmp_path, monkeypatch, f"touch {asked}; echo QEMU emulator version 7.2")
    there, memory = device(tmp_path, monkeypatch), tmp_path / "kvm.json"
    assert not kvm.kvm_works(memory)
    assert json.loads(memory.read_text())["why"] == f"there is no {there}"
    assert not asked.exists()
    answers(monkeypatch, True, "it ran")
    there.touch()  # as when its module is loaded
    assert kvm.kvm_works(memory)
    assert asked.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"identity": 1}', "\0"])
def test_a_memory_that_can_not_be_read_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setattr(kvm, "run_guest", lambda _accel: (False, "it hung"))
    memory = tmp_path / "kvm.json"
    memory.write_text(text)
    assert not kvm.kvm_works(memory)
    assert json.loads(memory.read_text())["kvm"] is False


def test_a_false_answer_is_remembered_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = answers(monkeypatch, False, "it hung")
    for _ in range(3):
        assert not kvm.kvm_works(tmp_path / "kvm.json")
    assert asked == ["kvm"]
