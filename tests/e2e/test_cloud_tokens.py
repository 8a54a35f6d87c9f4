"""A cloud user who has a token and no certificate: curl, `wnodes whoami`, accounting, the log."""

import json
import os
import subprocess
from pathlib import Path

from tests.e2e.box import call, wait_until
from tests.e2e.lrms.slurm import the_lease
from tests.e2e.occi import CA_DIR, INFRA, OWN, URL

SITE = Path(os.environ["WNODES_SITE"])
TOKEN = Path(os.environ["BEARER_TOKEN_FILE"])
PLAIN = ("--header", "Content-Type: text/plain")


def curl(*arguments: str) -> str:
    """What curl says; the token comes by a file, as it is for no command line."""
    config = f'header = "Authorization: Bearer {TOKEN.read_text()}"\n'
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "30", "--capath", CA_DIR, "--config", "-", *arguments],
        input=config,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_machine_with_a_token() -> None:
    seen = json.loads(call("wnodes", "whoami", "--json"))
    assert (seen["kind"], seen["fqans"], seen["refused"]) == ("token", ["/testvo"], None)
    subject = seen["subject"]
    request = f"""\
Category: compute; scheme="{INFRA}#"; class="kind"
Category: small_debian_x86_64; scheme="{OWN}os_tpl#"; class="mixin"
Category: small; scheme="{OWN}resource_tpl#"; class="mixin"
"""
    made = curl(*PLAIN, "--data-binary", request, f"{URL}/compute/")
    machine = made.partition(": ")[2].strip()
    try:
        wait_until(lambda: 'occi.compute.state="active"' in curl(machine), 60, curl(machine))
        assert curl("--header", "Accept: text/uri-list", f"{URL}/compute/").split() == [machine]
        [row] = json.loads(call("wnodes", "cloud", "list", "--json"))
        assert (row["state"], f"{URL}/compute/{row['id']}") == ("active", machine)
        assert the_lease().field("UserId").startswith("clouduser(")
        usages = json.loads(call("wnodes", "accounting", "list", "--json"))
        assert [u["fqan"] for u in usages if u["dn"] == subject and not u["ended"]] == ["/testvo"]
    finally:
        curl("--fail", "--request", "DELETE", machine)
    assert "nothing at" in curl(machine)
    log = (SITE / "log" / "bridge.log").read_text()
    assert f'allowed: sub="{subject}" fqans="/testvo" address=127.0.0.1' in log
    assert not any(part in log for part in TOKEN.read_text().split("."))
