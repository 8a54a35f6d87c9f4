"""Whom a client believes."""

import ssl
from pathlib import Path

import pytest

from wnodes_lrms.tls.client import trusting


def test_no_ca_is_refused_for_its_form_where_python_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 makes
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: made)
    context = trusting(str(tmp_path))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
