"""What is signed comes back, and what is not as a bridge signed it is refused."""

import base64
import time
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.order import LeaseRequest, Nic, Order, lease_named_in, sign, verify

BRIDGE, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
LEASE = UUID(int=1)
CARD = {"id": UUID(int=2), "kind": "bridge", "network": "lan", "mac": "52:54:00:aa:bb:cc"}
VALUES: dict[str, Any] = {
    "lease": LEASE,
    "machine": UUID(int=3),
    "hostname": "box",
    "dn": "/C=IT/O=Box/CN=Zoë «Z» O'Hara",
    "account": "cloud01",
    "walltime": 3600,
    "cores": 2,
    "memory": 1024,
    "image": "small_linux_x86_64",
}


def pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


def public(key: Any) -> str:
    return str(
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def an_order(**changes: object) -> Order:
    return Order.model_validate(VALUES | changes)


def token(order: Order | None = None, key: Any = BRIDGE, age: float = 0, life: float = 600) -> str:
    return sign(order or an_order(), "box", pem(key), time.time() - age, life)


def raw(key: str = pem(BRIDGE), algorithm: str = "EdDSA", **changes: object) -> str:
    """A token with these claims, of whatever kind."""
    claims: dict[str, object] = {
        "jti": str(LEASE),
        "aud": "wnodes-lrms:box",
        "iat": int(time.time()),
        "exp": int(time.time() + 600),
        "order": an_order().model_dump(mode="json", exclude_defaults=True),
    }
    kept = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm)


def test_what_is_signed_comes_back() -> None:
    full = an_order(
        fqan="/atlas/Role=production",
        lrms_account="atlas",
        partition="long",
        node="hv1",
        saved=True,
        ssh_keys=("ssh-ed25519 AAAA one", "ssh-rsa BBBB two"),
        user_data=base64.b64encode(bytes(range(256))).decode(),
        nics=(CARD | {"address": "10.0.0.5/24", "gateway": "10.0.0.1"},),
        volumes=(UUID(int=4),),
    )
    for order in (full, an_order()):
        text = token(order)
        assert verify(Order, text, "box", [public(BRIDGE)]) == order
        assert lease_named_in(text) == str(LEASE)


def test_a_bridge_that_an_order_of_old_names_is_nothing() -> None:
    named = an_order(nics=(CARD | {"bridge": "br-storage"},))
    assert named == an_order(nics=(CARD,))
    assert "storage" not in named.model_dump_json()


def test_any_of_the_bridges_keys_will_do() -> None:
    keys = ["no key", public(STRANGER), public(BRIDGE)]
    assert verify(Order, token(), "box", keys) == an_order()
    assert verify(Order, token(key=STRANGER), "box", keys) == an_order()


def test_a_bridges_clock_may_be_a_little_behind_the_end_but_not_after() -> None:
    assert verify(Order, token(age=595), "box", [public(BRIDGE)])
    with pytest.raises(RejectedError, match="expired"):
        verify(Order, token(age=601), "box", [public(BRIDGE)])


RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        (token(key=STRANGER), [public(BRIDGE)], "Signature"),
        (token(), [], "no key is known"),
        (token(), ["no key"], "refused"),
        (token(), [public(RSA)], "refused"),
        (token(age=700), [public(BRIDGE)], "expired"),
        (sign(an_order(), "other", pem(BRIDGE), time.time(), 600), [public(BRIDGE)], "udience"),
        (raw(exp=None), [public(BRIDGE)], "exp"),
        (raw(aud=None), [public(BRIDGE)], "aud"),
        (raw(iat=None), [public(BRIDGE)], "iat"),
        (raw(jti=None), [public(BRIDGE)], "jti"),
        (raw(iat=int(time.time()) + 600), [public(BRIDGE)], "not yet valid"),
        (raw(jti=str(UUID(int=5))), [public(BRIDGE)], "another lease"),
        (raw(order=None), [public(BRIDGE)], "refused"),
        (raw(order=[1]), [public(BRIDGE)], "refused"),
        (raw(order={"lease": str(LEASE)}), [public(BRIDGE)], "dn: Field required"),
        (raw(key="k" * 64, algorithm="HS512"), [public(BRIDGE)], "alg"),
        (raw(key="", algorithm="none"), [public(BRIDGE)], "alg"),
        (raw(key=pem(RSA), algorithm="RS256"), [public(BRIDGE), public(RSA)], "alg"),
        ("", [public(BRIDGE)], "refused"),
        ("a.b.c", [public(BRIDGE)], "refused"),
        ("\ud800", [public(BRIDGE)], "refused"),
        (base64.b64encode(b"[" * 90000).decode().rstrip("=") + ".e30.e30", ["no"], "refused"),
    ],
    ids=lambda _value: "",
)
def test_what_is_not_signed_for_this_is_refused(text: str, keys: list[str], message: str) -> None:
    with pytest.raises(RejectedError, match=message) as told:
        verify(Order, text, "box", keys)
    assert "\n" not in str(told.value)
    assert not told.value.retry


