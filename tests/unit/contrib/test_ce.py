"""What contrib/ce puts into computing elements, run by ARC's own scripts, and as BLAH runs it."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.conftest import TAG

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
CE = ROOT / "contrib" / "ce"
ARC = Path("/usr/share/arc")

# ARC's back ends: the batch system's command, its option that says where it is, and its answer.
BACK_ENDS = {
    "SLURM": ("sbatch", "slurm_bin_path", "Submitted batch job 7"),
    "sge": ("qsub", "sge_bin_path", 'Your job 7 ("x") has been submitted'),
    "pbs": ("qsub", "pbs_bin_path", "7.server"),
    "pbspro": ("qsub", "pbs_bin_path", "7.server"),
}
LINES = {
    "SLURM": f"#SBATCH  --constraint=vm_{TAG}",
    "sge": f"#$ -l vm={TAG}",
    "pbs": f"#PBS -l other=vm:{TAG}",
    "pbspro": f"#PBS -l vm={TAG}",
}
OTHER = "other_debian_x86_64"
CONFIGURATION = """\
[common]
[lrms]
lrms={lrms}
{option}={folder}/bin
{more}
[arex]
controldir={folder}/control
[queue:main]
"""
GRAMI = """\
joboption_directory='{folder}/session'
joboption_controldir='{folder}/control'
joboption_gridid='abc'
joboption_arg_0='job.sh'
joboption_queue='main'
joboption_count='1'
joboption_stdout='{folder}/session/out'
joboption_stderr='{folder}/session/err'
"""


class Arc:
    """One of ARC's submit scripts, with a command that keeps the job's script."""

    def __init__(self, folder: Path, lrms: str) -> None:
        command, option, answer = BACK_ENDS[lrms]
        for name in ("bin", "session", "control/rte/enabled/ENV/VM"):
            (folder / name).mkdir(parents=True)
        self.folder, self._lrms = folder, lrms
        self._rtes = folder / "control/rte/enabled/ENV/VM"
        self._program("session/job.sh", "")
        # The script is the last word, or standard input.
        keep = "for last; do :; done; case $last in *_job_script*) ;; *) last=- ;; esac\n"
        keep += f"cat -- \"$last\" >{folder}/kept; echo '{answer}'"
        self._program(f"bin/{command}", keep)
        self._program("bin/qconf", "")
        more = "sge_root=/nowhere" if lrms == "sge" else ""
        self._conf = folder / "arc.conf"
        self._conf.write_text(
            CONFIGURATION.format(lrms=lrms.lower(), option=option, folder=folder, more=more)
        )
        subprocess.run(
            [
                *("/usr/lib/arc/arcconfig-parser", "--config", str(self._conf)),
                *("--runconfig", str(self._conf), "--save"),
            ],
            check=True,
        )

    def _program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def offer(self, tag: str) -> None:
        """Enable the runtime environment of an image."""
        text = (CE / "arc" / "vm.in").read_text()
        (self._rtes / tag).write_text(text.replace("@TAG@", tag))

    def submit(self, *more: str) -> str:
        """The job's script, with more lines in the job's description. ValueError with the log."""
        grami = self.folder / "control" / "job.abc.grami"
        grami.write_text("".join([GRAMI.format(folder=self.folder), *(f"{m}\n" for m in more)]))
        kept = self.folder / "kept"
        kept.unlink(missing_ok=True)
        done = subprocess.run(
            [str(ARC / f"submit-{self._lrms}-job"), "--config", str(self._conf), str(grami)],
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise ValueError(done.stdout + done.stderr)
        return kept.read_text()


@pytest.fixture(params=BACK_ENDS)
def arc(request: pytest.FixtureRequest, tmp_path: Path) -> Arc:
    """Each back end, where one image is offered."""
    new = Arc(tmp_path, request.param)
    new.offer(TAG)
    return new


def _asks(script: str) -> list[str]:
    """The script's lines to the batch system that speak of a machine."""
    return [line for line in script.splitlines() if re.match(r"#(SBATCH|PBS|\$).*vm[_=:]", line)]


