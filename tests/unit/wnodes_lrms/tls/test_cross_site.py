"""Which requests a browser sends for a page of another site."""

import pytest

from wnodes_lrms.tls import cross_site

HOST = (b"host", b"cloud.example.org:11443")
OWN = (b"origin", b"https://cloud.example.org:11443")


def refused(*headers: tuple[bytes, bytes], method: str = "POST") -> str | None:
    return cross_site.refusal(method, "https", headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "post", "BREW"])
@pytest.mark.parametrize(
    "header",
    [
        (b"origin", b"https://evil.example"),
        (b"origin", b"null"),
        (b"origin", b""),
        (b"origin", b"http://cloud.example.org:11443"),
        (b"origin", b"https://cloud.example.org"),
        (b"origin", b"https://cloud.example.org:11443.evil.example"),
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),
        (b"sec-fetch-site", b"nonsense"),
    ],
)
def test_what_is_refused(header: tuple[bytes, bytes], method: str) -> None:
    said = refused(HOST, header, method=method)
    assert said
    assert said.isprintable()
    for more in (OWN, (b"sec-fetch-site", b"same-origin")):
        assert refused(HOST, header, more, method=method)
        assert refused(HOST, more, header, method=method)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [OWN],
        [(b"origin", b"HTTPS://Cloud.example.org:11443"), (b"sec-fetch-site", b"same-origin")],
        [(b"sec-fetch-site", b"none")],
        [(b"referer", b"https://evil.example/")],
    ],
)
def test_what_is_let_through(headers: list[tuple[bytes, bytes]]) -> None:
    assert refused(HOST, *headers) is None


def test_the_port_of_https_need_not_be_said() -> None:
    for host, origin in ((b"a", b"https://a:443"), (b"a:443", b"https://a"), (b"a", b"https://a")):
        assert refused((b"host", host), (b"origin", origin)) is None
    assert refused((b"origin", b"https://a"))
    assert refused((b"host", b"a"), (b"host", b"b"), (b"origin", b"https://a"))


def test_what_changes_nothing_may_be_asked_from_anywhere() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert refused(HOST, (b"origin", b"https://evil.example"), method=method) is None


def test_a_long_or_strange_origin_is_told_in_one_short_line() -> None:
    said = refused(HOST, (b"origin", b"x\n\xff" * 5000)) or ""
    assert said.isprintable()
    assert len(said) < 250
