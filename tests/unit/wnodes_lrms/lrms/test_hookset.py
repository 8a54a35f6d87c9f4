"""Installing the hooks into a site's files, comparing them, and taking them off."""

import dataclasses
import os
import re
import time
from pathlib import Path

import pytest

from wnodes_lrms import resources
from wnodes_lrms.errors import ConfigError, RejectedError
from wnodes_lrms.lrms import hookfiles
from wnodes_lrms.lrms.gridengine import hookplan as gridengine
from wnodes_lrms.lrms.hookset import is_ours
from wnodes_lrms.lrms.openpbs import hookplan as openpbs
from wnodes_lrms.lrms.slurm import conf as slurmconf
from wnodes_lrms.lrms.slurm.hookplan import COPIED, Site
from wnodes_lrms.lrms.slurm.installation import SlurmHooks
from wnodes_lrms.lrms.slurm.luapolicy import quote
from wnodes_lrms.lrms.torque import hookplan as torque
from wnodes_lrms.policy import Policy

TAG = "small_linux_x86_64"
POLICY = Policy([TAG])
SITE_SCRIPT = "function slurm_job_submit() return slurm.SUCCESS end\nreturn slurm.SUCCESS\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    conf = tmp_path / "etc" / "slurm.conf"
    conf.parent.mkdir()
    conf.write_text("ClusterName=box\n")
    return Site(conf, "/run/wnodes/%n/bait.sock", 2, tmp_path / "lib" / "wnodes", os.geteuid())


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every file below a folder, with all that `remove` promises to bring back."""
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else ""
        if path.is_file() and not path.is_symlink():
            content = path.read_text()
        when = 0 if path.is_dir() else status.st_mtime_ns
        found[str(path)] = (content, status.st_mode, status.st_uid, status.st_gid, when)
    return found


def set_lines(site: Site, lines: tuple[str, ...]) -> None:
    """Do what the administrator is told to: each line replaces the earlier one of its key."""
    text = site.slurm_conf.read_text().splitlines()
    for line in lines:
        line = line.replace("NodeName=...", "NodeName=hv1").partition("  ")[0]
        key = line.partition("=")[0]
        text = [old for old in text if not old.startswith(f"{key}=")] + [line]
    site.slurm_conf.write_text("\n".join(text) + "\n")


def own_hook(site: Site, name: str) -> Path:
    path = site.slurm_conf.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_bare_site(site: Site) -> None:
    outcome = hookfiles.install(SlurmHooks(site, POLICY))
    assert {path.name for path in site.folder.iterdir()} == {
        *COPIED,
        "made-folders",
        "starter",
        "wnodes-lease",
        "policy.lua",
        "prolog",
        "epilog",
    }
    assert outcome.lines == (
        f"Prolog={site.folder}/prolog",
        f"Epilog={site.folder}/epilog",
        "JobSubmitPlugins=lua",
        "NodeName=... Feature=wnodes    (added on each node that runs a bait)",
    )
    for path in site.folder.iterdir():
        status = path.stat()
        assert status.st_uid == site.owner
        assert status.st_mode & 0o022 == 0
        assert status.st_mode & 0o444 == 0o444
    set_lines(site, outcome.lines)
    assert hookfiles.check(SlurmHooks(site, POLICY)) == []


def test_a_second_install_writes_nothing(site: Site) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    before = snapshot(site.folder.parent.parent)
    assert hookfiles.install(SlurmHooks(site, POLICY)).changed == ()
    assert snapshot(site.folder.parent.parent) == before


def test_every_file_of_ours_is_known_by_its_mark(site: Site) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    for path in [*site.folder.iterdir(), site.loader]:
        assert is_ours(path.read_bytes()), path


@pytest.mark.parametrize(
    "own", ["none", "script", "script elsewhere", "hooks", "folders", "everything"]
)
def test_the_hooks_come_off_without_a_trace(site: Site, own: str) -> None:
    """Whatever the site had, it has again: bytes, owners, modes, times; and nothing else."""
    etc = site.slurm_conf.parent
    if own in ("script", "everything"):
        site.loader.write_text(SITE_SCRIPT)
        site.loader.chmod(0o640)
        os.utime(site.loader, (1e9, 1e9))
    if own == "script elsewhere":
        (etc / "site.lua").write_text(SITE_SCRIPT)
        site.loader.symlink_to("site.lua")
    conf = "ClusterName=box\n"
    if own in ("hooks", "everything"):
        conf += f"Prolog={own_hook(site, 'prolog.sh')}\nJobSubmitPlugins=throttle,lua\n"
    if own == "everything":
        own_hook(site, "epilog.d/10-site")
        conf += f"Epilog={etc}/epilog.d/*\n"
    if own == "folders":
        own_hook(site, "p.d/a.sh")
        own_hook(site, "e.d/b.sh")
        conf += "Prolog=p.d/*.sh\nEpilog=e.d/[a-z]*.sh\n"
    if own in ("hooks", "everything"):
        site.loader.write_text(SITE_SCRIPT)
    site.slurm_conf.write_text(conf)
    before = snapshot(site.slurm_conf.parent.parent)

    outcome = hookfiles.install(SlurmHooks(site, POLICY))
    set_lines(site, outcome.lines)
    assert hookfiles.check(SlurmHooks(site, POLICY)) == []
    site.slurm_conf.write_text(conf)
    os.utime(site.slurm_conf, ns=(before[str(site.slurm_conf)][4],) * 2)  # type: ignore[arg-type]
    removed = hookfiles.remove(SlurmHooks(site, POLICY))
    assert removed.left == ()
    assert snapshot(site.slurm_conf.parent.parent) == before
    assert hookfiles.remove(SlurmHooks(site, POLICY)).changed == ()


def test_a_folder_above_that_was_there_before_stays(site: Site) -> None:
    """/usr/local/libexec, empty, is the system's."""
    site.folder.parent.mkdir()
    hookfiles.install(SlurmHooks(site, POLICY))
    hookfiles.remove(SlurmHooks(site, POLICY))
    assert not list(site.folder.parent.iterdir())


