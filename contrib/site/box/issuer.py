"""A small token issuer (OpenID provider): discovery, keys, tokens, UserInfo and a login page, over
HTTPS.

For the site in a box, where it runs as `python -m box.issuer PORT`, and for the tests, which make
it misbehave: `answers` is what it says at each path. Real sites take the tokens of a VO's.
"""

import base64
import hashlib
import json
import ssl
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from .grid import VO, Grid
from .layout import layout

DISCOVERY = "/.well-known/openid-configuration"
# Who may ask for tokens in its own name, look at others', and have users log in.
CLIENT = ("box", "box-secret")
PEOPLE = {
    "ada": [f"/{VO}"],
    "grace": [f"/{VO}"],
    "oscar": [],
}  # who can log in, and the groups that they have
_LIFE = 3600.0  # seconds
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>The issuer in the box</title>
<link rel="icon" href="data:,">
<h1>Who are you?</h1><form method="post">{people}</form></html>
"""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Reply = tuple[int, Mapping[str, str], bytes]  # status, headers, body


@dataclass(frozen=True)
class Request:
    """What somebody asks of the issuer."""

    headers: Mapping[str, str]
    form: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def client(self) -> tuple[str, str] | None:
        """Name and secret by HTTP's Basic scheme."""
        scheme, _, given = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        name, _, secret = base64.b64decode(given).decode().partition(":")
        return name, secret


@dataclass(frozen=True)
class Signer:
    """A key of the issuer's, and the id that tokens call it by."""

    key: PrivateKey
    kid: str = "box-1"

    @property
    def algorithm(self) -> str:
        """Which signatures it makes."""
        return "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token."""
        algorithm = header.pop("alg", self.algorithm)
        headers = {"kid": self.kid, **header}
        return jwt.encode(dict(claims), self.key, algorithm, headers=headers)

    def jwk(self) -> dict[str, Any]:
        """The public half as it is published."""
        public = self.key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            found = RSAAlgorithm.to_jwk(public, as_dict=True)
        else:
            found = ECAlgorithm.to_jwk(public, as_dict=True)
        return {**found, "kid": self.kid, "use": "sig", "alg": self.algorithm}


def claims(url: str, subject: str, audience: str, **more: Any) -> dict[str, Any]:
    """The claims of a token in the WLCG profile; a `more` that is None is left out."""
    now = time.time()
    usual = {
        "iss": url,
        "sub": subject,
        "aud": audience,
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now + _LIFE),
        "jti": str(uuid.uuid4()),
        "wlcg.ver": "1.0",
        "wlcg.groups": [f"/{VO}"],
        "scope": "openid wlcg.groups",
    }
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


