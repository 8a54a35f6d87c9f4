"""A new VM: the form, the same as text to copy, and the request."""

import itertools
import logging
import uuid
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.user import Capability, User
from occi_bridge.occi import schema, validate_new
from occi_bridge.occi.messages import OcciError
from occi_bridge.page import fields, offers, request_text, templates
from occi_bridge.page.exchange import ANOTHER, Ask, Form, Reply, see
from occi_bridge.page.request_text import Wanted
from occi_bridge.page.vms import common
from occi_bridge.service.service import BridgeService
from occi_bridge.store.ssh_keys import SshKey, SshKeys
from wnodes_lrms.errors import UnknownError

log = logging.getLogger(__name__)

_FIELDS = frozenset({"title", "size", "key", "links", "data"})
_NAME = 40  # characters of a remembered key's


class New:
    """The page of a new VM."""

    def __init__(self, service: BridgeService, keys: SshKeys, occi: str) -> None:
        """`occi` is the OCCI service's own URL, "" if the page has not been told."""
        self._service = service
        self._keys = keys
        self._occi = occi

    async def show(self, ask: Ask) -> Reply:
        """The empty form."""
        user = ask.known.user
        first = replace(await run_in_threadpool(self._first, user), image=ask.asked.one("image"))
        return await run_in_threadpool(self._form, ask, first)

    async def make(self, ask: Ask) -> Reply:
        """Make the VM, or show the request."""
        return await run_in_threadpool(self._make, ask)

    async def again(self, ask: Ask) -> Reply:
        """The form as it was filled in, which nobody has looked at."""
        said = f"{ANOTHER}look at it, and send it once more"
        return await run_in_threadpool(self._form, ask, _wanted(ask.form), status=403, fault=said)

    def _make(self, ask: Ask) -> Reply:
        user, form = ask.known.user, ask.form
        wanted = _wanted(form)
        try:
            remembered = {each.name: each.key for each in self._keys.of(user.key)}
            if form.one("known") and not wanted.key:
                wanted = replace(wanted, key=remembered.get(form.one("known"), ""))
            user.require(Capability.CREATE)
            model = self._service.model(user)
            asked = request_text.body(wanted)
            new = validate_new.create(model, asked)
            if form.one("do") == "show":
                text = request_text.occi(asked, model)
                line = request_text.command(wanted, model, self._occi)
                return self._form(ask, wanted, occi=text, line=line)
            if not (wanted.key or wanted.data):
                raise OcciError(400, f"{schema.PUBLIC_KEY}: without a key nobody could log in")
            if self._there(user, wanted):
                return see(f"/vm/{wanted.id}")
            made = self._service.create(user, new, model)
        except OcciError as fault:
            return self._form(ask, wanted, status=fault.status, fault=fault.message)
        if form.one("key") and form.one("remember"):
            said = " ".join(form.one("key").split()[2:])[:_NAME].strip()
            free = next(
                name
                for name in (f"key {number}" for number in itertools.count(1))
                if name not in remembered
            )
            try:
                self._keys.remember(user.key, SshKey(_printable(said) or free, form.one("key")))
            except UnknownError as error:  # the VM is made all the same
                log.warning("page: a key is not remembered: %s", error)
        return see(f"/vm/{made.id}")

    def _there(self, user: User, wanted: Wanted) -> bool:
        """Whether this very form was sent before: by a second click, or after going back."""
        try:
            self._service.entity(user, f"/compute/{wanted.id}")
        except OcciError:
            return False
        return True

    def _first(self, user: User) -> Wanted:
        model = self._service.model(user)
        sizes = offers.sizes(model, user, self._service.used(user))
        fits = next((size.id for size in sizes if not size.why_not), "")
        return Wanted(id=str(uuid.uuid4()), size=fits)

    def _form(
        self,
        ask: Ask,
        wanted: Wanted,
        *,
        status: int = 200,
        fault: str = "",
        occi: str = "",
        line: str = "",
    ) -> Reply:
        user = ask.known.user
        model = self._service.model(user)
        used = self._service.used(user)
        entities = self._service.entities(user, None)
        page = templates.page(
            "new",
            wanted=wanted,
            known=ask.form.one("known") if ask.content else "",
            images=offers.images(model),
            sizes=offers.sizes(model, user, used, self._service.rooms(user)),
            networks=offers.networks(entities),
            volumes=offers.free_volumes(entities),
            keys=self._keys.of(user.key),
            hours=user.grant.walltime / 3600,
            fault=fault,
            field=fields.about(fault, _FIELDS),
            occi=occi,
            line=line,
            **common(ask),
        )
        return replace(page, status=status)


def _wanted(form: Form) -> Wanted:
    return Wanted(
        id=form.one("id"),
        title=form.one("title"),
        image=form.one("image"),
        size=form.one("size"),
        key=form.one("key"),
        data=form.text("data") if form.one("data") else "",
        networks=form.all("network"),
        volumes=form.all("volume"),
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
