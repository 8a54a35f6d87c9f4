"""The service of cloud users, attacked over its own HTTPS."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from contrib.site.box.ca import Authority, new_key
from contrib.site.box.grid import BASE, Grid
from contrib.site.box.layout import layout
from tests.attributecertificates import fat_proxy
from tests.chaos.site import Box
from tests.e2e.box import wait_until
from tests.e2e.occi import INFRA, URL, Cloud, context

GRID = Grid(layout())
_LOWER = f'"{BASE}/OU=People/CN=Ren\\xc3\\xa9"'


@contextmanager
def also(file: Path, line: str) -> Iterator[None]:
    """One line more in one of the site's files while this lasts."""
    before = file.read_bytes()
    try:
        file.write_bytes(before + line.encode() + b"\n")
        yield
    finally:
        file.write_bytes(before)


def test_a_ban_holds_however_the_name_is_spelled(tmp_path: Path) -> None:
    """A banned user gets in, as their name was written with other escapes than the log has."""
    rene = Authority.load(GRID.ca).issue(f"{BASE}/OU=People/CN=René")
    rene.write_bundle(tmp_path / "rene.pem")
    cloud = Cloud(tmp_path / "rene.pem")

    def status() -> int:
        return cloud.ask("GET", "/compute/").status_code

    with also(GRID.grid_mapfile, f"{_LOWER} clouduser"):
        wait_until(lambda: status() == 200, 10, "the user has an account")
        with also(GRID.ban_file, _LOWER):
            wait_until(lambda: status() == 403, 10, "the ban holds")
            assert "banned" in cloud.ask("GET", "/compute/").text
        wait_until(lambda: status() == 200, 10, "the ban is lifted")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_site(bob: Cloud, headers: dict[str, str]) -> None:
    """A page that a user looks at makes and deletes what their certificate may."""
    network = f'network; scheme="{INFRA}#"; class="kind"'
    form = {
        "content": f"Category: {network}\n",
        "headers": headers | {"Content-Type": "text/plain"},
    }
    for path in ("/network/", "/"):
        answer = bob.ask("POST", path, **form)
        assert (answer.status_code, "another site" in answer.text) == (403, True)
    before = bob.locations("/network/")
    mine = bob.create("network", {})
    assert bob.ask("DELETE", mine, headers=headers).status_code == 403
    assert set(bob.locations("/network/")) == {*before, mine}


def connections(pid: int) -> int:
    """How many sockets the bridge's processes hold."""
    tree = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    links = [link for each in tree for link in Path(f"/proc/{each}/fd").iterdir()]
    found = 0
    for link in links:
        with suppress(FileNotFoundError):
            found += str(link.readlink()).startswith("socket:")
    return found


def test_certificates_as_large_as_a_chain_may_be(daemons: Box, tmp_path: Path) -> None:
    """Anybody with a trusted certificate fills the service with connections that are dead."""
    stranger = Authority.load(GRID.ca).issue(f"{BASE}/OU=People/CN=Stranger", key=new_key())
    fat_proxy(stranger, 90_000).write_bundle(tmp_path / "fat.pem")
    made = context(tmp_path / "fat.pem")
    before = connections(daemons.pid("bridge"))
    for _ in range(20):
        with httpx.Client(base_url=URL, verify=made, trust_env=False) as client:
            assert client.get("/compute/").status_code == 403
    wait_until(lambda: connections(daemons.pid("bridge")) <= before, 15, "all are closed")
    fat_proxy(stranger, 110_000).write_bundle(tmp_path / "fat.pem")
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{URL}/compute/", verify=context(tmp_path / "fat.pem"), trust_env=False)


def test_networks_without_end(bob: Cloud) -> None:
    """A cloud user fills the database, of what no quota counts."""
    for _ in range(2):
        bob.create("network", {})
    answer = bob.ask("POST", "/network/", {"kind": f"{INFRA}#network"})
    assert (answer.status_code, "quota of networks: 2 used" in answer.text) == (403, True)
