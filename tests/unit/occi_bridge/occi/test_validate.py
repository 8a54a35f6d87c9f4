"""Requests judged: what may pass, in which form, and the sentence for what may not."""

import base64
from collections.abc import Mapping
from pathlib import Path
from subprocess import run

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from occi_bridge.occi import mixins, resolve, validate_changes, validate_new
from occi_bridge.occi.messages import Body, Entity, LinkBody, OcciError, Value
from occi_bridge.occi.model import Mixin
from occi_bridge.occi.schema import (
    COMPUTE,
    CORE,
    INFRA,
    NETWORK,
    NETWORKINTERFACE,
    OBSERVED,
    OBSERVED_TIME,
    SSH_KEY,
    STORAGE,
    STORAGELINK,
    USER_DATA,
)
from occi_bridge.occi.validate_new import New
from wnodes_lrms.config.load import Template

SIZES = [
    Template(name="small", cores=1, memory=512),
    Template(name="large", cores=4, memory=4096),
]
IMAGES = [("sl.7_linux_x86_64", "SL"), ("deb_linux_x86_64", "Debian")]
MODEL = mixins.site_model(IMAGES, SIZES).with_mixins(
    [Mixin("mine", "http://x.org/#", "Mine", location="/mine/", user=True)]
)
IMAGE = "http://wnodes-lrms.invalid/occi/os_tpl#sl-7_linux_x86_64"
OTHER = "http://wnodes-lrms.invalid/occi/os_tpl#deb_linux_x86_64"
SMALL = "http://wnodes-lrms.invalid/occi/resource_tpl#small"
LARGE = "http://wnodes-lrms.invalid/occi/resource_tpl#large"
STACK_KEY = "http://schemas.openstack.org/instance/credentials#public_key"
STACK_DATA = "http://schemas.openstack.org/compute/instance#user_data"
MINE = "http://x.org/#mine"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUhyUO+J5VhmWrZ9pOaKJ8Cf0u2ExPGw6GVRbRk2UuW ada"
DATA = base64.b64encode(b"#!/bin/sh\n").decode()


def create(*categories: str, links: tuple[LinkBody, ...] = (), **attributes: Value) -> New:
    return validate_new.create(MODEL, Body(categories, named(attributes), links))


