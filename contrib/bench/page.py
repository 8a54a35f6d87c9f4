"""What the page answers in how long, and how much a browser loads for its first sight of it.

The bridge is one of its own, as in occi.py; a user with a token of the site's has twenty VMs there,
and a session.
"""

import json
import os
import re
import time
from base64 import urlsafe_b64decode
from pathlib import Path

import httpx

from contrib.bench import occi
from contrib.bench.load import Credential, get
from occi_bridge.page import cookies
from occi_bridge.store.database import Database
from occi_bridge.store.sessions import Session, Sessions
from wnodes_lrms.tls.client import trusting

_VMS = 20
_SECONDS = 5.0  # of each run
_ROUNDS = 3
_CONNECTIONS = 4


def answers() -> dict[str, list[float]]:
    """Requests a second, by what is asked; and the bytes of the first paint."""
    samples: dict[str, list[float]] = {}
    ca_dir, token = os.environ["X509_CERT_DIR"], Path(os.environ["BEARER_TOKEN_FILE"]).read_text()
    with occi.bridge() as served:
        page = served.page
        occi.Created(served.url, token)(_VMS)
        cookie = f"{cookies.SESSION}={_session(served.database, token)}"
        with httpx.Client(
            base_url=page, verify=trusting(ca_dir), headers={"Cookie": cookie}
        ) as client:
            first = client.get("/").raise_for_status()
            if first.text.count('<th scope="row">') != _VMS:
                raise RuntimeError("the page does not list what was made")
            files = set(re.findall('/static/[^"]+', first.text))
            bodies = [first, *(client.get(path).raise_for_status() for path in files)]
            tag = client.get("/vms").raise_for_status().headers["etag"]
        samples["bytes of the first paint"] = [float(sum(len(each.content) for each in bodies))]
        asked = {
            f"the whole page with {_VMS} VMs": ("/", {}),
            f"the list of {_VMS} VMs": ("/vms", {}),
            "the list, unchanged": ("/vms", {"If-None-Match": tag}),
        }
        for _ in range(_ROUNDS):
            for what, (path, more) in asked.items():
                who = Credential("", ca_dir, headers={"Cookie": cookie, **more})
                run = get(page + path, _SECONDS, _CONNECTIONS, who)
                samples.setdefault(f"{what}: GETs a second", []).append(run.rate)
                p99 = run.percentile(0.99) * 1000
                samples.setdefault(f"{what}: p99, ms", []).append(p99)
    return samples


def _session(database: str, token: str) -> str:
    """A session of the token's user, as if they had logged in at its issuer."""
    payload = token.split(".")[1]
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    subject, groups = f"{claims['iss']}#{claims['sub']}", tuple(claims.get("wlcg.groups", ()))
    db = Database(database)
    try:
        return Sessions(db).open(Session(subject, time.time(), groups=groups), None)
    finally:
        db.close()
