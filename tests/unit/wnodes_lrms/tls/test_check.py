"""What the doctor says of a service's own files."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from occi_bridge.checks import checks
from tests.unit import ca
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.doctor import Status

grid = ca.grid


@pytest.fixture
def bridge(grid: ca.Grid) -> Bridge:
    path = grid.folder / "order.key"
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    database = f"sqlite:///{grid.folder}/bridge.sqlite"
    return grid.bridge.model_copy(update={"order_key": str(path), "database": database})


@pytest.mark.parametrize(
    ("name", "key"), [("bridge certificate", "key"), ("order key", "order_key")]
)
def test_a_key_that_everybody_may_read_is_not_as_it_should_be(
    bridge: Bridge, name: str, key: str
) -> None:
    path = Path(getattr(bridge, key))
    for mode, status in ((0o600, Status.OK), (0o640, Status.OK), (0o644, Status.FAULT)):
        path.chmod(mode)
        (check,) = (check for check in checks(bridge) if check.name == name)
        assert check.status is status
    assert check.seen == f"{path}: every user of this host may read it (mode 0644)"
    assert check.remedy.startswith(f"chmod o= {path}")


def test_a_database_that_is_not_there_yet_is_left_to_the_bridge(bridge: Bridge) -> None:
    (check,) = (check for check in checks(bridge) if check.name == "database")
    file = Path(bridge.database.removeprefix("sqlite:///"))
    assert (check.status, file.exists()) == (Status.OK, False)
    assert check.seen == f"{file} is not there yet: the bridge's first start makes it"
