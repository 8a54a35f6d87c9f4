"""What libvirt has left of VMs that a reboot has ended goes; what lives, or is another's, stays."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from bait.hypervisor import remains

# As seen on Debian 12 after a reboot.
OURS = ("domain-3-wnodes-mysite-1-0", "domain-4-wnodes-mysite-8f6f85")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "lib"


def have(state: Path, *names: str) -> None:
    for name in names:
        for folder, file in (("qemu", "master-key.aes"), ("qemu/channel/target", "org.0")):
            (state / folder / name).mkdir(parents=True, exist_ok=True)
            (state / folder / name / file).write_text("x")


def left(state: Path) -> set[str]:
    return {path.name for path in state.rglob("domain-*")}


def nothing() -> list[tuple[int, str]]:
    return []


def test_both_folders_of_a_vm_that_a_reboot_has_ended_go(state: Path, tmp_path: Path) -> None:
    others = ("domain-1-site-own", "domain-5-wnodes-other-7-0", "domain-x-wnodes-mysite-9-0")
    have(state, *OURS, *others)
    remains.sweep("mysite", nothing, state, tmp_path / "run")
    assert left(state) == {*others}
    assert (state / "qemu" / others[0] / "master-key.aes").exists()


def test_a_vm_that_runs_keeps_them(state: Path, tmp_path: Path) -> None:
    """Its name is longer than what libvirt takes of it; a number alone does not tell it."""
    have(state, *OURS)
    name = "wnodes-mysite-8f6f8567-1111-2222-3333-444444444444"
    remains.sweep("mysite", lambda: [(4, name), (3, "site-own")], state, tmp_path / "run")
    assert left(state) == {OURS[1]}


def test_a_vm_that_libvirt_has_lost_sight_of_keeps_them(state: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "wnodes-mysite-8f6f8567-1111-2222-3333-444444444444.pid").write_text("1\n")
    have(state, *OURS)
    remains.sweep("mysite", nothing, state, run)
    assert left(state) == {OURS[1]}


def test_a_vm_that_starts_meanwhile_keeps_them(state: Path, tmp_path: Path) -> None:
    have(state, OURS[0])

    def starts() -> list[tuple[int, str]]:
        have(state, OURS[1])
        return []

    remains.sweep("mysite", starts, state, tmp_path / "run")
    assert left(state) == {OURS[1]}


@pytest.mark.parametrize("cluster", ["a-cluster-with-a-long-name", "mysite"])
def test_a_long_name_of_a_cluster(state: Path, tmp_path: Path, cluster: str) -> None:
    short = f"domain-7-{f'wnodes-{cluster}-12-0'[:20]}"
    have(state, short)
    remains.sweep(cluster, lambda: [(7, f"wnodes-{cluster}-12-0")], state, tmp_path / "run")
    assert left(state) == {short}
    remains.sweep(cluster, nothing, state, tmp_path / "run")
    assert not left(state)


def as_entry(state: Path, elsewhere: Path) -> None:
    (state / "qemu" / OURS[0]).symlink_to(elsewhere / OURS[0])


def as_folder(state: Path, elsewhere: Path) -> None:
    (state / "qemu" / "channel").mkdir()
    (state / "qemu" / "channel" / "target").symlink_to(elsewhere)


def within(state: Path, elsewhere: Path) -> None:
    (state / "qemu" / OURS[0]).mkdir()
    (state / "qemu" / OURS[0] / "link").symlink_to(elsewhere / OURS[0])


@pytest.mark.parametrize("plant", [as_entry, as_folder, within])
def test_a_link_that_qemus_user_has_planted_leads_nowhere(
    state: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / OURS[0]).mkdir(parents=True)
    precious = elsewhere / OURS[0] / "precious"
    precious.write_text("x")
    (state / "qemu").mkdir(parents=True)
    plant(state, elsewhere)
    with pytest.raises(OSError, match="target") if plant is as_folder else nullcontext():
        remains.sweep("mysite", nothing, state, tmp_path / "run")
    assert precious.exists()


def test_no_descriptor_stays_open(state: Path, tmp_path: Path) -> None:
    have(state, *OURS)
    before = len([*Path("/proc/self/fd").iterdir()])
    remains.sweep("mysite", nothing, state, tmp_path / "run")
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_libvirt_that_has_never_run_a_vm(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    remains.sweep("mysite", nothing, state, tmp_path / "run")
    assert not list(state.iterdir())