def test_arc_asks_for_the_machine(arc: Arc, request: pytest.FixtureRequest) -> None:
    lrms = request.node.callspec.params["arc"]
    script = arc.submit(f"joboption_runtime_0='ENV/VM/{TAG}'")
    assert _asks(script) == [LINES[lrms]]
    # Slurm and PBS read no further than to the first line that is a command.
    assert script.index(LINES[lrms]) < script.index("\numask")
    assert re.search(r"^#(SBATCH -p|PBS -q|\$ -q) main$", script, re.MULTILINE)


def test_arc_asks_for_nothing_in_a_plain_job(arc: Arc) -> None:
    script = arc.submit()
    assert "job.sh" in script
    assert _asks(script) == []


def test_arguments_of_the_runtime_environment_are_not_looked_at(
    arc: Arc, request: pytest.FixtureRequest
) -> None:
    asked = f"joboption_runtime_0='ENV/VM/{TAG}'"
    words = ["0", OTHER, "$(touch TRACE)", "`touch TRACE`", "; touch TRACE", "--constraint=x"]
    arguments = [f"joboption_runtime_0_{n}='{word}'" for n, word in enumerate(words, 1)]
    assert _asks(arc.submit(asked, *arguments)) == [LINES[request.node.callspec.params["arc"]]]
    assert not list(arc.folder.rglob("TRACE"))


def test_what_other_runtime_environments_have_set_stays(tmp_path: Path) -> None:
    arc = Arc(tmp_path, "SLURM")
    arc.offer(TAG)
    script = arc.submit(
        "joboption_nodeproperty_0='--comment=a'",
        "joboption_nodeproperty_1='--exclusive'",
        f"joboption_runtime_0='ENV/VM/{TAG}'",
    )
    assert _asks(script) == [f"#SBATCH  --comment=a --exclusive --constraint=vm_{TAG}"]


def test_one_image_a_job(arc: Arc) -> None:
    arc.offer(OTHER)
    asked = [f"joboption_runtime_{n}='ENV/VM/{tag}'" for n, tag in enumerate((TAG, TAG))]
    arc.submit(*asked)
    with pytest.raises(ValueError, match=f"wnodes: a job runs in one VM, not in {TAG} and"):
        arc.submit(*asked, f"joboption_runtime_2='ENV/VM/{OTHER}'")


@pytest.mark.parametrize(
    ("lrms", "line"), [("pbs", "nodes=1:ppn=4"), ("pbspro", "select=1:ncpus=4:mem=2000mb")]
)
def test_several_cores_are_on_one_node(lrms: str, line: str, tmp_path: Path) -> None:
    """With `countpernode`, as docs/ce.md has users write it; A-REX counts the nodes."""
    arc = Arc(tmp_path, lrms)
    cores = ("count='4'", "countpernode='4'", "numnodes='1'", "memory='500'")
    assert f"#PBS -l {line}\n" in arc.submit(*(f"joboption_{words}" for words in cores))


def test_arc_asks_openpbs_for_less_than_no_memory(tmp_path: Path) -> None:
    """ARC 6.17.0. Where this fails ARC is mended: the paragraph in docs/ce.md can go."""
    script = Arc(tmp_path, "pbspro").submit("joboption_memory='500'")
    assert "#PBS -l select=1:ncpus=1:mem=-500mb\n" in script


def test_an_image_that_is_not_offered(arc: Arc) -> None:
    with pytest.raises(ValueError, match=f"ENV/VM/{OTHER} is missing, broken or not enabled"):
        arc.submit(f"joboption_runtime_0='ENV/VM/{OTHER}'")


