"""A page in one process, with a database and an issuer of its own, and a browser without scripts.

Test modules take the fixtures by `from tests.unit.occi_bridge.page import browser` and
`site = browser.site`, or `browser.site_of_two_nodes`; they need those of tests/unit/ca.py,
issuers.py and bridgefixtures.py, too.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from starlette.types import ASGIApp

from occi_bridge.consoles import Consoles
from occi_bridge.identity import authenticator as identity
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.identity.user import Identity, Kind, User
from occi_bridge.occi.messages import Entity
from occi_bridge.page import cookies
from occi_bridge.page.parts import assemble
from occi_bridge.page.terminal import Limits
from occi_bridge.store.database import Database
from occi_bridge.store.links import Links
from occi_bridge.store.sessions import Session, Sessions
from occi_bridge.web.app import application
from tests.unit.ca import VO, Grid
from tests.unit.issuers import LocalIssuer
from tests.unit.occi_bridge.fake_baits import FakeBait
from tests.unit.occi_bridge.local_bridge import LocalBridge
from wnodes_lrms.config.load import Grant, Page

HOST = "localhost:11444"
URL = f"https://{HOST}"
SERVICE = "https://bridge.example.org:11443"
CLIENT = ("box", "box-secret")
_PLACES = frozenset({"a", "button", "input", "select", "summary", "textarea"})
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEw6TXZG7jzGzOWLpz1oxUQTr2BzGUzKo9WvHFrxoFkT ada@laptop"


@dataclass
class Read(HTMLParser):
    """What a page has: its forms with their fields, its links, its text, and what may not be.

    `places` has the id ("" for none) of each element that the keyboard can get to, `invalid` the
    fields that a fault is about, and `says` what a screen reader is told of when it changes.
    """

    html: str
    forms: list[dict[str, object]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    says: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._option: str | None = None
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        named = {name for name, _ in attrs}
        self.inline += [f"{tag} {name}" for name in has if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in has):
            self.inline.append(tag)
        self.ids += [has["id"]] if "id" in has else []
        if (tag in _PLACES and has.get("type") != "hidden") or "tabindex" in has:
            self.places.append((tag, has.get("id", "")))
        if has.get("aria-invalid") == "true":
            self.invalid.append(has["name"])
        if "data-says" in has:
            self.says[has["id"]] = has["data-says"]
        if tag == "a":
            self.links.append(has["href"])
        if tag == "form":
            self.forms.append({"action": has["action"], "fields": []})
        if not self.forms:
            return
        fields = self.forms[-1]["fields"]
        assert isinstance(fields, list)
        chosen = has.get("type") not in ("radio", "checkbox") or "checked" in named
        if tag in ("input", "textarea") and chosen and has.get("name"):
            fields.append((has["name"], has.get("value", "")))
        if tag == "select":
            self._option = has["name"]
        if tag == "option" and self._option and "selected" in named:
            fields.append((self._option, has["value"]))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All of its words."""
        return " ".join(" ".join(self.words).split())

    def form(self, action: str) -> dict[str, str]:
        """The fields of the form that goes there, as they are at first."""
        for each in self.forms:
            if each["action"] == action:
                return dict(each["fields"])  # type: ignore[call-overload, no-any-return]
        raise AssertionError(f"no form for {action}: {[each['action'] for each in self.forms]}")


