"""A client's TLS: whom it believes."""

import ssl


def trusting(ca_dir: str | None) -> ssl.SSLContext:
    """A context that believes whom curl does: a folder of CAs in OpenSSL's layout, or the system's.

    From 3.13 on Python refuses by itself CAs that follow RFC 5280 not to the letter, such as those
    without the extension keyUsage, which grids have.
    """
    context = ssl.create_default_context(capath=ca_dir)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
