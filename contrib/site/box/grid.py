"""Where the grid's files are on the site: certificates, keys, maps, and users' credentials."""

from dataclasses import dataclass
from pathlib import Path

from .layout import NODES, Layout

BASE = "/C=IT/O=Box"  # all names of the site's CA are below it
SUBJECTS = f"{BASE}/*"
VO, VOMS_HOST = "testvo", "voms.example"
CE = "ce"
PASSWORD = "box"  # noqa: S105 (of the files for browsers)
HOSTS = ("bridge", "issuer", CE, *NODES)


def host_name(host: str) -> str:
    """The DN of a host of the site."""
    return f"{BASE}/OU=Hosts/CN={host}"


def user_name(user: str) -> str:
    """The DN of one of its users."""
    return f"{BASE}/OU=People/CN={user.title()}"


@dataclass(frozen=True)
class Grid:
    """The folders and files of grid security, as a site has them, and those of its users."""

    site: Layout

    @property
    def root(self) -> Path:
        """What a site has in /etc/grid-security."""
        return self.site.etc / "grid-security"

    @property
    def certificates(self) -> Path:
        """The trusted CA: certificate, CRL, signing policy."""
        return self.root / "certificates"

    @property
    def vomsdir(self) -> Path:
        """The trusted VOMS servers."""
        return self.root / "vomsdir"

    @property
    def pool(self) -> Path:
        """Who has which account of a pool."""
        return self.root / "gridmapdir"

    @property
    def grid_mapfile(self) -> Path:
        """Name to account."""
        return self.root / "grid-mapfile"

    @property
    def voms_mapfile(self) -> Path:
        """Attribute to account."""
        return self.root / "voms-mapfile"

    @property
    def ban_file(self) -> Path:
        """Who is refused."""
        return self.root / "ban_users.db"

    @property
    def ca(self) -> Path:
        """The CA itself: on a real site it is elsewhere."""
        return self.site.etc / "ca"

    @property
    def voms_certificate(self) -> Path:
        """The VOMS server's certificate; its host is no part of the site, only its key is."""
        return self.site.etc / "voms" / "hostcert.pem"

    @property
    def voms_key(self) -> Path:
        """The key that signs attributes."""
        return self.site.etc / "voms" / "hostkey.pem"

    @property
    def order_key(self) -> Path:
        """The bridge's key for orders."""
        return self.site.etc / "order.key"

    @property
    def order_public(self) -> Path:
        """Its public half, for the baits."""
        return self.site.etc / "order.pub"

    @property
    def issuer_key(self) -> Path:
        """The key that signs tokens."""
        return self.site.etc / "issuer.key"

    @property
    def issuer_secret(self) -> Path:
        """The bridge's secret as a client of the issuer's."""
        return self.site.etc / "issuer.secret"

    def token(self, name: str) -> Path:
        """A user's token."""
        return self.user(name) / "token"

    def host_certificate(self, name: str) -> Path:
        """The certificate of the bridge, or of a node."""
        return self.root / name / "hostcert.pem"

    def host_key(self, name: str) -> Path:
        """Its key."""
        return self.root / name / "hostkey.pem"

    def user(self, name: str) -> Path:
        """What users have on their own computers: usercert.pem, userkey.pem, proxies."""
        return self.site.root / "users" / name

    def pkcs12(self, name: str) -> Path:
        """Certificate and key of a user for a browser, under the password PASSWORD."""
        return self.user(name) / "usercred.p12"

    def proxy(self, name: str) -> Path:
        """A user's proxy, without a VO."""
        return self.user(name) / "proxy.pem"

    def voms_proxy(self, name: str) -> Path:
        """A user's proxy with the VO's attributes."""
        return self.user(name) / "vomsproxy.pem"