def test_a_folder_above_that_has_come_to_be_used_stays(site: Site) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    (site.folder.parent / "another's").write_text("x")
    outcome = hookfiles.remove(SlurmHooks(site, POLICY))
    assert outcome.changed[-1] == str(site.folder)
    assert [path.name for path in site.folder.parent.iterdir()] == ["another's"]


def test_no_folder_goes_that_is_not_above_the_hooks(site: Site) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    elsewhere = site.slurm_conf.parent / "empty"
    elsewhere.mkdir()
    with (site.folder / "made-folders").open("a") as stream:
        stream.write(f"{elsewhere}\n")
    hookfiles.remove(SlurmHooks(site, POLICY))
    assert elsewhere.is_dir()
    assert not site.folder.parent.exists()


def test_the_sites_own_script_is_loaded_by_the_loader(site: Site) -> None:
    site.loader.write_text(SITE_SCRIPT)
    hookfiles.install(SlurmHooks(site, POLICY))
    assert site.site_script.read_text() == SITE_SCRIPT
    assert quote(site.site_script) in site.loader.read_text()


def test_a_plain_prolog_is_run_by_ours(site: Site) -> None:
    own = own_hook(site, "prolog.sh")
    site.slurm_conf.write_text("ClusterName=box\nProlog=prolog.sh\n")
    outcome = hookfiles.install(SlurmHooks(site, POLICY))
    assert f"Prolog={site.folder}/prolog.site" in outcome.lines
    assert f"exec {own}" in (site.folder / "prolog.site").read_text()
    # slurm.conf no longer tells the site's own, and it must not be lost.
    set_lines(site, outcome.lines)
    assert hookfiles.install(SlurmHooks(site, POLICY)).changed == ()
    with pytest.raises(hookfiles.HooksInUseError) as caught:
        hookfiles.remove(SlurmHooks(site, POLICY))
    assert f"Prolog={own}" in caught.value.lines
    assert site.folder.exists()


def test_a_node_that_does_not_know_the_sites_own_prolog_says_so(site: Site) -> None:
    site.slurm_conf.write_text(f"Prolog={site.folder}/prolog.site\n")
    with pytest.raises(RejectedError, match=r"copy .*prolog\.site from another node"):
        hookfiles.install(SlurmHooks(site, POLICY))
    (finding,) = hookfiles.check(SlurmHooks(site, POLICY))
    assert "copy" in finding.what
    assert not site.folder.exists()


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("*", "50-wnodes"), ("*.sh", "50-wnodes.sh"), ("[0-9]*", "50-wnodes"), ("prolog*", None)],
)
def test_a_folder_of_hooks_gets_a_link_its_pattern_finds(
    site: Site, pattern: str, name: str | None
) -> None:
    folder = own_hook(site, "hooks.d/10-site.sh").parent
    site.slurm_conf.write_text(f"Prolog={folder}/{pattern}\n")
    outcome = hookfiles.install(SlurmHooks(site, POLICY))
    assert not [line for line in outcome.lines if line.startswith("Prolog")]
    link = folder / (name or "prolog-wnodes")
    assert link.readlink() == site.folder / "prolog"
    assert link.resolve().stat().st_mode & 0o111


