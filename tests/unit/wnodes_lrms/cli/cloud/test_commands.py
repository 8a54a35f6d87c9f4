"""The commands of `wnodes cloud` at a bridge over TLS, with baits in memory behind it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from contrib.site.box.ca import Authority, proxy
from tests.unit import ca, issuers
from tests.unit.ca import BASE
from tests.unit.conftest import eventually
from tests.unit.issuers import LocalIssuer
from tests.unit.wnodes_lrms.cli.cloud import at_a_bridge
from tests.unit.wnodes_lrms.cli.cloud.at_a_bridge import Cloud, interrupt
from wnodes_lrms.cli.cloud import waiting

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

grid, issuer, cloud = ca.grid, issuers.issuer, at_a_bridge.cloud
IMAGE = ("--image", "small", "--size", "small")


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_PAUSE", 0.05)


def test_a_vm_from_its_beginning_to_its_end(cloud: Cloud) -> None:
    made = cloud("create", "web", *IMAGE, "--wait")
    vm = made.out.strip()
    assert (made.status, made.err.splitlines()[-1].split()[-1]) == (0, "active")
    [row] = cloud("list", "--json").rows
    expected = {"id": vm, "name": "web", "state": "active", "hostname": "web", "cores": 1}
    expected |= {"image": "small_linux_x86_64", "size": "small", "memory": 512}
    assert row.items() >= expected.items()
    assert row["address"] == row["networks"][0]["address"] == "10.0.0.9"
    assert cloud("show", vm[:5], "--json").rows == [row]
    shown = cloud.good("show", "web")
    assert "512 MiB" in shown
    assert "public eth0 10.0.0.9 " in shown

    assert cloud("stop", "web", "--wait").status == 0
    assert cloud("list", "--json").rows[0]["state"] == "inactive"
    [started] = cloud("start", "web", "--wait", "--json").rows
    assert (started["id"], started["state"]) == (vm, "active")
    assert cloud("list", "--json").rows == [started]
    assert cloud.good("delete", vm) == ""
    assert cloud("list", "--json").rows == []
    gone = cloud("show", vm)
    assert (gone.status, gone.err) == (4, f"there is no VM «{vm}»: there is no VM at all\n")


def test_what_there_is(cloud: Cloud) -> None:
    images, sizes = cloud("images", "--json").rows, cloud("sizes", "--json").rows
    assert {row["name"] for row in images} == {"small_linux_x86_64", "big_linux_x86_64"}
    assert sizes == [{"name": "small", "title": "1 core and 512 MiB"}]
    assert "1 core and 512 MiB" in cloud.good("sizes")
    assert [row["name"] for row in cloud("networks", "--json").rows] == ["public", "private"]
    assert cloud("volumes", "list", "--json").rows == []


def test_volumes_come_and_go(cloud: Cloud) -> None:
    vm = cloud.good("create", "web", *IMAGE, "--wait")
    volume = cloud.good("volumes", "create", "data", "--size", "1.5")
    [disk] = cloud("volumes", "attach", "data", "web", "--wait", "--json").rows
    assert (disk["volume"], disk["device"], disk["state"]) == (volume, "/dev/vdc", "active")
    [row] = cloud("volumes", "--json").rows
    assert (row["id"], row["name"], row["size"], row["vm"]) == (volume, "data", 2, vm)
    assert cloud("show", "web", "--json").rows[0]["volumes"][0]["volume"] == volume
    held = cloud("volumes", "delete", "data")
    assert (held.status, held.err.startswith("conflict: ")) == (5, True)
    cloud.good("volumes", "detach", "data", "web", "--wait")
    assert cloud("volumes", "detach", "data", "web").status == 4
    cloud.good("volumes", "delete", "data")
    [more] = cloud("volumes", "create", "more", "--size", "1", "--wait", "--json").rows
    assert more["state"] == "online"
    with_it = more["id"]
    other = cloud.good("create", *IMAGE, "--volume", "more", "--network", "private")
    [row] = cloud("show", other, "--json").rows
    assert [disk["volume"] for disk in row["volumes"]] == [with_it]
    assert [card["network"] for card in row["networks"]] == ["private"]


def test_a_volume_is_copied_resized_and_kept_back(cloud: Cloud) -> None:
    volume = cloud.good("volumes", "create", "data", "--size", "1")
    eventually(lambda: cloud("volumes", "--json").rows[0]["state"] == "online")
    cloud.good("volumes", "offline", "data")
    assert cloud("volumes", "--json").rows[0]["state"] == "offline"
    cloud.good("volumes", "online", "data")
    cloud.good("volumes", "resize", "data", "--size", "2")
    eventually(lambda: cloud("volumes", "--json").rows[0]["message"] == "")
    assert cloud("volumes", "--json").rows[0]["size"] == 2
    assert cloud("volumes", "resize", "data", "--size", "1").status == 1
    [made] = cloud("volumes", "snapshot", "data", "monday", "--wait", "--json").rows
    assert (made["name"], made["state"]) == ("monday", "online")
    copy = made["id"]
    row = next(row for row in cloud("volumes", "--json").rows if row["id"] == copy)
    assert (row["name"], row["size"], row["state"]) == ("monday", 2, "online")
    assert (row["copy_of"], row["consistency"]) == (volume, "offline")
    assert row["copied"] == "2001-09-09T01:46:40Z"


def test_networks_come_and_go(cloud: Cloud) -> None:
    cloud.good("create", "web", *IMAGE, "--wait")
    ranges = ("--address", "10.7.0.0/24", "--address6", "fd12::/64")
    cloud.good("networks", "create", "mine", *ranges)
    row = next(row for row in cloud("networks", "list", "--json").rows if row["name"] == "mine")
    assert (row["of"], row["address"], row["address6"]) == ("you", "10.7.0.0/24", "fd12::/64")
    assert cloud.good("networks", "attach", "mine", "web", "--wait").startswith("10.7.0.")
    said = cloud.good("show", "web")
    assert re.search(r" eth1 10\.7\.0\.\d+ fd12::5054:ff:fe\S+ 52:54:00", said), said
    assert cloud("networks", "delete", "mine").status == 5
    cloud.good("networks", "detach", "mine", "web")
    eventually(lambda: cloud("networks", "delete", "mine").status == 0)
    site = cloud("networks", "delete", "public")
    assert (site.status, site.err) == (3, "refused: network public is the site's\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            ("create", "--image", "smal_linux"),
            4,
            "there is no image «smal_linux»; the nearest: small_linux_x86_64",
        ),
        (("create", "--size", "huge"), 4, "there is no size «huge»; there are small, 1 core"),
        (("create", "--image", ""), 0, ""),
        (("create", "--key", "none.pub"), 1, "none.pub can't be read: No such file or directory"),
        (("show", ""), 1, "which VM? Its name or id is needed, and is empty"),
        (("volumes", "create", "--size", "-1"), 1, "occi.storage.size"),
        (("networks", "create", "--address", "10.300.0.0/24"), 1, "occi.network.address"),
        (("networks", "create", "--address6", "fd12::/48"), 1, "fd12::/48: a /64 is needed"),
        (("--url", "http://localhost:1", "list"), 1, "«http://localhost:1» is not a service's URL"),
        (("--url", "https://localhost:1", "list"), 6, "https://localhost:1 does not answer: "),
        (("--proxy", "none.pem", "list"), 1, "none.pem is not there"),
    ],
)
def test_what_goes_wrong_is_one_line(
    cloud: Cloud, words: tuple[str, ...], status: int, said: str
) -> None:
    done = cloud(*words)
    assert (done.status, said in done.err) == (status, True), done.err
    assert done.err.count("\n") == bool(status)


def test_no_key_and_a_private_one(cloud: Cloud) -> None:
    private = cloud.home / "id"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n")
    told = cloud("create", *IMAGE, "--key", str(private))
    assert told.err.startswith(f"{private} is a private key, which never leaves your host")
    (cloud.home / ".ssh" / "id_ed25519.pub").unlink()
    assert "no key: nobody could log in" in cloud("create", *IMAGE).err
    script = cloud.home / "script"
    script.write_text("#!/bin/sh\ntrue\n")
    assert cloud("create", *IMAGE, "--user-data", str(script)).status == 0
    assert len(cloud("list", "--json").rows) == 1


def test_two_of_one_name_are_not_mixed_up(cloud: Cloud) -> None:
    ids = [cloud.good("create", "twin", *IMAGE) for _ in range(2)]
    told = cloud("delete", "twin")
    assert told.status == 1
    assert "VM «twin» could be several: " in told.err
    assert all(f"{each} (twin)" in told.err for each in ids)
    cloud.good("delete", *ids, ids[0])
    assert cloud("list", "--json").rows == []


def test_nothing_is_done_where_one_of_several_is_not_there(cloud: Cloud) -> None:
    cloud.good("create", "web", *IMAGE)
    assert cloud("delete", "web", "wbe").status == 4
    assert len(cloud("list", "--json").rows) == 1


def test_a_full_quota(cloud: Cloud) -> None:
    for _ in range(3):
        cloud.good("create", *IMAGE)
    full = cloud("create", *IMAGE)
    said = "refused: quota of machines: 3 used, 1 asked, 3 allowed\n"
    assert (full.status, full.out, full.err) == (3, "", said)


def test_a_vm_that_fails_while_it_is_waited_for(cloud: Cloud) -> None:
    cloud.lrms.fail = "the image is broken"
    done = cloud("create", "web", *IMAGE, "--wait")
    vm = done.out.strip()
    assert done.status == 1
    assert done.err.splitlines()[-1] == (
        f"VM {vm}: the image is broken; it is there: wnodes cloud show | ssh | start | delete {vm}"
    )


def test_ctrl_c_while_it_is_waited_for(cloud: Cloud) -> None:
    cloud.lrms.auto = False
    process = cloud.begin("create", "web", *IMAGE, "--wait")
    assert process.stdout
    vm = process.stdout.readline().strip()
    eventually(lambda: "Priority" in cloud.good("show", "web"))
    done = interrupt(process)
    assert done.status == 130
    assert done.err.splitlines()[-1].startswith(f"wnodes: VM {vm}: no longer waited for; it is ")
    assert "Traceback" not in done.err
    assert [row["id"] for row in cloud("list", "--json").rows] == [vm]


def test_a_stopped_vm_is_not_waited_for_by_ssh(cloud: Cloud) -> None:
    cloud.good("create", "web", *IMAGE, "--wait")
    cloud.good("stop", "web", "--wait")
    told = cloud("ssh", "web", "true")
    assert told.status == 1
    assert ": it is stopped" in told.err


def test_who_is_refused_hears_why(cloud: Cloud) -> None:
    grid = cloud.service.grid
    proxy(grid.user("Bob"), key=grid.key).write_bundle(cloud.home / "bob.pem")
    told = cloud("--proxy", str(cloud.home / "bob.pem"), "list")
    assert told.status == 3
    assert told.err.startswith("refused: ")
    assert f"{BASE}/CN=Bob" in told.err or "no local account" in told.err


def test_an_expired_proxy(cloud: Cloud) -> None:
    grid, old = cloud.service.grid, cloud.home / "old.pem"
    proxy(grid.alice, key=grid.key, life=(-7200, -3600)).write_bundle(old)
    told = cloud("--proxy", str(old), "list")
    assert told.status == 3
    assert f"{old} has expired 1 h" in told.err
    assert "wnodes cloud login renews it" in told.err


def test_a_certificate_of_another_ca(cloud: Cloud) -> None:
    other = Authority.make(f"{BASE}/CN=Other CA", cloud.service.grid.key)
    other.issue(f"{BASE}/CN=Alice", key=cloud.service.grid.key).write_bundle(cloud.home / "x.pem")
    told = cloud("--proxy", str(cloud.home / "x.pem"), "list")
    assert told.status == 3
    assert "it refuses your certificate: unknown ca" in told.err


def test_a_token_and_an_expired_one(cloud: Cloud, issuer: LocalIssuer) -> None:
    place = cloud.home / "token"
    place.write_text(issuer.token(wlcg__groups=["/testvo"]).decode())
    by_token = ("--token", str(place))
    assert cloud(*by_token, "list", "--json").rows == []
    cloud.good("create", *IMAGE)
    assert cloud(*by_token, "list", "--json").rows == []  # another user's
    place.write_text(issuer.token(exp=1_700_000_000, iat=1_699_990_000).decode())
    told = cloud(*by_token, "list")
    assert told.status == 3
    assert told.err.startswith("the service does not know who you are: ")
    assert "the token has expired" in told.err


def agent(
    cloud: Cloud, issuer: LocalIssuer, groups: Sequence[str] = ("/testvo",)
) -> dict[str, str]:
    """oidc-agent, whose tokens are for another service unless they are asked for this one; and the
    environment in which it is found."""
    usual, ours = (
        issuer.token(wlcg__groups=list(groups), aud=audience).decode()
        for audience in ("https://se.example", cloud.url)
    )
    programs = cloud.home / "bin"
    programs.mkdir()
    script = (
        f'#!/bin/sh\ncase "$*" in *"--aud {cloud.url} "*) echo {ours};; *) echo {usual};; esac\n'
    )
    (programs / "oidc-token").write_text(script)
    (programs / "oidc-token").chmod(0o755)
    config = str(cloud.home / "config")
    return {"PATH": f"{programs}:{os.environ['PATH']}", "XDG_CONFIG_HOME": config}


def test_a_token_is_for_the_service_alone_where_it_takes_no_other(
    cloud: Cloud, issuer: LocalIssuer
) -> None:
    cloud.takes_tokens_for(cloud.url)
    with_agent = agent(cloud, issuer)
    done = cloud("--url", cloud.url, "login", "--oidc", "egi", **with_agent)
    assert done.status == 0, done.err
    assert f"the token is for {cloud.url} alone" in done.err
    assert cloud("list", "--json", **with_agent).rows == []
    again = cloud("login", **with_agent)
    assert (again.status, again.err) == (0, "")  # it is remembered
    assert cloud("list", "--json", **with_agent).rows == []


def test_an_expired_token_of_an_agent_is_renewed_on_the_way(
    cloud: Cloud, issuer: LocalIssuer
) -> None:
    cloud.takes_tokens_for("https://se.example")
    with_agent = agent(cloud, issuer)
    assert cloud("--url", cloud.url, "login", "--oidc", "egi", **with_agent).status == 0
    place = cloud.home / f"bt_u{os.geteuid()}"
    old = {"exp": 1_700_000_000, "iat": 1_699_990_000, "aud": "https://se.example"}
    place.write_text(issuer.token(wlcg__groups=["/testvo"], **old).decode())
    made = cloud("create", *IMAGE, "--json", **with_agent)
    assert (made.status, len(made.rows)) == (0, 1), made.err
    assert made.err == f"the token had expired: a new one of «egi» is in {place}\n"
    assert len(cloud("list", "--json", **with_agent).rows) == 1
    with_agent["PATH"] = os.environ["PATH"]
    place.write_text(issuer.token(wlcg__groups=["/testvo"], **old).decode())
    told = cloud("list", **with_agent)
    assert (told.status, "wnodes cloud login renews it" in told.err) == (3, True)


def test_login_tells_why_the_service_takes_nobody_of_that_name(
    cloud: Cloud, issuer: LocalIssuer
) -> None:
    cloud.takes_tokens_for("https://se.example")
    with_agent = agent(cloud, issuer, groups=["/other"])
    done = cloud("--url", cloud.url, "login", "--oidc", "egi", **with_agent)
    assert done.status == 0
    assert done.err.startswith("but refused: no local account for this user in ")


def test_a_service_can_not_choose_whom_a_token_is_for(cloud: Cloud, issuer: LocalIssuer) -> None:
    cloud.takes_tokens_for("https://bank.example")
    with_agent = agent(cloud, issuer)
    done = cloud("--url", cloud.url, "login", "--oidc", "egi", **with_agent)
    said = "but the service does not know who you are: the token is not for this service (aud): "
    assert f"{said}https://bank.example\n" in done.err
    assert "audience" not in (cloud.home / "config" / "wnodes" / "cloud.toml").read_text()


def test_a_service_whose_ca_is_not_trusted(cloud: Cloud, tmp_path: Path) -> None:
    told = cloud("list", X509_CERT_DIR=str(tmp_path))
    assert told.status == 6
    assert "is not trusted: " in told.err
    assert f"the CAs that are trusted are in {tmp_path}" in told.err


def test_tab_offers_what_there_is(cloud: Cloud) -> None:
    cloud.good("create", "web", *IMAGE)
    other = cloud.good("create", *IMAGE)

    def offered(*words: str) -> set[str]:
        typed = ["wnodes", "cloud", *words]
        shell = {"COMP_WORDS": " ".join(typed), "COMP_CWORD": str(len(typed) - 1)}
        process = cloud.begin(_WNODES_COMPLETE="complete_bash", **shell)
        out, err = process.communicate(timeout=60)
        assert err == ""
        return set(out.split())

    def offers(wanted: set[str], *words: str) -> None:
        """A busy service may not answer in a shell's time; then a user touches Tab again."""
        eventually(lambda: offered(*words) == wanted)

    offers({"web", other}, "stop", "")
    offers({"web"}, "show", "w")
    offers({"big_linux_x86_64"}, "create", "--image", "b")
    offers({"images"}, "ima")
    volume = cloud.good("volumes", "create", "data;id;", "--size", "1")
    offers({volume}, "volumes", "delete", "")
    cloud.environment["WNODES_URL"] = "https://localhost:1"
    assert offered("stop", "") == set()