@dataclass
class Issuer:
    """What it knows, and what it says at each path."""

    url: str
    signers: list[Signer]
    answers: dict[str, Callable[[Request], Reply]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)  # how often, at each path
    codes: dict[str, dict[str, str]] = field(default_factory=dict)  # of logins: what was asked, who

    def __post_init__(self) -> None:
        self.answers = {
            DISCOVERY: lambda _request: as_json(self.metadata()),
            "/jwk": lambda _request: as_json({"keys": [each.jwk() for each in self.signers]}),
            "/authorize": self._authorize,
            "/token": self._token,
            "/userinfo": self._userinfo,
            "/introspect": self._introspect,
        }

    def metadata(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwk",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "introspection_endpoint": f"{self.url}/introspect",
            "grant_types_supported": ["client_credentials", "authorization_code"],
            "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "subject_types_supported": ["public"],
        }

    def _authorize(self, request: Request) -> Reply:
        """The login page; and back to where its user came from, as whom they have chosen."""
        asked = request.query
        usual = {"response_type": "code", "client_id": CLIENT[0], "code_challenge_method": "S256"}
        back = asked.get("redirect_uri", "")
        if not (usual.items() <= asked.items() and back.startswith("https://localhost:")):
            return as_json({"error": "invalid_request"}, 400)
        if request.form.get("name") not in PEOPLE:
            button = '<p><button name="name" value="{0}">{0}</button></p>'
            text = _PAGE.format(people="".join(button.format(name) for name in PEOPLE))
            return 200, {"Content-Type": "text/html; charset=utf-8"}, text.encode()
        code = str(uuid.uuid4())
        self.codes[code] = {**asked, "name": request.form["name"]}
        said = urlencode({"code": code, "state": asked.get("state", ""), "iss": self.url})
        return 303, {"Location": f"{back}?{said}"}, b""

    def _token(self, request: Request) -> Reply:
        """A token for the client itself, with the scopes and the audience that it asks for; or the
        tokens of a user who has logged in."""
        if request.client != CLIENT:
            return as_json({"error": "invalid_client"}, 401)
        if request.form.get("grant_type") == "authorization_code":
            return self._logged_in(request.form)
        if request.form.get("grant_type") != "client_credentials":
            return as_json({"error": "unsupported_grant_type"}, 400)
        scope, audience = request.form.get("scope", "openid"), request.form.get("audience")
        given = claims(self.url, CLIENT[0], audience or self.url, scope=scope)
        token = self.signers[0].sign(given)
        return as_json({"access_token": token, "token_type": "Bearer", "expires_in": int(_LIFE)})

    def _logged_in(self, form: Mapping[str, str]) -> Reply:
        """The tokens of a login: once, and for who began it."""
        asked = self.codes.pop(form.get("code", ""), {})
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        same = form.get("redirect_uri") == asked.get("redirect_uri")
        if not (asked and same and challenge == asked.get("code_challenge")):
            return as_json({"error": "invalid_grant"}, 400)
        who = {"wlcg.groups": PEOPLE[asked["name"]]}
        login = claims(self.url, asked["name"], CLIENT[0], nonce=asked.get("nonce"), scope=None)
        access = claims(self.url, asked["name"], self.url, scope=asked.get("scope"))
        sign = self.signers[0].sign
        return as_json(
            {
                "id_token": sign({**login, **who}),
                "access_token": sign({**access, **who}),
                "token_type": "Bearer",
                "expires_in": int(_LIFE),
            }
        )

    def _userinfo(self, request: Request) -> Reply:
        known = self._known(request.headers.get("authorization", "").partition(" ")[2])
        if not known:
            return as_json({"error": "invalid_token"}, 401)
        return as_json({name: known[name] for name in ("sub", "wlcg.groups") if name in known})

    def _introspect(self, request: Request) -> Reply:
        if request.client != CLIENT:
            return as_json({"error": "invalid_client"}, 401)
        known = self._known(request.form.get("token", ""))
        return as_json({"active": True, **known} if known else {"active": False})

    def _known(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of its own."""
        for signer in self.signers:
            try:
                options: Any = {"verify_aud": False}
                public = signer.key.public_key()
                found: dict[str, Any] = jwt.decode(
                    token, public, [signer.algorithm], options=options
                )
            except jwt.PyJWTError:
                continue
            return found
        return None


def _nothing(_request: Request) -> Reply:
    return as_json({"error": "not found"}, 404)


def as_json(value: object, status: int = 200) -> Reply:
    """An answer."""
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


class Server(ThreadingHTTPServer):
    """The issuer on TLS; a client that is slow delays nobody."""

    daemon_threads = True

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        """Listens at once on this machine alone; `issuer` is what it then serves."""
        super().__init__(("127.0.0.1", port), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._context = context
        self.issuer = Issuer(f"https://localhost:{self.server_address[1]}", [])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: TLS first."""
        request.settimeout(30)
        try:
            with self._context.wrap_socket(request, server_side=True) as connection:
                super().finish_request(connection, client_address)
        except OSError:  # the client has gone, or speaks no TLS
            pass

    def begin(self) -> threading.Thread:
        """Serve in a thread."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        return thread


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = min(int(self.headers.get("content-length", "0")), 65536)
        self._answer(dict(parse_qsl(self.rfile.read(length).decode())))

    def _answer(self, form: Mapping[str, str]) -> None:
        issuer, (path, _, query) = self.server.issuer, self.path.partition("?")
        issuer.asked[path] += 1
        answer = issuer.answers.get(path, _nothing)
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, more, body = answer(Request(headers, form, dict(parse_qsl(query))))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nothing: URLs may have secrets in them."""


def signer(path: Path) -> Signer:
    """The key in a file."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return Signer(key)


def main() -> None:
    """Serve on the port of the command line, until the site goes down."""
    grid = Grid(layout())
    files = grid.host_certificate("issuer"), grid.host_key("issuer")
    server = Server(int(sys.argv[1]), *files)
    server.issuer.signers.append(signer(grid.issuer_key))
    server.serve_forever()


if __name__ == "__main__":
    main()