def test_a_pattern_that_cannot_find_ours_is_said(site: Site) -> None:
    site.slurm_conf.write_text("Epilog=/etc/slurm/site-*\n")
    with pytest.raises(RejectedError, match="finds no name that ours could have"):
        hookfiles.install(SlurmHooks(site, POLICY))


@pytest.mark.parametrize("epilog", ["*", "[a-z]*"])
def test_one_folder_for_prologs_and_epilogs_is_refused(site: Site, epilog: str) -> None:
    """The release of a job's machine would run when the job starts."""
    folder = own_hook(site, "hooks.d/10-site").parent
    site.slurm_conf.write_text(f"Prolog={folder}/*\nEpilog={folder}/{epilog}\n")
    with pytest.raises(RejectedError, match="a folder each"):
        hookfiles.install(SlurmHooks(site, POLICY))


def test_a_pattern_that_finds_only_ours_keeps_it(site: Site) -> None:
    """Slurm drains a node whose pattern finds nothing."""
    folder = own_hook(site, "hooks.d/10-site").parent
    site.slurm_conf.write_text(f"Prolog={folder}/*\nJobSubmitPlugins=throttle\n")
    hookfiles.install(SlurmHooks(site, POLICY))
    (folder / "10-site").unlink()
    with pytest.raises(hookfiles.HooksInUseError) as caught:
        hookfiles.remove(SlurmHooks(site, POLICY))
    assert caught.value.lines == ["(no Prolog= line)"]
    assert (folder / "50-wnodes").is_symlink()


@pytest.mark.parametrize(
    ("plugins", "wanted"),
    [
        ("", "JobSubmitPlugins=lua"),
        ("throttle,logging", "JobSubmitPlugins=lua,throttle,logging"),
        ("lua", None),
        ("throttle,job_submit/lua", None),
    ],
)
def test_other_submit_plugins_stay(site: Site, plugins: str, wanted: str | None) -> None:
    site.slurm_conf.write_text(f"JobSubmitPlugins={plugins}\n" if plugins else "")
    lines = hookfiles.install(SlurmHooks(site, POLICY)).lines
    assert [line for line in lines if line.startswith("Job")] == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    ("plugins", "wanted"),
    [("lua", "(no JobSubmitPlugins= line)"), ("lua,throttle", "JobSubmitPlugins=throttle")],
)
def test_the_plugin_goes_before_its_only_script(site: Site, plugins: str, wanted: str) -> None:
    """slurmctld does not start with the plug-in named and no script there."""
    hookfiles.install(SlurmHooks(site, POLICY))
    site.slurm_conf.write_text(f"JobSubmitPlugins={plugins}\n")
    with pytest.raises(hookfiles.HooksInUseError) as caught:
        hookfiles.remove(SlurmHooks(site, POLICY))
    assert caught.value.lines == [wanted]


def test_a_script_written_over_the_loader_is_found_and_taken_in_again(site: Site) -> None:
    """As the site's configuration management does."""
    site.loader.write_text(SITE_SCRIPT)
    outcome = hookfiles.install(SlurmHooks(site, POLICY))
    set_lines(site, outcome.lines)
    site.loader.write_text("-- newer\n" + SITE_SCRIPT)
    (finding,) = hookfiles.check(SlurmHooks(site, POLICY))
    assert finding.where == str(site.loader)
    assert "image requests are not seen" in finding.what
    hookfiles.install(SlurmHooks(site, POLICY))
    assert hookfiles.check(SlurmHooks(site, POLICY)) == []
    assert site.site_script.read_text().startswith("-- newer")


def test_a_change_of_the_sites_script_makes_slurm_load_again(site: Site) -> None:
    """slurmctld looks at the loader's age alone."""
    site.loader.write_text(SITE_SCRIPT)
    set_lines(site, hookfiles.install(SlurmHooks(site, POLICY)).lines)
    old = site.loader.stat().st_mtime_ns
    site.site_script.write_text("-- changed\n" + SITE_SCRIPT)
    (finding,) = hookfiles.check(SlurmHooks(site, POLICY))
    assert finding.where == str(site.loader)
    time.sleep(0.01)
    assert hookfiles.install(SlurmHooks(site, POLICY)).changed == (str(site.loader),)
    assert site.loader.stat().st_mtime_ns > old