def named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Attributes as keywords: a double underscore stands for a point."""
    return {name.replace("__", "."): value for name, value in attributes.items()}


def machine(*mixins: str, **attributes: Value) -> Entity:
    link = Entity("n1", NETWORKINTERFACE, "/networkinterface/n1", (), {"occi.core.id": "n1"})
    own: dict[str, Value] = {"occi.core.id": "c1", "occi.compute.state": "active"}
    own |= {"occi.compute.cores": 1, "occi.compute.memory": 0.5}
    return Entity("c1", COMPUTE, "/compute/c1", mixins, own | named(attributes), (), (link,))


def test_a_machine_with_everything() -> None:
    new = create(
        COMPUTE,
        IMAGE,
        SMALL,
        MINE,
        occi__core__title="t",
        occi__core__id="urn:uuid:1B4E28BA-2FA1-11D2-883F-0016D3CCA427",
        occi__compute__architecture="x64",
    )
    assert new == New(
        COMPUTE,
        (IMAGE, SMALL, MINE),
        {
            "occi.core.title": "t",
            "occi.core.id": "1B4E28BA-2FA1-11D2-883F-0016D3CCA427",
            "occi.compute.architecture": "x64",
            "occi.compute.cores": 1,
            "occi.compute.memory": 0.5,
        },
    )


def test_a_machine_needs_no_template() -> None:
    assert create(COMPUTE) == New(COMPUTE)
    assert create(COMPUTE, occi__compute__cores=2.0, occi__core__title="") == New(
        COMPUTE, (), {"occi.compute.cores": 2}
    )


def test_a_template_in_agreement_with_what_is_asked() -> None:
    assert create(COMPUTE, SMALL, occi__compute__cores=1) == create(COMPUTE, SMALL)


@pytest.mark.parametrize(
    ("mixin", "attribute"),
    [
        (STACK_KEY, "org.openstack.credentials.publickey.data"),
        (SSH_KEY, "occi.credentials.ssh.publickey"),
        (SSH_KEY, "occi.crendentials.ssh.publickey"),
        (SSH_KEY, "occi.credentials.ssh_key"),
        (SSH_KEY, "org.openstack.credentials.publickey.data"),
    ],
)
def test_every_spelling_of_an_ssh_key(mixin: str, attribute: str) -> None:
    new = validate_new.create(MODEL, Body((COMPUTE, mixin), {attribute: f"{KEY}\n"}))
    assert new == New(COMPUTE, (SSH_KEY,), {"occi.credentials.ssh.publickey": KEY})


def test_the_name_of_a_key_is_of_no_use() -> None:
    attributes: dict[str, Value] = {
        "org.openstack.credentials.publickey.name": "ada",
        "org.openstack.credentials.publickey.data": KEY,
    }
    new = validate_new.create(MODEL, Body((COMPUTE, STACK_KEY), attributes))
    assert new.attributes == {"occi.credentials.ssh.publickey": KEY}


@pytest.mark.parametrize(
    ("mixin", "attribute"),
    [
        (STACK_DATA, "org.openstack.compute.user_data"),
        (USER_DATA, "occi.compute.userdata"),
        (USER_DATA, "occi.compute.user_data"),
    ],
)
def test_every_spelling_of_user_data(mixin: str, attribute: str) -> None:
    new = validate_new.create(
        MODEL, Body((COMPUTE, mixin), {attribute: f"{DATA[:4]}\n{DATA[4:]}\n"})
    )
    assert new == New(COMPUTE, (USER_DATA,), {"occi.compute.userdata": DATA})


SCRIPT = b"#!/bin/sh\necho\n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xef\xbb\xbf" + SCRIPT, "byte-order mark"),
        (b"\xef\xbb\xbf#cloud-config\n{}\n", "byte-order mark"),
        (SCRIPT.decode().encode("utf-16"), "byte-order mark"),
        (b"\xfe\xff" + SCRIPT.decode().encode("utf-16-be"), "byte-order mark"),
        (b"\n" + SCRIPT, "an empty line or white space"),
        (b"  \r\n" + SCRIPT, "an empty line or white space"),
        (SCRIPT.replace(b"\n", b"\r\n"), "CR LF"),
        (b"#!/bin/sh\r", "CR LF"),
        (b"#!\necho\n", "not the path of an interpreter"),
        (b"#!bash\necho\n", "not the path of an interpreter"),
    ],
)
def test_user_data_that_nothing_would_run_is_refused(data: bytes, why: str) -> None:
    attributes: dict[str, Value] = {"occi.compute.userdata": base64.b64encode(data).decode()}
    with pytest.raises(OcciError, match=f"userdata: it would not be run: .*{why}") as caught:
        validate_new.create(MODEL, Body((COMPUTE, USER_DATA), attributes))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "data",
    [
        SCRIPT,
        b"#! /usr/bin/env -S python3 -u\n",
        SCRIPT + b"echo \r\n" + bytes(range(256)),
        b"#cloud-config\r\n{}\r\n",
        b"\n#cloud-config\n{}\n",  # cloud-init takes it
        b"Content-Type: multipart/mixed\r\n\r\n",
        b"\x1f\x8b\x08\x00",
        b"\xff\xfe\x00\x01",
        b"key=value\n",
    ],
)
def test_all_other_user_data_is_taken(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    new = validate_new.create(MODEL, Body((COMPUTE, USER_DATA), {"occi.compute.userdata": text}))
    assert new.attributes == {"occi.compute.userdata": text}


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_keys_as_ssh_keygen_makes_them(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a key", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text()
    new = create(COMPUTE, SSH_KEY, occi__credentials__ssh__publickey=public)
    assert new.attributes["occi.credentials.ssh.publickey"] == public.strip()
    with pytest.raises(OcciError, match=r"a private key; keep it, send the \.pub"):
        create(COMPUTE, SSH_KEY, occi__credentials__ssh__publickey=path.read_text())


def test_a_key_that_no_server_takes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    run(["ssh-keygen", "-q", "-s", path, "-I", "me", "-n", "root", f"{path}.pub"], check=True)
    weak = rsa.RSAPublicNumbers(65537, (1 << 767) + 1).public_key()
    for text, sentence in (
        (Path(f"{path}-cert.pub").read_text(), "that is a certificate; send the key"),
        (weak.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(), "768 bits"),
    ):
        with pytest.raises(OcciError, match=sentence):
            create(COMPUTE, SSH_KEY, occi__credentials__ssh__publickey=text)


def test_links_with_a_machine() -> None:
    links = (
        LinkBody("http://host/network/n", NETWORK, (NETWORKINTERFACE,)),
        LinkBody("/storage/s", attributes={"occi.core.id": "l", "occi.core.source": "/compute/"}),
        LinkBody("/compute/1?action=start", f"{INFRA}/compute/action#start"),
    )
    assert create(COMPUTE, links=links).links == (
        New(NETWORKINTERFACE, (), {"occi.core.target": "/network/n"}),
        New(STORAGELINK, (), {"occi.core.id": "l", "occi.core.target": "/storage/s"}),
    )


def test_a_link_of_its_own() -> None:
    new = create(
        NETWORKINTERFACE,
        f"{INFRA}/networkinterface#ipnetworkinterface",
        occi__core__source="https://host:1/compute/c1",
        occi__core__target="/network/n",
        occi__networkinterface__address="10.0.0.9",
    )
    assert new.attributes == {
        "occi.core.source": "/compute/c1",
        "occi.core.target": "/network/n",
        "occi.networkinterface.address": "10.0.0.9",
    }


ENDS: dict[str, Value] = {"occi.core.source": "/compute/c", "occi.core.target": "/network/n"}


@pytest.mark.parametrize(
    ("categories", "attributes", "status", "sentence"),
    [
        ((), {}, 400, "the kind is missing"),
        ((SMALL,), {}, 400, "the kind is missing"),
        ((COMPUTE, NETWORK), {}, 400, "more than one kind: .*compute, .*network"),
        ((f"{CORE}resource",), {}, 400, "nothing can be made of the kind resource itself"),
        ((COMPUTE, "http://x.org/#no"), {}, 400, "category «http://x.org/#no» is not known here"),
        ((f"{INFRA}/compute/action#start",), {}, 400, r"start needs \?action=start"),
        ((STORAGE, SMALL), {}, 400, "resource_tpl#small is not for a storage"),
        ((COMPUTE, SMALL, LARGE), {}, 400, "two resource_tpl: .*#small and .*#large"),
        ((COMPUTE, IMAGE, OTHER), {}, 400, "two os_tpl: "),
        ((COMPUTE, SMALL), {"occi.compute.cores": 3}, 400, "cores: 3 is asked for, but small has"),
        ((COMPUTE,), {"occi.compute.cores": "2"}, 400, "occi.compute.cores: a whole number"),
        ((COMPUTE,), {"occi.compute.cores": 1.5}, 400, "occi.compute.cores: a whole number"),
        ((COMPUTE,), {"occi.compute.cores": True}, 400, "occi.compute.cores: a whole number"),
        ((COMPUTE,), {"occi.compute.cores": 0}, 400, "occi.compute.cores: 0 is less than 1"),
        ((COMPUTE,), {"occi.compute.cores": 10**12}, 400, "occi.compute.cores: .* is more than"),
        ((COMPUTE,), {"occi.compute.memory": "x"}, 400, "occi.compute.memory: a number"),
        ((COMPUTE,), {"occi.compute.memory": -1}, 400, "occi.compute.memory: -1 is less"),
        ((COMPUTE,), {"occi.core.title": 3}, 400, "occi.core.title: text in quotes"),
        ((COMPUTE,), {"occi.core.title": "x" * 1025}, 400, "occi.core.title: longer than 1024"),
        ((COMPUTE,), {"occi.core.title": "a\nb"}, 400, "occi.core.title: control characters"),
        ((COMPUTE,), {"occi.core.id": "../x"}, 400, "occi.core.id: «../x» is not 1 to 64"),
        ((COMPUTE,), {"occi.compute.speed": 2.0}, 400, "nothing of the kind"),
        ((COMPUTE,), {"occi.compute.architecture": "arm"}, 400, "«arm» is none of x86, x64"),
        ((COMPUTE,), {"occi.compute.state": "active"}, 400, "state: is set by the service alone"),
        ((COMPUTE,), {"occi.no.such": 1}, 400, "occi.no.such: a compute has no such attribute"),
        ((COMPUTE,), {"occi.compute.userdata": DATA}, 400, "needs the mixin .*compute#user_data"),
        ((COMPUTE,), {OBSERVED_TIME: "now"}, 400, f"{OBSERVED_TIME}: a compute has no such"),
        ((COMPUTE, SSH_KEY), {}, 400, "occi.credentials.ssh.publickey: is missing"),
        *(
            ((COMPUTE, SSH_KEY), {"occi.credentials.ssh.publickey": key}, 400, sentence)
            for key, sentence in (
                ("x", "not an OpenSSH public"),
                (f"{KEY} {KEY}", "more than one key"),
                (f"{KEY}\n{KEY}", "more than one key"),
                (f'command="x" {KEY}', "options can't be given"),
                (f"# of mine\n{KEY}", "a key is one line"),
                (f"{KEY[:40]}\r\n{KEY[40:]}", "a key is one line"),
                (f"---- BEGIN SSH2 PUBLIC KEY ----\n{KEY[12:]}", "`ssh-keygen -i` writes it"),
                (f"PuTTY-User-Key-File-3: ssh-ed25519\n{KEY[12:]}", "that is a private key"),
                ("ssh-ed25519-cert-v01@openssh.com AAAA me", "that is a certificate; send the key"),
                ("-----BEGIN OPENSSH PRIVATE KEY-----", "that is a private key"),
            )
        ),
        ((COMPUTE, USER_DATA), {"occi.compute.userdata": "%"}, 400, "userdata: not base64"),
        (
            (COMPUTE, USER_DATA),
            {"occi.compute.userdata": "QUFB" * 20000},
            400,
            "userdata: longer than 49152",
        ),
        (
            (COMPUTE, SSH_KEY),
            {"occi.credentials.ssh_key": KEY, "occi.credentials.ssh.publickey": f"{KEY}b"},
            400,
            "occi.credentials.ssh.publickey: given twice",
        ),
        ((STORAGE,), {}, 400, "occi.storage.size: is missing"),
        ((STORAGE,), {"occi.storage.size": 0}, 400, "occi.storage.size: "),
        ((STORAGE,), {"occi.storage.size": -1}, 400, "occi.storage.size: "),
        ((STORAGE,), {"occi.storage.size": 65537}, 400, "occi.storage.size: "),
        ((STORAGE,), {"occi.storage.size": 1e30}, 400, "occi.storage.size: "),
        ((STORAGE,), {"occi.storage.size": "much"}, 400, "occi.storage.size: "),
        ((NETWORKINTERFACE,), {"occi.core.source": "/compute/c"}, 400, "target: is missing"),
        ((NETWORKINTERFACE,), {**ENDS, "occi.core.target": "no path"}, 400, "target: «no path» is"),
        ((NETWORKINTERFACE,), {**ENDS, "occi.core.target": "/no/x"}, 400, "nothing at /no/x"),
        ((STORAGELINK,), ENDS, 400, "target: a storagelink needs a storage there, not /network/n"),
        (
            (NETWORKINTERFACE,),
            {**ENDS, "occi.core.source": "/storage/s"},
            400,
            "source: a networkinterface needs a compute there",
        ),
        (
            (NETWORKINTERFACE,),
            {**ENDS, "occi.networkinterface.mac": "x"},
            400,
            "mac: is set by the service alone",
        ),
    ],
)
def test_what_can_not_be_created(
    categories: tuple[str, ...], attributes: dict[str, Value], status: int, sentence: str
) -> None:
    with pytest.raises(OcciError, match=sentence) as caught:
        validate_new.create(MODEL, Body(categories, attributes))
    assert caught.value.status == status
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "link", "status", "sentence"),
    [
        (COMPUTE, LinkBody("/no/x"), 400, "Link: there is nothing at /no/x"),
        (COMPUTE, LinkBody("no path"), 400, "Link: «no path» is not a path"),
        (COMPUTE, LinkBody("/network/n", STORAGE), 400, "is a network, but rel says «.*storage»"),
        (COMPUTE, LinkBody("/network/n", "", ("http://x/#y",)), 400, "«http://x/#y» is not known"),
        (COMPUTE, LinkBody("/network/n", "", (STORAGELINK,)), 400, "storagelink needs a storage"),
        (COMPUTE, LinkBody("/compute/c"), 400, "a compute can't have a link to /compute/c"),
        (NETWORK, LinkBody("/network/n"), 400, "a network can't have a link to /network/n"),
        (
            COMPUTE,
            LinkBody("/network/n", attributes={"occi.networkinterface.state": "active"}),
            400,
            "networkinterface.state: is set by the service",
        ),
    ],
)
def test_inline_links_that_can_not_be(
    kind: str, link: LinkBody, status: int, sentence: str
) -> None:
    with pytest.raises(OcciError, match=sentence) as caught:
        create(kind, links=(link,))
    assert caught.value.status == status


def test_a_link_has_no_links() -> None:
    with pytest.raises(OcciError, match="a link has no links of its own"):
        validate_new.create(MODEL, Body((NETWORKINTERFACE,), ENDS, (LinkBody("/network/n"),)))


def test_changes_are_what_is_different() -> None:
    body = Body(
        (COMPUTE, IMAGE, SMALL, MINE, OBSERVED),
        named({"occi__core__title": "new", "occi__core__id": "c1", "occi__compute__cores": 1}),
        (
            LinkBody("/network/n", itself="/networkinterface/n1"),
            LinkBody("/network/n", attributes={"occi.core.id": "n1"}),
            LinkBody("/network/n"),
        ),
    )
    changes = validate_changes.update(MODEL, body, machine(IMAGE, SMALL, OBSERVED))
    assert changes.attributes == {"occi.core.title": "new"}
    assert changes.added == (MINE,)
    assert changes.removed == ()
    assert [link.kind for link in changes.links] == [NETWORKINTERFACE]


def test_a_size_replaces_a_size() -> None:
    changes = validate_changes.update(MODEL, Body((LARGE,)), machine(IMAGE, SMALL))
    assert (changes.added, changes.removed) == ((LARGE,), (SMALL,))
    assert changes.attributes == {"occi.compute.cores": 4, "occi.compute.memory": 4.0}


def test_a_size_of_its_own_takes_the_template_off() -> None:
    changes = validate_changes.update(
        MODEL, Body((), {"occi.compute.cores": 3}), machine(IMAGE, SMALL)
    )
    assert (changes.added, changes.removed) == ((), (SMALL,))
    assert changes.attributes == {"occi.compute.cores": 3}


@pytest.mark.parametrize(
    ("categories", "attributes", "status", "sentence"),
    [
        ((NETWORK,), {}, 400, "/compute/c1 is a compute, not a network"),
        ((OTHER,), {}, 400, "os_tpl#deb_linux_x86_64 can only be given when it is created"),
        ((SSH_KEY,), {}, 400, "ssh_key can only be given when it is created"),
        ((f"{INFRA}/network#ipnetwork",), {}, 400, "ipnetwork can only be given"),
        ((), {"occi.compute.state": "inactive"}, 400, "occi.compute.state: can't be changed"),
        ((), {"occi.core.id": "c2"}, 400, "occi.core.id: can't be changed"),
        ((LARGE,), {"occi.compute.cores": 3}, 400, "3 is asked for, but large has 4"),
        ((), {"occi.compute.cores": "3"}, 400, "occi.compute.cores: a whole number"),
        ((), {"x.y": 1}, 400, "x.y: a compute has no such attribute"),
    ],
)
def test_what_can_not_be_changed(
    categories: tuple[str, ...], attributes: dict[str, Value], status: int, sentence: str
) -> None:
    entity = machine(IMAGE, SMALL)
    for judge in (validate_changes.update, validate_changes.replace):
        if "state" in sentence and judge is validate_changes.replace:
            continue  # a rendering that is sent back has the state in it
        with pytest.raises(OcciError, match=sentence) as caught:
            judge(MODEL, Body(categories, attributes), entity)
        assert caught.value.status == status


def test_replacing_keeps_what_only_the_maker_could_give() -> None:
    entity = machine(IMAGE, SMALL, MINE, OBSERVED, occi__core__title="old", occi__core__summary="s")
    new = validate_changes.replace(MODEL, Body((COMPUTE,), {"occi.core.title": "new"}), entity)
    assert new == New(
        COMPUTE,
        (IMAGE, OBSERVED, SMALL),
        {"occi.core.title": "new", "occi.compute.cores": 1, "occi.compute.memory": 0.5},
    )
    resized = validate_changes.replace(MODEL, Body((LARGE,)), entity)
    assert resized.mixins == (IMAGE, OBSERVED, LARGE)
    assert resized.attributes == {"occi.compute.cores": 4, "occi.compute.memory": 4.0}
    freed = validate_changes.replace(MODEL, Body((), {"occi.compute.cores": 2}), entity)
    assert freed.mixins == (IMAGE, OBSERVED)
    assert freed.attributes == {"occi.compute.cores": 2, "occi.compute.memory": 0.5}


def test_a_machine_keeps_an_image_that_the_site_withdrew() -> None:
    withdrawn = "http://wnodes-lrms.invalid/occi/os_tpl#old_linux_x86_64"
    assert validate_changes.replace(MODEL, Body(), machine(withdrawn, SMALL)).mixins == (
        withdrawn,
        SMALL,
    )
    assert (
        validate_changes.update(MODEL, Body(), machine(withdrawn, SMALL))
        == validate_changes.Changes()
    )


def test_a_rendering_can_be_sent_back() -> None:
    entity = machine(IMAGE, SMALL, MINE, occi__core__title="t", occi__compute__state="inactive")
    body = Body(
        (COMPUTE, IMAGE, SMALL, MINE), {**entity.attributes, "occi.compute.state": "active"}
    )
    assert validate_changes.replace(MODEL, body, entity).mixins == (IMAGE, SMALL, MINE)


def test_what_is_nowhere_here_is_not_passed_over() -> None:
    for change in (validate_changes.replace, validate_changes.update):
        with pytest.raises(OcciError, match=r"occi\.compute\.speed: this service has nothing"):
            change(MODEL, Body((COMPUTE,), {"occi.compute.speed": 2.0}), machine(IMAGE, SMALL))


STOP = f"{INFRA}/compute/action#stop"


def test_actions() -> None:
    compute = MODEL.kinds[COMPUTE]
    assert resolve.action(MODEL, compute, "stop", Body((STOP,))) == (STOP, {"method": "graceful"})
    given_method = Body((STOP,), {"method": "poweroff"}, action=STOP)
    assert resolve.action(MODEL, compute, "stop", given_method) == (STOP, {"method": "poweroff"})


@pytest.mark.parametrize(
    ("term", "body", "sentence"),
    [
        ("stop", Body(), "the body names 0 categories, not 1"),
        ("stop", Body((STOP, COMPUTE)), "the body names 2 categories, not 1"),
        ("start", Body((STOP,)), r"the URL says \?action=start, the body stop"),
        ("stop", Body((COMPUTE,)), "is not an action of a compute"),
        ("up", Body((f"{INFRA}/network/action#up",)), "is not an action of a compute"),
        ("stop", Body((STOP,), {"method": "kill"}), "method: «kill» is none of graceful"),
        ("stop", Body((STOP,), {"method": 1}), "method: text in quotes is needed"),
        ("stop", Body((STOP,), {"when": "now"}), "when: the action stop has no such attribute"),
    ],
)
def test_actions_that_can_not_be(term: str, body: Body, sentence: str) -> None:
    with pytest.raises(OcciError, match=sentence) as caught:
        resolve.action(MODEL, MODEL.kinds[COMPUTE], term, body)
    assert caught.value.status == 400


CATEGORIES = st.sampled_from([*MODEL.kinds, *MODEL.mixins, *MODEL.actions, "x", ""])
ATTRIBUTES = st.sampled_from(
    sorted({own.name for kind in MODEL.kinds.values() for own in kind.attributes} | {"x", KEY})
)
ANYTHING: st.SearchStrategy[Value] = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["/network/n", "/storage/s", "/compute/c1", "active"]),
)
LINKS = st.builds(
    LinkBody,
    st.sampled_from(["/network/n", "/storage/s", "/x", "", "http://[", "//?action="]) | st.text(),
    CATEGORIES,
    st.tuples(CATEGORIES),
    st.dictionaries(ATTRIBUTES, ANYTHING, max_size=2),
    st.text(),
)
BODIES = st.builds(
    Body,
    st.lists(CATEGORIES, max_size=3).map(tuple),
    st.dictionaries(ATTRIBUTES, ANYTHING, max_size=3),
    st.lists(LINKS, max_size=2).map(tuple),
)


@given(BODIES)
def test_any_body_is_judged(body: Body) -> None:
    entity = machine(IMAGE, SMALL)
    for judge in (
        lambda: validate_new.create(MODEL, body),
        lambda: validate_changes.update(MODEL, body, entity),
        lambda: validate_changes.replace(MODEL, body, entity),
        lambda: resolve.action(MODEL, MODEL.kinds[COMPUTE], "stop", body),
    ):
        fault = None
        try:
            judge()
        except OcciError as caught:
            fault = caught
        assert fault is None or (fault.status == 400 and fault.message.isprintable())
