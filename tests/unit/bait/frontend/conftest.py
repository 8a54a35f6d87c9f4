"""Certificates for the bait's HTTPS service."""

import subprocess
from pathlib import Path

import pytest


def openssl(*arguments: object, folder: Path) -> None:
    command = ["openssl", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA of its own, and the certificates of a host, a bridge and somebody else."""
    folder = tmp_path_factory.mktemp("pki")
    (folder / "ca").mkdir()
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    to = ("-days", "2", "-keyout")
    openssl(*new, *to, "ca.key", "-out", "ca/ca.pem", "-subj", "/DC=org/O=Box/CN=CA", folder=folder)
    for name in ("host", "bridge", "other"):
        openssl(
            *new,
            *(*to, f"{name}.key", "-out", f"{name}.pem", "-subj", f"/DC=org/O=Box/CN={name}"),
            *("-CA", "ca/ca.pem", "-CAkey", "ca.key"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            folder=folder,
        )
    openssl("rehash", "ca", folder=folder)
    return folder
