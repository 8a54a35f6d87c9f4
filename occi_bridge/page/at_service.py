"""Logging into the page by certificate: the part that is at the OCCI service, which asks for one.

Who is known there is sent back to the page, with a code that is good once, for a minute, and only
in the browser that began.
"""

import html
import re
import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.identity.user import DeniedError
from occi_bridge.page import protection
from occi_bridge.page.login import AT_SERVICE, CERTIFICATE, back
from occi_bridge.store.sessions import Session, Sessions
from wnodes_lrms.config.load import Page
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.tls.http_protocol import CHAIN

_STATE = re.compile(r"[A-Za-z0-9_-]{43}")


def route(page: Page, authenticator: Authenticator, sessions: Sessions) -> Route:
    """The route, for the OCCI service."""

    async def answer(request: Request) -> Response:
        state = request.query_params.get("state", "")
        if not _STATE.fullmatch(state):
            return _said(page, 400, "Logging in begins on the page.")
        chain = request.scope.get("extensions", {}).get(CHAIN, ())
        address = request.client.host if request.client else ""
        try:
            user = await authenticator.user(chain, address)
            session = Session(user.subject, time.time(), chain)
            code = await run_in_threadpool(sessions.ticket, session, state)
        except DeniedError as error:
            hint = " Your browser has shown none." if not chain else ""
            return _said(page, error.status, f"{error.reason}.{hint}")
        except UnknownError as error:
            return _said(page, 503, error.told or str(error))
        place = f"{page.url}{back(CERTIFICATE)}?code={code}&state={state}"
        return _protected(RedirectResponse(place, 303))

    return Route(AT_SERVICE, answer, methods=["GET"])


def _said(page: Page, status: int, said: str) -> Response:
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Not logged in</title>'
        f"<h1>You are not logged in</h1><p>{html.escape(said)}</p>"
        f'<p><a href="{html.escape(page.url)}/login">Back to the page</a></p></html>'
    )
    return _protected(HTMLResponse(text, status))


def _protected(response: Response) -> Response:
    response.raw_headers += protection.headers((), kept=False)
    return response
