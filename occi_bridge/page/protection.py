"""What the page tells browsers to refuse, and which requests it refuses itself. Pure."""

from collections.abc import Iterable

from wnodes_lrms.tls import cross_site

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# No page is kept by the browser: after a logout the back button shows none.
_ALWAYS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    # Not no-referrer: with that browsers send the Origin null, also from the page's own forms.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)


def headers(given: Iterable[tuple[str, str]], *, kept: bool) -> list[tuple[bytes, bytes]]:
    """All headers of an answer. kept: browsers may keep it for a day, as it is the same for all."""
    cache = "public, max-age=86400" if kept else "no-store"
    return [
        (name.encode(), value.encode("latin-1"))
        for name, value in (*given, *_ALWAYS, ("cache-control", cache))
    ]


def refusal(method: str, host: str, given: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
    """The status and the sentence for a request that is not answered; `host` is the page's own."""
    found = list(given)
    hosts = [value.decode("latin-1").lower() for name, value in found if name == b"host"]
    if [each.removesuffix(":443") for each in hosts] != [host.removesuffix(":443")]:
        return 421, f"this is https://{host}, and no other"
    if method not in ("GET", "HEAD", "POST"):
        return 405, "only GET and POST can be used here"
    if foreign := cross_site.refusal(method, "https", found):
        return 403, foreign
    said = {name: value.strip().lower() for name, value in found if name.startswith(b"sec-fetch-")}
    foreign_site = said.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none")
    visits = said.get(b"sec-fetch-mode") == b"navigate" and said.get(b"sec-fetch-dest") in (
        b"document",
        None,
    )
    if foreign_site and not visits:
        return 403, "a page of another site may follow a link here, and no more"
    return None
