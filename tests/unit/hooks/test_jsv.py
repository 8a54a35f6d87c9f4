"""jsv.py, spoken to as a qmaster of Grid Engine 8.1.9 does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wnodes_lrms.config.load import Allow, Default
from wnodes_lrms.lrms.gridengine.hookplan import policy_file
from wnodes_lrms.lrms.hookset import Site
from wnodes_lrms.policy import Policy

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).parents[3] / "hooks" / "jsv.py"
TAG = "small_debian_x86_64"
OTHER = "secret_debian_x86_64"
PARALLEL = {"smp": "$pe_slots", "wide": "1", "round": "$round_robin", "four": "4"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    policy = Policy(
        [TAG, OTHER],
        [Default(image=TAG, account="physics"), Default(image=TAG, partition="grid")],
        [Allow(image=OTHER, users=("alice",), accounts=("lab",))],
        ["cloud*"],
    )
    site = Site(tmp_path, "/run/%n", 2)
    (tmp_path / "policy.json").write_bytes(policy_file(site, policy, PARALLEL).content)
    return tmp_path


def ask(folder: Path, *jobs: dict[str, str]) -> list[list[str]]:
    """What it answers to each of these jobs, one after the other; names with $ are variables."""
    lines = []
    for job in jobs:
        lines.append("START")
        for name, value in {"CONTEXT": "server", "USER": "bob", **job}.items():
            lines.append(
                f"ENV ADD {name[1:]} {value}" if name[0] == "$" else f"PARAM {name} {value}"
            )
        lines.append("BEGIN")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), str(folder)],
        input="\n".join([*lines, "QUIT", ""]).encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=True,
        timeout=20,
    )
    answers = done.stdout.decode().split("SEND ENV\nSTARTED\n")[1:]
    assert len(answers) == len(jobs)
    return [answer.splitlines() for answer in answers]


@pytest.mark.parametrize(
    ("job", "answer"),
    [
        ({}, ["RESULT STATE ACCEPT"]),
        ({"l_hard": "mem_free=1G", "$ODD": "vm=x", "N": "vm"}, ["RESULT STATE ACCEPT"]),
        (
            {"$WNODES_IMAGE": TAG},
            ["PARAM l_hard wnodes=true", "RESULT STATE CORRECT"],
        ),
        (
            {"l_hard": f"mem_free=1G,vm={TAG}"},
            [
                f"PARAM l_hard mem_free=1G,vm={TAG},wnodes=true",
                f"ENV ADD WNODES_IMAGE {TAG}",
                "RESULT STATE CORRECT",
            ],
        ),
        (
            {"P": "physics"},
            [
                "PARAM l_hard wnodes=true",
                f"ENV ADD WNODES_IMAGE {TAG}",
                "RESULT STATE CORRECT",
            ],
        ),
        ({"$WNODES_IMAGE": OTHER, "USER": "alice"}, None),
        ({"$WNODES_IMAGE": OTHER, "P": "lab"}, None),
        ({"$WNODES_IMAGE": TAG, "pe_name": "smp", "pe_max": "8"}, None),
        ({"$WNODES_IMAGE": TAG, "pe_name": "four", "pe_max": "4"}, None),
        ({"$WNODES_IMAGE": TAG, "pe_name": "unknown", "pe_max": "4"}, None),
    ],
)
def test_what_is_taken(folder: Path, job: dict[str, str], answer: list[str] | None) -> None:
    (said,) = ask(folder, job)
    if answer is None:
        assert said == ["PARAM l_hard wnodes=true", "RESULT STATE CORRECT"]
    else:
        assert said == answer


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"$WNODES_IMAGE": "nosuch_linux_x86_64"}, f"there are: {OTHER}, {TAG}"),
        ({"l_hard": "vm=nosuch_linux_x86_64"}, "no image nosuch_linux_x86_64"),
        ({"$WNODES_IMAGE": "x; rm -rf /"}, "x; rm -rf / is no image"),
        ({"$WNODES_IMAGE": "a\udcff\tb"}, "is no image"),
        ({"$WNODES_IMAGE": TAG, "l_hard": f"vm={OTHER}"}, "different images"),
        ({"l_soft": f"vm={TAG}"}, "-soft"),
        ({"$WNODES_IMAGE": OTHER}, f"you may not use the image {OTHER}"),
        ({"$WNODES_IMAGE": TAG, "pe_name": "wide", "pe_max": "2"}, "$pe_slots"),
        ({"$WNODES_IMAGE": TAG, "pe_name": "round", "pe_max": "2"}, "$pe_slots"),
        ({"$WNODES_IMAGE": TAG, "$QRSH_PORT": "vm:1"}, "qsub"),
        ({"P": "physics", "$QRSH_PORT": "vm:1"}, "qsub"),
        ({"N": "wnodes-lease-x", "USER": "cloud1", "CMDNAME": "/bin/sh"}, "those of leases"),
        ({"N": "wnodes-lease-x", "CMDNAME": "LEASE"}, "leases do not run as bob"),
        (
            {"N": "wnodes-lease-x", "USER": "cloud1", "CMDNAME": "LEASE", "$WNODES_IMAGE": TAG},
            "names no",
        ),
    ],
)
def test_what_is_refused(folder: Path, job: dict[str, str], words: str) -> None:
    if job.get("CMDNAME") == "LEASE":
        job = job | {"CMDNAME": str(folder / "wnodes-lease")}
    (said,) = ask(folder, job)
    assert said[-1].startswith("RESULT STATE REJECT wnodes: ")
    assert words in said[-1]


def test_a_lease_passes_untouched(folder: Path) -> None:
    lease = {"N": "wnodes-lease-1", "USER": "cloud1", "CMDNAME": str(folder / "wnodes-lease")}
    assert ask(folder, lease) == [["RESULT STATE ACCEPT"]]


def test_one_job_is_not_mixed_up_with_the_next(folder: Path) -> None:
    wish, plain = ask(folder, {"$WNODES_IMAGE": TAG, "l_hard": "vm=" + TAG}, {})
    assert wish[-1] == "RESULT STATE CORRECT"
    assert plain == ["RESULT STATE ACCEPT"]


def test_a_broken_table_keeps_only_wishes_out(folder: Path) -> None:
    (folder / "policy.json").write_text(json.dumps({"tags": 1}))
    wish, plain = ask(folder, {"$WNODES_IMAGE": TAG}, {"l_hard": "mem_free=1G"})
    assert wish[-1].startswith("RESULT STATE REJECT wnodes: VMs cannot be given")
    assert wish[0].startswith("LOG ERROR wnodes: ")
    assert plain == ["RESULT STATE ACCEPT"]