def test_removing_after_the_script_was_written_over_keeps_the_newer(site: Site) -> None:
    site.loader.write_text(SITE_SCRIPT)
    hookfiles.install(SlurmHooks(site, POLICY))
    site.loader.write_text("-- newer\n")
    outcome = hookfiles.remove(SlurmHooks(site, POLICY))
    assert site.loader.read_text() == "-- newer\n"
    assert site.site_script.read_text() == SITE_SCRIPT
    assert [str(site.site_script) in line for line in outcome.left] == [True]


@pytest.mark.parametrize("name", ["prolog", "policy.lua", "hook.py"])
def test_a_file_that_is_not_ours_is_never_overwritten(site: Site, name: str) -> None:
    site.folder.mkdir(parents=True)
    foreign = site.folder / name
    foreign.write_text("#!/bin/sh\necho the site's own\n")
    with pytest.raises(RejectedError, match="not ours"):
        hookfiles.install(SlurmHooks(site, POLICY))
    assert [foreign] == list(site.folder.iterdir())
    assert not site.loader.exists()


def test_a_link_place_that_is_taken_is_left(site: Site) -> None:
    taken = own_hook(site, "hooks.d/50-wnodes")
    site.slurm_conf.write_text(f"Prolog={taken.parent}/*\n")
    with pytest.raises(RejectedError, match="50-wnodes is there already"):
        hookfiles.install(SlurmHooks(site, POLICY))


def test_a_script_already_set_aside_by_someone_else_is_left(site: Site) -> None:
    site.loader.write_text(SITE_SCRIPT)
    site.site_script.write_text("-- who knows\n")
    with pytest.raises(RejectedError, match="move it away"):
        hookfiles.install(SlurmHooks(site, POLICY))
    assert site.site_script.read_text() == "-- who knows\n"


def test_an_install_that_was_interrupted_goes_on(site: Site) -> None:
    """The site's script has its second name, and the loader is not there yet."""
    site.loader.write_text(SITE_SCRIPT)
    hookfiles.install(SlurmHooks(site, POLICY))
    site.loader.unlink()
    os.link(site.site_script, site.loader)
    hookfiles.install(SlurmHooks(site, POLICY))
    assert is_ours(site.loader.read_bytes())
    assert site.site_script.read_text() == SITE_SCRIPT
    assert not [path for path in site.loader.parent.iterdir() if path.name.startswith(".")]


def test_remove_leaves_what_it_does_not_know(site: Site) -> None:
    hookfiles.install(SlurmHooks(site, POLICY))
    (site.folder / "notes").write_text("mine")
    outcome = hookfiles.remove(SlurmHooks(site, POLICY))
    assert outcome.left == (f"{site.folder}/notes: not ours",)
    assert [path.name for path in site.folder.iterdir()] == ["notes"]


def test_check_names_each_difference(site: Site) -> None:
    set_lines(site, hookfiles.install(SlurmHooks(site, POLICY)).lines)
    (site.folder / "hook.py").unlink()
    (site.folder / "prolog").chmod(0o777)
    with (site.folder / "epilog").open("a") as stream:
        stream.write("# more\n")
    site.folder.chmod(0o775)
    found = {
        Path(finding.where).name: finding.what
        for finding in hookfiles.check(SlurmHooks(site, POLICY))
    }
    assert found == {
        "hook.py": "is missing",
        "prolog": "has mode 777, not 755",
        "epilog": "differs from what belongs here",
        "wnodes": "has mode 775, not 755",
    }
    hookfiles.install(SlurmHooks(site, POLICY))
    assert hookfiles.check(SlurmHooks(site, POLICY)) == []


# What versions before baitsocket.py have written beside each batch system's own files.
BEFORE = (
    *("requeue.py", "payload.py", "baitlink.py", "untar.py", "results.py", "guestlink.py"),
    *("streams.py", "watch.py", "starter.py", "lease.py"),
)