def test_a_back_end_that_has_no_machines() -> None:
    text = (CE / "arc" / "vm.in").read_text().replace("@TAG@", TAG)
    stage = f"joboption_lrms=ll; rte() {{\n{text}\n}}; rte "
    assert subprocess.run(["sh", "-c", stage + "1"]).returncode == 0
    done = subprocess.run(["sh", "-c", stage + "0"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "wnodes: there are no VMs through ARC's back end ll\n"


def documented(lrms: str) -> str:
    """The line that docs/ce.md has an administrator add to BLAH's file, with our script's path."""
    page = (ROOT / "docs" / "ce.md").read_text()
    found = re.search(rf"_local_submit_attributes.sh` \| `(.* {lrms} .*)` \|", page)
    assert found
    return found[1].replace("/etc/blahp/wnodes-vm", str(CE / "htcondor-ce" / "wnodes-vm"))


def blah(lrms: str, folder: Path, assignment: str) -> str:
    """What BLAH appends to the job's script: it writes down the job's attributes, sources the
    site's file, and takes standard output (blah_common_submit_functions.sh, BLAH 1.19). HTCondor's
    (25.14) refuses the job where that ends with another exit code than 0.
    """
    site = folder / "local_submit_attributes.sh"
    site.write_text(f"#!/bin/bash\necho '# the site'\n{documented(lrms)}\n")
    asked = folder / "temp_req_script"
    asked.write_text(f"#!/bin/bash\n{assignment}\nblah_opt_mpinodes=1\nsource {site}\n")
    asked.chmod(0o755)
    done = subprocess.run(
        [str(asked)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert done.returncode == 0
    return done.stdout.removeprefix("# the site\n")


BLAH_LINES = {
    "slurm": "#SBATCH --constraint=vm_{}\n",
    "openpbs": "#PBS -l vm={}\n",
    "torque": "#PBS -l other=vm:{}\n",
    "gridengine": "#$ -l vm={}\n",
}


@pytest.mark.parametrize("lrms", BLAH_LINES)
@pytest.mark.parametrize("tag", [TAG, "a.b-c_d_e"])
def test_blah_asks_for_the_machine(lrms: str, tag: str, tmp_path: Path) -> None:
    """As a ClassAd's text from CERequirements, and as a submit attribute that is passed."""
    wanted = BLAH_LINES[lrms].format(tag)
    assert blah(lrms, tmp_path, f"WantVM='\"{tag}\"'") == wanted
    assert blah(lrms, tmp_path, f"WantVM='{tag}'") == wanted


@pytest.mark.parametrize("lrms", BLAH_LINES)
@pytest.mark.parametrize("assignment", ["", "WantVM=''", "WantVM='\"\"'"])
def test_blah_asks_for_nothing_in_a_plain_job(lrms: str, assignment: str, tmp_path: Path) -> None:
    assert blah(lrms, tmp_path, assignment) == ""


@pytest.mark.parametrize("lrms", BLAH_LINES)
@pytest.mark.parametrize(
    "asked",
    [
        *("vm", "a_b", "__", "A_B_C", "_a_b_c", "a_b_c d", "a_b_c;e", "a_b_$(touch TRACE)"),
        *("a_b_c\n#SBATCH --uid=0", "`touch TRACE`", "a_b_c,other", "é_b_c", "a_b_c&d", "-a_b_c"),
    ],
)
def test_what_is_no_tag_is_refused_by_the_batch_system(
    lrms: str, asked: str, tmp_path: Path
) -> None:
    """And is not run on the node, nor does it say anything else to the batch system."""
    assert blah(lrms, tmp_path, f"WantVM='{asked}'") == BLAH_LINES[lrms].format("not-a-tag")
    assert not (tmp_path / "TRACE").exists()


def test_a_slip_in_blahs_file_is_heard() -> None:
    """HTCondor's BLAH (25.14) refuses the job then; BLAH 1.19 runs it on the node."""
    argv = [str(CE / "htcondor-ce" / "wnodes-vm"), "pbs", TAG]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no batch system «pbs»" in done.stderr
