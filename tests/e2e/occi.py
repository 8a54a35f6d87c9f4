"""A cloud user: an OCCI client with a certificate or a proxy, and their VMs."""

import base64
import os
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.patience import BUSY, deadline
from wnodes_lrms.tls.client import trusting

URL = os.environ.get("WNODES_URL", "")
CA_DIR = os.environ.get("X509_CERT_DIR", "")
USERS = Path(os.environ.get("WNODES_SITE", "")) / "users"

_NO_LOGIN = (124, 255)  # timeout's exit code, for a guest that has just gone, and ssh's own

INFRA = "http://schemas.ogf.org/occi/infrastructure"
OWN = "http://wnodes-lrms.invalid/occi/"
KEY_MIXIN = f"{INFRA}/credentials#ssh_key"
DATA_MIXIN = f"{INFRA}/compute#user_data"
SMALL_IMAGE, BARE_IMAGE = (f"{OWN}os_tpl#{tag}_debian_x86_64" for tag in ("small", "bare"))
JSON = "application/occi+json"


def size(name: str) -> str:
    """The mixin of a size."""
    return f"{OWN}resource_tpl#{name}"


def context(certificate: Path | None, key: Path | None = None) -> ssl.SSLContext:
    """TLS with the site's CA, and with a credential: two files, or a proxy in one."""
    made = trusting(CA_DIR)
    if certificate:
        made.load_cert_chain(certificate, key)
    return made


class Cloud:
    """The service as one user sees it."""

    def __init__(self, certificate: Path | None, key: Path | None = None) -> None:
        self.http = httpx.Client(
            base_url=URL, verify=context(certificate, key), timeout=30, trust_env=False
        )

    def ask(self, method: str, path: str, document: Any = None, **options: Any) -> httpx.Response:
        """Any request; the answer, whatever its status."""
        headers = {"Accept": JSON} | options.pop("headers", {})
        if document is not None:
            options["json"] = document
            headers["Content-Type"] = JSON
        return self.http.request(method, path, headers=headers, **options)

    def get(self, path: str) -> Any:
        """What is there."""
        return _good(self.ask("GET", path)).json()

    def locations(self, path: str) -> list[str]:
        """The paths of a collection's members."""
        answer = _good(self.ask("GET", path, headers={"Accept": "text/uri-list"}))
        return [httpx.URL(line).path for line in answer.text.split()]

    def create(self, kind: str, document: Mapping[str, Any]) -> str:
        """Make an entity of a kind; its path."""
        answer = self.ask("POST", f"/{kind}/", {"kind": f"{INFRA}#{kind}", **document})
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        return httpx.URL(answer.headers["Location"]).path

    def act(self, path: str, action: str, **attributes: object) -> None:
        """Carry out an action."""
        kind = path.split("/")[1]
        document = {"action": f"{INFRA}/{kind}/action#{action}", "attributes": attributes}
        _good(self.ask("POST", f"{path}?action={action}", document))

    def delete(self, path: str) -> None:
        """Delete it, and see that it is gone for its owner."""
        _good(self.ask("DELETE", path))
        assert self.ask("GET", path).status_code == 404

    def machine(
        self,
        image: str = SMALL_IMAGE,
        template: str = "small",
        *,
        key: "Key | None" = None,
        data: bytes = b"",
        links: Sequence[Mapping[str, Any]] = (),
        **attributes: object,
    ) -> "Machine":
        """Ask for a machine; it need not run yet."""
        given = {
            "occi.credentials.ssh.publickey": key and key.public,
            "occi.compute.userdata": base64.b64encode(data).decode(),
        } | attributes
        mixins = [image, size(template)]
        mixins += [KEY_MIXIN] if key else []
        mixins += [DATA_MIXIN] if data else []
        path = self.create(
            "compute",
            {
                "mixins": mixins,
                "attributes": {name: value for name, value in given.items() if value},
                "links": list(links),
            },
        )
        return Machine(self, path, key)

    def delete_all(self) -> None:
        """Delete all that is theirs."""
        for kind in ("compute", "storage", "network"):
            for path in self.locations(f"/{kind}/"):
                if self.ask("DELETE", path).status_code == 409:  # a link to it is just going
                    time.sleep(2)
                    self.ask("DELETE", path)