def test_what_is_changed_after_it_was_signed_is_refused() -> None:
    head, _claims, seal = token().split(".")
    claims = raw(order=an_order(cores=64).model_dump(mode="json")).split(".")[1]
    with pytest.raises(RejectedError, match="Signature"):
        verify(Order, f"{head}.{claims}.{seal}", "box", [public(BRIDGE)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no token",
        "\ud800",
        raw(jti=None),
        raw(jti="no lease"),
        raw(jti="\udcff"),
        raw(jti=None, order=None, x=1),
        "e30." + base64.urlsafe_b64encode(b"[" * 90000).decode().rstrip("=") + ".e30",
        jwt.encode({"jti": str(LEASE)}, "k" * 32).replace(".", "", 1),
    ],
    ids=lambda _value: "",
)
def test_what_names_no_lease_is_no_token(text: str) -> None:
    with pytest.raises(RejectedError, match="it is no token"):
        lease_named_in(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"hostname": "-box"},
        {"hostname": "box; reboot"},
        {"hostname": "a" * 64},
        {"dn": "/CN=two\nlines"},
        {"dn": "x" * 1025},
        {"account": "Root"},
        {"account": "a b"},
        {"account": "../etc"},
        {"walltime": 59},
        {"cores": 0},
        {"memory": 63},
        {"image": "../../etc/passwd"},
        {"ssh_keys": ("ssh-rsa A\nssh-rsa B",)},
        {"user_data": "a" * 49153},
        {"user_data": "this is no base64"},
        {"user_data": "YQ"},
        {"machine": "no id"},
        {"job": "-f"},
        {"job": "7 8"},
        {"volumes": ("../x",)},
        {"surprise": 1},
        {"nics": (CARD | {"kind": "other"},)},
        {"nics": (CARD | {"mac": "52:54:00:AA:BB:CC"},)},
        {"nics": (CARD | {"mac": "00:16:3e:00:00:01"},)},
        {"nics": (CARD | {"network": "a/b"},)},
        {"nics": (CARD | {"address": "10.0.0.5"},)},
        {"nics": (CARD | {"address": "10.0.0.256/24"},)},
        {"nics": (CARD | {"address": "10.0.0.5/33"},)},
        {"nics": (CARD | {"address6": "fd12::5"},)},
        {"nics": (CARD | {"address6": "fd12::5/48"},)},
        {"nics": (CARD | {"address6": "fd12:::5/64"},)},
        {"nics": (CARD | {"address6": "fe80::5%eth0/64"},)},
        {"nics": (CARD | {"address": "10.0.0.5/24", "gateway": "10.0.0"},)},
        {"nics": (CARD | {"address": "10.0.0.5/24", "gateway": "10.0.0.999"},)},
    ],
    ids=str,
)
def test_what_no_machine_can_be_is_no_order(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        an_order(**changes)


def test_a_wish_has_nothing_of_what_the_machine_will_have() -> None:
    order = an_order(user_data="QUJD", ssh_keys=("ssh-rsa KEY",), job="7", node="hv1")
    text = sign(order.lease_request, "box", pem(BRIDGE), time.time(), 600)
    request = verify(LeaseRequest, text, "box", [public(BRIDGE)])
    assert request == order.lease_request
    assert type(request) is LeaseRequest
    claims = jwt.decode(text, options={"verify_signature": False})
    assert {"user_data", "ssh_keys", "machine", "job"}.isdisjoint(claims["wish"])
    for kind, other in (
        (Order, text),
        (LeaseRequest, token(order)),
    ):  # neither passes for the other
        with pytest.raises(RejectedError, match="order refused"):
            verify(kind, other, "box", [public(BRIDGE)])


def test_the_largest_user_data_fits() -> None:
    text = token(an_order(user_data="A" * 49152, ssh_keys=("k" * 1024,) * 16))
    assert verify(Order, text, "box", [public(BRIDGE)])
    with pytest.raises(RejectedError, match="less user data or fewer keys"):
        token(an_order(user_data="A" * 49152, ssh_keys=("k" * 1024,) * 48))


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_nothing_but_a_refusal_comes_of_rubbish(text: str) -> None:
    for ask in (lambda: verify(Order, text, "box", [public(BRIDGE)]), lambda: lease_named_in(text)):
        with pytest.raises(RejectedError):
            ask()


def test_a_card_is_taken_as_the_bridge_writes_it() -> None:
    six = {"address6": "fd12::5054:ff:feaa:bbcc/64"}
    nic = Nic.model_validate(CARD | six | {"address": "10.0.0.5/24", "gateway": "10.0.0.1"})
    assert Nic.model_validate_json(nic.model_dump_json(exclude_defaults=True)) == nic