class Browser:
    """Keeps cookies, follows no redirect by itself, and sends what browsers do."""

    def __init__(self, app: ASGIApp) -> None:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
        self.http = httpx.AsyncClient(transport=transport, base_url=URL)

    def cookie(self, name: str = cookies.SESSION) -> str | None:
        """A cookie's value."""
        return self.http.cookies.get(name)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """By GET."""
        return await self.http.get(path, headers=headers)

    async def post(
        self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A form; the headers are those of the page's own, unless others are given."""
        own = {"Origin": URL, "Sec-Fetch-Site": "same-origin"}
        sent = {"Content-Type": "application/x-www-form-urlencoded", **own, **(headers or {})}
        content = urlencode(fields).encode()
        return await self.http.post(
            path, content=content, headers={name: value for name, value in sent.items() if value}
        )

    async def read(self, path: str, status: int = 200) -> Read:
        """A page that is there."""
        answer = await self.get(path)
        assert answer.status_code == status, (answer.status_code, Read(answer.text).text)
        return Read(answer.text)

    async def send(self, page: str, action: str, **fields: str) -> httpx.Response:
        """Fill in a form of a page, and send it."""
        given = (await self.read(page)).form(action)
        return await self.post(action, {**given, **fields})


@dataclass
class Site:
    """The page and what is behind it."""

    bridge: LocalBridge
    issuer: LocalIssuer
    grid: Grid
    authenticator: Authenticator
    app: ASGIApp
    occi: ASGIApp  # the service, with the page's route

    @property
    def sessions(self) -> Sessions:
        """Those of another worker."""
        return Sessions(self.bridge.db)

    def browser(self, name: str = "", groups: tuple[str, ...] = (f"/{VO}",)) -> Browser:
        """A browser; of somebody of this name who has logged in at the issuer, if one is given."""
        browser = Browser(self.app)
        if name:
            session = Session(f"{self.issuer.url}#{name}", time.time(), groups=groups)
            browser.http.cookies.set(cookies.SESSION, self.sessions.open(session, None))
        return browser

    async def user(self, name: str) -> User:
        """Somebody who has logged in at the issuer, as the service knows them."""
        known = Identity(Kind.TOKEN, f"{self.issuer.url}#{name}", (f"/{VO}",))
        return await self.authenticator.known(known, "192.0.2.7")

    async def vm(self, name: str = "grace", **attributes: Any) -> Entity:
        """A VM of somebody's."""
        return self.bridge.create(await self.user(name), **attributes)


@pytest.fixture
async def site(
    grid: Grid,
    issuer: LocalIssuer,
    make_bridge: Callable[..., LocalBridge],
    file_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    """The page of one bridge, whose users come from the issuer or with certificates."""
    monkeypatch.setattr(identity, "_LOOK", 0.0)
    async with made(grid, issuer, make_bridge(file_url)) as site:
        yield site


@pytest.fixture
async def site_of_two_nodes(
    grid: Grid,
    issuer: LocalIssuer,
    make_bridge: Callable[..., LocalBridge],
    file_url: str,
    baits: list[FakeBait],
) -> AsyncIterator[Site]:
    """A page whose bridge has two nodes; of its users, ada sees the whole site."""
    grants = (Grant(match=f"{issuer.url}#ada", site=True), Grant(match="*"))
    async with made(grid, issuer, make_bridge(file_url, *baits), grant=grants) as site:
        yield site


@contextlib.asynccontextmanager
async def made(
    grid: Grid,
    issuer: LocalIssuer,
    bridge: LocalBridge,
    limits: Limits | None = None,
    **changes: object,
) -> AsyncIterator[Site]:
    """The page of a bridge; `changes` are to its configuration."""
    secret = Path(grid.folder, "secret")
    secret.write_text(CLIENT[1])
    (grid.folder / "voms-mapfile").write_text(f'"/{VO}" member\n')
    settings = issuer.bridge(login="Box", client_id=CLIENT[0], client_secret=str(secret))
    settings = settings.model_copy(update=changes)
    db: Database = bridge.db
    authenticator = Authenticator(settings, Links(db))
    page = Page(url=URL, certificate_login=SERVICE)
    consoles = Consoles(settings.model_copy(update={"baits": tuple(bridge.urls)}))
    app, routes = assemble(
        page,
        settings.ca_dir,
        bridge.service,
        authenticator,
        db,
        consoles.read,
        consoles.opened,
        limits or Limits(),
    )
    occi = application(bridge.service, authenticator, routes)
    bridge.heard()
    yield Site(bridge, issuer, grid, authenticator, app, occi)
    await authenticator.close()
