"""What is published, as a real directory server with the schema takes it."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wnodes_lrms.cli import app
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.images import catalogue, glue2
from wnodes_lrms.images.catalogue import Image, Part

TAGS = ("small_debian_x86_64", "a.b-c_d_e")
SERVICE = "GLUE2ServiceID=urn:ogf:ComputingService:ce.example,GLUE2GroupID=resource,o=glue"
MANAGER = f"GLUE2ManagerID=ce.example_Manager,{SERVICE}"
NOW = 1764201600.0  # 2025-11-27, midnight
SCHEMAS = Path("/etc/ldap/schema")
SERVER = """\
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/GLUE20.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix o=glue
directory {data}
"""
# What the CE itself publishes above our entries; as little as the schema allows.
ABOVE = f"""\
dn: o=glue
objectClass: organization
o: glue

dn: GLUE2GroupID=resource,o=glue
objectClass: GLUE2Group
GLUE2GroupID: resource

dn: {SERVICE}
objectClass: GLUE2Service
objectClass: GLUE2ComputingService
GLUE2ServiceID: urn:ogf:ComputingService:ce.example
GLUE2ServiceType: org.nordugrid.arex
GLUE2ServiceQualityLevel: production
GLUE2ServiceAdminDomainForeignKey: EXAMPLE

dn: {MANAGER}
objectClass: GLUE2Manager
objectClass: GLUE2ComputingManager
GLUE2ManagerID: ce.example_Manager
GLUE2ManagerProductName: slurm
GLUE2ManagerServiceForeignKey: urn:ogf:ComputingService:ce.example
GLUE2ComputingManagerComputingServiceForeignKey: urn:ogf:ComputingService:ce.example

"""


class Directory:
    """slapd's database with the GLUE 2.0 schema, filled and read without a server."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        self._file = folder / "slapd.conf"
        self._file.write_text(SERVER.format(schemas=SCHEMAS, data=folder / "data"))

    def add(self, ldif: str) -> None:
        """Put entries in; they must fit the schema, and have the entry above them."""
        self._run("slapadd", ldif)

    def find(self, query: str) -> str:
        """The entries that fit, as LDIF."""
        return self._run("slapcat", None, "-a", query)

    def _run(self, tool: str, text: str | None, *options: str) -> str:
        argv = [f"/usr/sbin/{tool}", "-f", str(self._file), *options]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise ValueError(done.stderr)
        return done.stdout


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """One that has what a CE publishes."""
    new = Directory(tmp_path)
    new.add(ABOVE)
    return new


def test_a_directory_takes_the_entries(directory: Directory) -> None:
    directory.add(glue2.ldif(TAGS, MANAGER, NOW))
    own = "GLUE2ApplicationEnvironment"
    for tag in TAGS:
        found = directory.find(
            f"(&(objectClass={own})({own}AppName=ENV/VM/{tag})"
            f"({own}ComputingManagerForeignKey=ce.example_Manager))"
        )
        unfolded = found.replace("\n ", "")
        assert f"dn: {own}ID=ce.example_Manager_ENV/VM/{tag},{MANAGER}\n" in unfolded
        assert f"GLUE2EntityName: {tag}\n" in unfolded
        assert "GLUE2EntityCreationTime: 2025-11-27T00:00:00Z\n" in unfolded
        assert "GLUE2EntityValidity: 3600\n" in unfolded
    assert directory.find(f"({own}AppName=ENV/VM/other_debian_x86_64)") == ""


def test_the_directory_would_say_no(directory: Directory) -> None:
    """The test above can fail: the schema is in force."""
    text = glue2.ldif(TAGS[:1], MANAGER, NOW)
    key = "GLUE2ApplicationEnvironmentComputingManagerForeignKey"
    with pytest.raises(ValueError, match=f"requires attribute '{key}'"):
        directory.add("".join(line for line in text.splitlines(True) if key not in line))
    with pytest.raises(ValueError, match="attribute type undefined"):
        directory.add(text.replace("EnvironmentState", "EnvironmentStatus"))


@pytest.mark.parametrize(
    "parent",
    [
        *("", "o=glue", SERVICE, "GLUE2ManagerID=", "GLUE2ManagerID= a,o=glue"),
        *("GLUE2ManagerID=a\\,b,o=glue", 'GLUE2ManagerID="a",o=glue', "GLUE2ManagerID=a+b=c"),
        *("GLUE2ManagerID=a,o=glue ", "GLUE2ManagerID=a,o=glue\ndn: o=else", "GLUE2ManagerID=é"),
    ],
)
def test_no_manager(parent: str) -> None:
    with pytest.raises(RejectedError, match="is not the DN of a computing manager"):
        glue2.ldif(TAGS, parent, NOW)


def test_the_command_publishes_trusted_images(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    disk = Part(source="/srv/disk", sha256="0" * 64)
    for tag, trusted in zip(TAGS, (True, False), strict=True):
        image = Image(tag=tag, format="raw", disk=disk, context="script", trusted=trusted)
        catalogue.write(folder, image)
    config = tmp_path / "wnodes.toml"
    config.write_text(f'cluster = "c"\nlrms = "slurm"\n[images]\ncatalogue = "{folder}"\n')
    words = ["image", "glue2", "--manager", MANAGER, "--config", str(config)]

    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert said.output.count("dn: ") == 1
    assert "GLUE2ApplicationEnvironmentAppName: ENV/VM/small_debian_x86_64\n" in said.output

    (found,) = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)[
        "ApplicationEnvironment"
    ]
    assert found["ID"] == "ce.example_Manager_ENV/VM/small_debian_x86_64"
    assert found["Associations"] == {"ComputingManagerID": "ce.example_Manager"}