def _good(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    return answer


@dataclass(frozen=True)
class Key:
    """An SSH key of a user's own."""

    path: Path

    @property
    def public(self) -> str:
        """The half that goes into machines."""
        return self.path.with_suffix(".pub").read_text().strip()

    @classmethod
    def make(cls, folder: Path) -> "Key":
        """A new one."""
        path = folder / "id_ed25519"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        return cls(path)


@dataclass(frozen=True)
class Machine:
    """A VM of theirs."""

    cloud: Cloud
    path: str
    key: Key | None = None

    @property
    def id(self) -> str:
        """Its id."""
        return self.path.rpartition("/")[2]

    def show(self) -> dict[str, Any]:
        """Its attributes."""
        attributes: dict[str, Any] = self.cloud.get(self.path)["attributes"]
        return attributes

    @property
    def state(self) -> str:
        """OCCI's word for its state."""
        return str(self.show()["occi.compute.state"])

    @property
    def message(self) -> str:
        """What the service says of its state."""
        return str(self.show().get("occi.compute.state.message", ""))

    def wait(self, state: str, seconds: float = 60, saying: str = "") -> "Machine":
        """Wait until it is in a state, for a reason that has these words in it."""
        end = deadline(seconds)
        while not (self.state == state and saying in self.message):
            assert time.monotonic() < end, (
                f"not {state} {saying!r} within {BUSY * seconds} s: {self.show()}"
            )
            time.sleep(0.2)
        return self

    def address(self, number: int = 0) -> str:
        """The address of one of its network cards."""
        links = self.cloud.get(self.path)["links"]
        cards = [link for link in links if link["kind"].endswith("#networkinterface")]
        return str(cards[number]["attributes"]["occi.networkinterface.address"]).partition("/")[0]

    def act(self, action: str, **attributes: object) -> None:
        """Carry out an action."""
        self.cloud.act(self.path, action, **attributes)

    def delete(self) -> None:
        """Delete it."""
        self.cloud.delete(self.path)

    def try_ssh(
        self, command: str, *options: str, address: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A command in the machine, as root, with the user's own key and nothing else."""
        assert self.key
        known = self.key.path.with_name(f"known_hosts-{self.id}")
        settings = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "2",
            "UserKnownHostsFile": str(known),
            "StrictHostKeyChecking": "accept-new",
            "LogLevel": "ERROR",
        }
        argv = ["timeout", "60", "ssh", *options, "-F", "none", "-i", str(self.key.path)]
        argv += [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        argv += [f"root@{address or self.address()}", command]
        return subprocess.run(
            argv,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def ssh(self, command: str, seconds: float = 40) -> str:
        """The output of a command, once the machine takes logins."""
        end = deadline(seconds)
        while (done := self.try_ssh(command)).returncode in _NO_LOGIN:
            assert time.monotonic() < end, f"no login within {BUSY * seconds} s: {done.stderr}"
            time.sleep(0.3)
        assert done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
        return done.stdout

    def boot_id(self) -> str:
        """What is another one after each boot."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id").strip()


def interface(network: str, **attributes: object) -> dict[str, object]:
    """A card on a network, as part of a request for a machine."""
    kind = f"{INFRA}#networkinterface"
    target = {"location": network, "kind": f"{INFRA}#network"}
    return {"kind": kind, "target": target, "attributes": attributes}


def disk(volume: str) -> dict[str, object]:
    """A link to a volume, as part of a request for a machine."""
    target = {"location": volume, "kind": f"{INFRA}#storage"}
    return {"kind": f"{INFRA}#storagelink", "target": target}


def public(cloud: Cloud) -> str:
    """The path of the network that machines get unless they ask for others."""
    found = cloud.get("/network/")["resources"]
    return next(
        f"/network/{net['id']}" for net in found if net.get("title", "").find("way out") > 0
    )
