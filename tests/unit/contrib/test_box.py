"""contrib/site/box: what follows from the machine that a site is brought up on."""

import pytest

from contrib.site.box import cgroups


@pytest.mark.parametrize(
    ("said", "plugin"),
    [("slurm-wlm 22.05.8\n", "cgroup/v1"), ("slurm-wlm 24.11.5\n", "disabled"), ("", "cgroup/v1")],
)
def test_a_slurm_that_uses_no_control_groups_looks_for_none(said: str, plugin: str) -> None:
    assert cgroups.unused_plugin(said) == plugin


@pytest.mark.parametrize("usable", [True, False])
def test_control_groups_are_used_where_they_can_be(
    usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "usable", lambda: usable)
    said = cgroups.configuration("slurm-wlm 24.11.5\n")
    assert ("CgroupPlugin=cgroup/v1\n" in said) is usable
    assert ("CgroupPlugin=disabled\n" in said) is not usable
