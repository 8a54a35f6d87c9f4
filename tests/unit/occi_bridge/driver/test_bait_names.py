"""A bait is that of the node which its certificate names."""

from typing import Any

import pytest

from occi_bridge.driver.bait_names import fits, of_hosts


def certificate(common: str, *hosts: str) -> dict[str, Any]:
    """As ssl tells of one."""
    subject = ((("countryName", "IT"),), (("commonName", common),))
    return {"subject": subject, "subjectAltName": tuple(("DNS", host) for host in hosts)}


@pytest.mark.parametrize(
    ("node", "common", "hosts", "good"),
    [
        ("hv1", "hv1.example.org", (), True),
        ("hv1.example.org", "hv1.example.org", (), True),
        ("HV1", "hv1.example.org", (), True),
        ("hv1", "host/hv1.example.org", (), True),
        ("hv1", "hv1-admin.example.org", ("HV1.example.org",), True),
        ("hv1", "hv11.example.org", (), False),
        ("hv1", "x.hv1.example.org", (), False),
        ("hv1", "*.example.org", ("*.example.org",), False),
        ("hv2", "hv1.example.org", ("localhost",), False),
        ("", "hv1.example.org", (), False),
    ],
)
def test_a_bait_is_that_of_a_node_in_its_certificate(
    node: str, common: str, hosts: tuple[str, ...], good: bool
) -> None:
    assert fits(node, of_hosts(certificate(common, *hosts))) is good


def test_a_certificate_without_names_is_nobodys() -> None:
    assert of_hosts({}) == []