@pytest.mark.parametrize(
    ("own", "copied"),
    [
        (("hook.py", "job_submit.lua", "wish.lua"), COPIED),
        (("hook.py", "jsv.py"), gridengine.COPIED),
        (("openpbs.py",), openpbs.COPIED),
        (("hook.py", "submitfilter.py"), torque.COPIED),
    ],
    ids=["slurm", "gridengine", "openpbs", "torque"],
)
def test_over_an_earlier_installation_nothing_stays_behind(
    own: tuple[str, ...], copied: tuple[str, ...]
) -> None:
    """`install` removes nothing: each name of before is one that it still writes."""
    assert {*BEFORE, *own} <= {*copied}


def test_an_earlier_installation_is_brought_up_to_date_and_goes_whole(site: Site) -> None:
    site.folder.mkdir(parents=True)
    for name in (*BEFORE, "hook.py", "job_submit.lua", "wish.lua"):
        (site.folder / name).write_text('"""wnodes-lrms: OLD"""\n')
    hookfiles.install(SlurmHooks(site, POLICY))
    assert not [path for path in site.folder.iterdir() if ": OLD" in path.read_text()]
    assert hookfiles.remove(SlurmHooks(site, POLICY)).left == ()
    assert not site.folder.exists()


def test_what_runs_is_written_after_what_it_imports() -> None:
    """Jobs start and end while `install` writes."""
    for copied in (COPIED, gridengine.COPIED, openpbs.COPIED, torque.COPIED):
        for number, name in enumerate(copied):
            beside = {f"{stem}.py" for stem in imports_of(name)} & {*copied}
            assert beside <= {*copied[:number]}, name


def imports_of(name: str) -> set[str]:
    """The names of modules that one of the copied files imports, wherever in it."""
    text = (resources.folder("hooks") / name).read_text()
    return set(re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE))


def test_a_new_image_changes_only_the_table(site: Site) -> None:
    assert not hookfiles.write_policy(SlurmHooks(site, POLICY))  # no hooks here: nothing is made
    assert not site.folder.exists()
    hookfiles.install(SlurmHooks(site, POLICY))
    assert not hookfiles.write_policy(SlurmHooks(site, POLICY))
    more = Policy([TAG, "other_linux_x86_64"])
    assert hookfiles.write_policy(SlurmHooks(site, more))
    assert hookfiles.install(SlurmHooks(site, more)).changed == ()


def test_the_copied_files_are_those_of_the_project() -> None:
    assert {path.name for path in resources.folder("hooks").iterdir()} >= set(COPIED)


def test_slurm_conf_is_read_as_slurm_reads_it(tmp_path: Path) -> None:
    (tmp_path / "nodes.conf").write_text("NodeName=hv[1-2] \\\n  CPUs=4 Feature=a,wnodes # b\n")
    conf = tmp_path / "slurm.conf"
    conf.write_text(
        "# Prolog=/commented\n"
        "prolog = /first\n"
        'PROLOG="hooks/pro log"  # the last one holds\n'
        "PrologSlurmctld=/other\n"
        "Include nodes.conf\n"
        "JobSubmitPlugins=lua,throttle SlurmctldPort=6817\n"
    )
    read = slurmconf.read(conf)
    assert read.hook("prolog") == f"{tmp_path}/hooks/pro log"
    assert read.hook("epilog") is None
    assert read.submit_plugins == ("lua", "throttle")
    assert read.features == {"a", "wnodes"}


@pytest.mark.parametrize("text", ["Include slurm.conf\n", "include gone.conf\n"])
def test_includes_that_cannot_be_followed(tmp_path: Path, text: str) -> None:
    (tmp_path / "slurm.conf").write_text(text)
    with pytest.raises(ConfigError):
        slurmconf.read(tmp_path / "slurm.conf")


def test_a_node_of_a_configless_slurm_has_what_slurmd_has_fetched(
    site: Site, tmp_path: Path
) -> None:
    set_lines(site, hookfiles.install(SlurmHooks(site, POLICY)).lines)
    fetched = tmp_path / "run" / "slurm.conf"
    fetched.parent.mkdir()
    site.slurm_conf.rename(fetched)
    site.loader.unlink()
    node = dataclasses.replace(site, folder=tmp_path / "node", fetched_conf=fetched)
    text = fetched.read_text().replace(str(site.folder), str(node.folder))
    fetched.write_text(text)
    hooks = SlurmHooks(node, POLICY)
    assert hookfiles.install(hooks).lines == ()
    assert hookfiles.check(hooks) == []
    assert not site.loader.exists()  # it is the controller's
    assert list(fetched.parent.iterdir()) == [fetched]
    fetched.write_text("ClusterName=box\n")
    hookfiles.remove(hooks)
    assert not node.folder.exists()
