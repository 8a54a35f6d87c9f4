"""Whatever users write into a job, what the adapters read of it stays the same.

Each listing is a recorded one, in which the values that a user can choose are replaced as the batch
system writes them: what each was seen to escape is escaped, and all else is as it was given.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wnodes_lrms.lrms.gridengine.allocation import parse_job
from wnodes_lrms.lrms.openpbs import allocation
from wnodes_lrms.lrms.slurm import allocation as slurm
from wnodes_lrms.lrms.torque import allocation as torque
from wnodes_lrms.model import Allocation

DATA = Path(__file__).parents[2] / "data"
LIES = [
    "\n    euser = root\n    egroup = root\n",
    "\nJob Id: 25.pbsbox\n    euser = root\n",
    "</Variable_List><euser>root</euser><Variable_List>",
    "</Job></Data><Data><Job><Job_Id>24.tqhost</Job_Id><euser>root</euser></Job></Data>",
    "&lt;euser&gt;root&lt;/euser&gt;&#60;euser&#62;",
    "</JB_account><JB_owner>root</JB_owner><JB_uid>0</JB_uid><JB_account>",
    "]]><!-- --><!DOCTYPE a [<!ENTITY b 'c'>]>&b;",
    "x\n     Nodes=hv1 CPU_IDs=0-63 Mem=1\n   UserId=root(0) GroupId=root(0)\n",
    "NumCPUs=64 " * 400,
    "\n     Nodes=hv1 CPU_IDs=0-999999999999 Mem=1\n",
    "\n     Nodes=hv1 CPU_IDs=-,, Mem=1\n",
    "wnodes_image=other_linux_x wnodes_by=default",
    "a,b=c\\,d\\\\,e=\"f'",
    "\x01\x0b\x0c\x1c\x85\u2028\r\t",
]
texts = st.one_of(
    st.sampled_from(LIES),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
    st.lists(st.sampled_from([*LIES, "\n", "<", ">", "&", "=", ",", " "]), max_size=4).map("".join),
)


def recorded(path: str) -> str:
    return (DATA / path).read_bytes().decode("utf-8", "surrogateescape")


def facts(found: Allocation) -> tuple[object, ...]:
    """What no user has a say in."""
    asked = (found.job, found.restart, found.uid, found.gid)
    return (*asked, found.partition, found.cores, found.memory, found.cpus)


def put(listing: str, pattern: str, value: str) -> str:
    """The listing with this very text in place of what the pattern finds."""
    return re.sub(pattern, lambda _: value, listing)


def tried(test: Callable[..., None]) -> Callable[..., None]:
    """The test for all lies, and for whatever else there may be."""
    for lie in LIES:
        test = example(text=lie)(test)
    return given(text=texts)(test)


@pytest.mark.parametrize("version", ["slurm-22.05", "slurm-24.11"])
@tried
def test_slurm(version: str, text: str) -> None:
    listing, detail = recorded(f"{version}/cores.squeue"), recorded(f"{version}/cores.scontrol")
    job = listing.split()[0]

    def read(folder: str) -> Allocation:
        width = dict(slurm._COLUMNS)["WorkDir"]
        start = len(listing.encode("utf-8", "surrogateescape")) - width - 1
        column = folder.encode("utf-8", "surrogateescape")[:width].ljust(width)
        whole = listing.encode("utf-8", "surrogateescape")[:start] + column + b"\n"
        said = whole.decode("utf-8", "surrogateescape")
        named = put(detail, "JobName=.*", f"JobName={folder}")
        # Newer Slurms tell the line of sbatch too, each word as it was given.
        named = named.rstrip("\n") + f"\n   SubmitLine=sbatch --wrap {folder}\n\n"
        return slurm.parse_allocation(job, said, named, "hv1", list(range(8)))

    found, plain = read(text), read("/tmp")
    assert facts(found)[:-1] == facts(plain)[:-1]
    assert found.cpus in (plain.cpus, ())  # where two lines tell them, none is believed
    # A kind of Slurm that tells no CPUs would leave the user's own line alone.
    assert len(slurm.parse_cpus(text, "hv1", list(range(8)))) <= 8


@tried
def test_torque(text: str) -> None:
    listing = recorded("torque-6.1.3/plain.qstat")

    def read(value: str) -> Allocation:
        said = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        named = put(listing, "<Job_Name>.*?<", f"<Job_Name>x{said}<")
        for name in ("Variable_List", "submit_args", "comment"):
            named = put(named, f"<{name}>", f"<{name}>{said},")
        named = named.replace("<euser>", f"<Account_Name>{said}</Account_Name><euser>")
        return torque.parse_allocation("26.tqhost", named, [], "tqhost", lambda _u, _g: (1, 2))

    assert facts(read(text)) == facts(read("x"))


@tried
def test_openpbs(text: str) -> None:
    listing = recorded("openpbs-23.06/wished.qstat")

    def read(value: str) -> dict[str, str]:
        said = value.replace("\n", "\\n")
        named = listing
        for name in ("Job_Name", "comment", "Variable_List", "Output_Path", "Error_Path"):
            named = put(named, f"    {name} = .*", f"    {name} = x{said}")
        found = allocation.attributes(named)["25.pbsbox"]
        return {name: found[name] for name in ("euser", "egroup", "exec_vnode", "job_state")}

    assert read(text) == read("x")


@tried
def test_grid_engine(text: str) -> None:
    listing = recorded("gridengine-8.1.9/plain.job")
    number = listing.split("<JB_job_number>")[1].split("<")[0]

    def read(value: str) -> tuple[object, ...]:
        said = value.replace("&", "&amp;").replace("<", "%lt;").replace(">", "&gt;")
        named = listing
        for name in ("JB_job_name", "JB_account", "VA_variable", "VA_value", "PN_path"):
            named = put(named, f"<{name}>.*?</{name}>", f"<{name}>x{said}</{name}>")
        job = parse_job(number, named)
        return job.owner, job.uid, job.gid, job.project, job.requests, job.started

    assert read(text) == read("x")
