"""`[bridge.page]`: the page in the browser, for cloud users."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from wnodes_lrms.config.values import PathText, Section

_ORIGIN = r"^https://[a-z0-9.-]+(:[1-9][0-9]{0,4})?$"

Origin = Annotated[str, StringConstraints(pattern=_ORIGIN)]


class Page(Section):
    """The page in the browser. Where there is no such table, there is no page."""

    url: Origin = Field(
        description="what users type: host and port in lower case, nothing behind them. Issuers"
        " send users back to it, and requests to another host are refused"
    )
    listen: str = Field(
        "0.0.0.0:11444",
        pattern=r"^\S+:[0-9]{1,5}$",
        description="address and port; a port of its own, on which no browser is asked for a"
        " certificate",
    )
    certificate_login: Origin | None = Field(
        None,
        description="the OCCI service as browsers reach it, such as"
        " `https://bridge.example.org:11443`: who wants to log in by certificate is sent there, and"
        " asked for it. Without it nobody logs in by certificate",
    )
    certificate: PathText | None = Field(
        None,
        description="its host certificate, from a CA that browsers know; without it that of"
        " `[bridge]`",
    )
    key: PathText | None = Field(None, description="that certificate's private key")

    @model_validator(mode="after")
    def _pair(self) -> "Page":
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate, key: both are needed, or neither")
        if self.certificate_login == self.url:
            raise ValueError("certificate_login: is another port than the page's own (url)")
        return self
